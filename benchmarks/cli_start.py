"""Time `kerasft --help`: the median of five starts is to stay under a second.

python benchmarks/cli_start.py
"""

import argparse
import subprocess
import sys
from statistics import median

import _harness as harness
from quickstart import kerasft_command

SECONDS = 1.0


def start() -> None:
    """Start the command once."""
    subprocess.run([kerasft_command(), "--help"], check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """One start to warm the disk, five that count."""
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    start()
    seconds = [harness.timed(start)[1] for _ in range(5)]
    path = harness.record(
        "cli-start",
        "`kerasft --help`, median of five starts after one that warms the disk.",
        values={"median seconds": median(seconds)},
        bounds=[harness.Bound("median seconds", median(seconds), "<=", SECONDS)],
        raw={"seconds": seconds},
    )
    return harness.finish(path)


if __name__ == "__main__":
    sys.exit(main())
