"""What every benchmark shares: timing, bounds, and the file that a run leaves in benchmarks/runs.

A run file holds no machine name and no absolute path: models and data are named by their folder.
`python benchmarks/make_results.py` turns the run files into benchmarks/RESULTS.md.
"""

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RUNS = HERE / "runs"
PACKAGES = ("kerasft", "tensorflow", "tensorflow-text", "keras", "keras-hub", "numpy")
ABSOLUTE = re.compile(r"(?:[A-Za-z]:\\|(?<![\w.:/~-])/)(?:[\w.@+-]+[/\\])*[\w.@+-]+")


@dataclass(frozen=True)
class Bound:
    """A number and what it has to be: `relation` is "<=" or ">="."""

    name: str
    value: float
    relation: str
    limit: float

    @property
    def met(self) -> bool:
        """Whether the value keeps the limit; NaN never does."""
        if self.relation == "<=":
            return self.value <= self.limit
        return self.value >= self.limit


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What `call` returns, and its wall time in seconds."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def in_turns(rounds: Sequence[int], **calls: Callable[[int], Any]) -> dict[str, list]:
    """Call A B A B ..., once a round each, so that a slow minute of the machine meets both.

    Returns: for each name the results in order; each call gets the round, such as its seed.
    """
    results: dict[str, list] = {name: [] for name in calls}
    for number in rounds:
        for name, call in calls.items():
            results[name].append(call(number))
    return results


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Installed versions, without importing anything; absent packages are left out."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The short hash of HEAD, with a "+" where tracked code differs from it."""
    git = ["git", "-C", str(ROOT)]
    ask = {"capture_output": True, "text": True, "check": False}
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], **ask).stdout.strip()
    code = ["kerasft", "benchmarks/*.py"]
    changed = subprocess.run([*git, "status", "--porcelain", "--", *code], **ask).stdout
    return (head or "unknown") + ("+" if changed.strip() else "")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def scrub(value: Any) -> Any:
    """The value with every absolute path in its texts cut to its last part."""
    if isinstance(value, dict):
        return {scrub(key): scrub(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrub(item) for item in value]
    if isinstance(value, str):
        return ABSOLUTE.sub(lambda found: re.split(r"[/\\]", found.group())[-1], value)
    return value


def command(argv: Sequence[str] | None = None) -> str:
    """The command line, with folders by their name alone."""
    script, *rest = list(sys.argv if argv is None else argv)
    short = [Path(word).name if os.sep in word and Path(word).exists() else word for word in rest]
    return scrub(" ".join(["python", f"benchmarks/{Path(script).name}", *short]))


def record(
    name: str,
    what: str,
    *,
    values: dict[str, Any],
    bounds: Sequence[Bound] = (),
    raw: dict[str, Any] | None = None,
    seeds: Sequence[int] = (),
    packages: dict[str, str] | None = None,
    folder: Path = RUNS,
) -> Path:
    """Write benchmarks/runs/NAME-YYYYMMDD-HHMMSS.json.

    Args:
        name: what was measured, in lower case with hyphens; newer runs of a name replace older
            ones at the top of RESULTS.md.
        what: one line for a reader who does not know the script.
        values: the numbers that count, by name.
        bounds: what they had to be.
        raw: every single measurement behind the values.
        seeds: the seeds used.
        packages: versions beside those of kerasft's own stack.

    Returns: the path of the file.
    """
    stamp = time.gmtime()
    run = {
        "name": name,
        "what": what,
        "time": time.strftime("%Y-%m-%d %H:%M UTC", stamp),
        "commit": commit(),
        "command": command(),
        "python": platform.python_version(),
        "system": platform.system(),
        "cores": cores(),
        "packages": versions() | (packages or {}),
        "seeds": list(seeds),
        "values": values,
        "bounds": [{**bound.__dict__, "met": bound.met} for bound in bounds],
        "raw": raw or {},
    }
    path = folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S', stamp)}.json"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(scrub(run), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def finish(path: Path) -> int:
    """Print what a run found; the exit code is 1 where a bound is missed."""
    run = json.loads(path.read_text(encoding="utf-8"))
    for key, value in run["values"].items():
        print(f"{key}: {value}")
    for bound in run["bounds"]:
        verdict = "met" if bound["met"] else "MISSED"
        print(f"{bound['name']} {bound['value']} {bound['relation']} {bound['limit']}: {verdict}")
    print(f"written: {path.name}; now run python benchmarks/make_results.py")
    return 0 if all(bound["met"] for bound in run["bounds"]) else 1


def other_python(python: str, script: str, job: dict[str, Any]) -> dict[str, Any]:
    """Run a script of this folder under another interpreter: a JSON job in, a JSON answer out."""
    done = subprocess.run(
        [python, str(HERE / script)],
        input=json.dumps(job),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{script} under --torch-python ended with code {done.returncode}.")
    return json.loads(done.stdout.strip().splitlines()[-1])
