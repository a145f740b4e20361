"""Time `kerasft quickstart` and read its macro-F1.

    python benchmarks/quickstart.py

Run on 2 cores without a GPU the bounds are those of the README: under 3 minutes, at least 0.95.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import _harness as harness

SECONDS, MACRO_F1 = 180.0, 0.95


def kerasft_command() -> str:
    """The console script beside this interpreter."""
    script = Path(sys.executable).parent / "kerasft"
    if not script.exists():
        raise SystemExit("kerasft is not installed beside this Python: run pip install -e .")
    return str(script)


def run(out: Path) -> dict:
    """Run the quickstart into a new folder; its metrics.json."""
    subprocess.run([kerasft_command(), "quickstart", "--out", str(out)], check=True)
    return json.loads((out / "run" / "metrics.json").read_text(encoding="utf-8"))


def main() -> int:
    """Run once and record."""
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    with tempfile.TemporaryDirectory() as place:
        scores, seconds = harness.timed(lambda: run(Path(place) / "quickstart"))
    before = scores["before"]["macro_f1"]
    values = {"wall seconds": seconds, "fit seconds": scores["fit_seconds"]}
    values |= {"accuracy": scores["accuracy"], "macro_f1": scores["macro_f1"]}
    path = harness.record(
        "quickstart",
        "`kerasft quickstart`, from the command to its end: the embedded BERT-Tiny on the "
        "embedded mails, report and SavedModel included.",
        values=values | {"macro_f1 before fine-tuning": before},
        bounds=[
            harness.Bound("wall seconds", seconds, "<=", SECONDS),
            harness.Bound("macro_f1", scores["macro_f1"], ">=", MACRO_F1),
        ],
    )
    return harness.finish(path)


if __name__ == "__main__":
    sys.exit(main())
