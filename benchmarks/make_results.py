"""Write benchmarks/RESULTS.md from the files in benchmarks/runs.

    python benchmarks/make_results.py [--check]

The newest run of each name is shown in full, older ones in a line. The same files give the same
text; `--check` writes nothing and ends with 1 if the page differs.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HEAD = """# Results

Written by `python benchmarks/make_results.py` from the files in `benchmarks/runs`; not edited by
hand. Models and data are named by their folder. A `+` behind a commit means that the code held
changes that were not committed.
"""

# What a reader has to know about a run that its script did not know yet: file -> sentence.
REMARKS = {
    "vs-trainer-reviews-zh-zh-en-e5-2000-rows-20261123-005333.json": "Not an equal comparison: the "
    "Trainer grouped by length itself, so its batches came in another order, and with seed 1 it "
    "learned nothing. The script hands it kerasft's batches since.",
    "many-adapters-20261130-134609.json": "The cores had other work too; the ratios are of "
    "calls in turns.",
    "generate-smollm2-20261130-081231.json": "The cores had other work too, so its speeds say "
    "little; the tokens do not depend on that.",
}


def read_runs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The runs of each name, newest first."""
    runs: dict[str, list] = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stem[-15:], reverse=True):
        run = json.loads(path.read_text(encoding="utf-8"))
        remark = f" {REMARKS[path.name]}" if path.name in REMARKS else ""
        more = {"file": path.name, "what": run["what"] + remark}
        runs.setdefault(run["name"], []).append(run | more)
    return dict(sorted(runs.items()))


def number(value: Any) -> str:
    """A number in four digits, a list of them in a row, anything else as text."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(number(item) for item in value)
    return str(value)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bounds_line(run: dict[str, Any]) -> str:
    """`3 of 3 bounds met`, or a dash."""
    bounds = run["bounds"]
    met = sum(bound["met"] for bound in bounds)
    return f"{met} of {len(bounds)} bounds met" if bounds else "no bound"


def full(run: dict[str, Any]) -> str:
    """The section of a newest run."""
    stack = ", ".join(f"{name} {version}" for name, version in run["packages"].items())
    seeds = f" Seeds {number(run['seeds'])}." if run["seeds"] else ""
    where = f"{run['time']}, commit {run['commit']}, Python {run['python']} on {run['system']}"
    parts = [f"## {run['name']}\n\n{run['what']}\n\n    {run['command']}"]
    parts.append(f"{where}, {run['cores']} cores.{seeds} {stack}. File `{run['file']}`.")
    if run["bounds"]:
        rows = [
            [b["name"], number(b["value"]), f"{b['relation']} {number(b['limit'])}"]
            + ["met" if b["met"] else "**missed**"]
            for b in run["bounds"]
        ]
        parts.append(table(["bound", "value", "limit", ""], rows))
    bounded = {bound["name"] for bound in run["bounds"]}
    rows = [[k, number(value)] for k, value in run["values"].items() if k not in bounded]
    parts += [table(["value", ""], rows)] if rows else []
    raw = [[key, number(value)] for key, value in run["raw"].items()]
    parts += [table(["raw", ""], raw)] if raw else []
    return "\n\n".join(parts)


def short(run: dict[str, Any]) -> str:
    """The line of an older run."""
    values = "; ".join(f"{key} {number(value)}" for key, value in run["values"].items())
    return f"- {run['time']}, commit {run['commit']}, {bounds_line(run)}: {values}"


def render(folder: Path) -> str:
    """The whole page."""
    runs = read_runs(folder)
    rows = [[n, rs[0]["time"], bounds_line(rs[0]), rs[0]["what"]] for n, rs in runs.items()]
    parts = [HEAD.rstrip("\n")]
    parts += [table(["name", "newest run", "", "what"], rows)] if rows else ["No run yet."]
    for newest, *older in runs.values():
        parts.append(full(newest))
        if older:
            parts.append("Older runs:\n" + "\n".join(short(run) for run in older))
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Write the page, or with --check only compare it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    args = parser.parse_args()
    page, text = HERE / "RESULTS.md", render(HERE / "runs")
    if not args.check:
        page.write_text(text, encoding="utf-8")
        return 0
    same = page.exists() and page.read_text(encoding="utf-8") == text
    print("RESULTS.md is up to date" if same else "RESULTS.md differs from the runs")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
