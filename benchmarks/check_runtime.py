"""Check that a server of an older TensorFlow answers exports as the pipeline in Python does.

    pip install --no-deps --target OTHER tensorflow==2.20.0 tensorflow-text==2.20.1
    python benchmarks/check_runtime.py --other OTHER --text-version 2.20.1

One tiny model of each kind is exported. Its golden records, the pipeline's answers, are asked of
the C library of the TensorFlow that is installed and of the one in OTHER, each in a process of its
own without TensorFlow for Python; OTHER is never imported. A record that was changed has to be
refused by both, or the check would say nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _harness as harness

LIMIT = 1e-5
CHANGED = "one text"  # the kind whose records are also changed


def main() -> int:
    """Export, ask both runtimes, record."""
    sys.path[:0] = [str(harness.ROOT), str(harness.ROOT / "tests")]
    from small_pipelines import KINDS, pipeline

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--other", type=Path, required=True, help="a folder of site-packages")
    parser.add_argument("--text-version", required=True, help="of tensorflow-text in OTHER")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = {}
        for number, kind in enumerate(args.kinds):
            places[kind] = pipeline(**KINDS[kind]).export(Path(folder) / f"model-{number}")
            print(f"exported: {kind}", flush=True)
        changed = pipeline(**KINDS[CHANGED]).export(Path(folder) / "changed")
        change(Path(changed) / "assets.extra" / "golden.json")
        asked = [*places.values(), changed]
        found = {"installed": ask(asked), "other": ask(asked, args.other)}
    return harness.finish(record(args.kinds, found, args.text_version))


def change(path: Path) -> None:
    """Make one number of the first record another one."""
    records = json.loads(path.read_text(encoding="utf-8"))
    records[0]["outputs"]["probabilities"][0][0] += 0.01
    path.write_text(json.dumps(records), encoding="utf-8")


def ask(places: list[str], other: Path | None = None) -> list[dict[str, Any]]:
    """What a runtime says of each export: see `kerasft.export.check_golden`."""
    command = [sys.executable, "-m", "kerasft.export.check_golden"]
    if other is not None:
        text_ops = other / "tensorflow_text" / "python" / "ops"
        command += ["--library", str(other / "tensorflow"), "--text-ops", str(text_ops)]
    done = subprocess.run([*command, *places], stdout=subprocess.PIPE, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if len(lines) != len(places):
        raise SystemExit(f"The process ended with code {done.returncode} before it was done.")
    return lines


def record(kinds: list[str], found: dict[str, list[dict[str, Any]]], text: str) -> Path:
    """The run file: a bound for each kind and runtime, and one for the changed record."""
    refused = [name for name, (*_, last) in found.items() if "error" in last]
    bounds = [
        harness.Bound(f"{kind}, {name}", line.get("difference", float("inf")), "<=", LIMIT)
        for number, kind in enumerate(kinds)
        for name, line in ((name, lines[number]) for name, lines in found.items())
    ]
    bounds.append(harness.Bound("runtimes that refuse a changed record", len(refused), ">=", 2))
    values = {
        f"TensorFlow of the runtime, {name}": lines[0].get("runtime", "none")
        for name, lines in found.items()
    }
    values["records"] = sum(line.get("checked", 0) for line in found["installed"])
    errors = {
        f"{kind}, {name}": lines[number]["error"]
        for number, kind in enumerate(kinds)
        for name, lines in found.items()
        if "error" in lines[number]
    }
    return harness.record(
        "check-runtime",
        "Exports of tiny models, one of each kind, asked their golden records (the pipeline's "
        "answers in Python) in the C library of the TensorFlow that is installed and in that of "
        "another one: largest difference of a number, relative where they exceed 1; strings, whole "
        "numbers and shapes have to be equal. A difference of infinity is an answer that is wrong "
        "or none.",
        values=values,
        bounds=bounds,
        raw={"errors": errors} if errors else {},
        packages={"tensorflow-text (other)": text},
    )


if __name__ == "__main__":
    sys.exit(main())
