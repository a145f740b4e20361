"""Make the embedded spam data set: kerasft/data/embedded/spam.csv.xz.

    python benchmarks/make_spam.py FOLDER [OUT]

FOLDER holds train.jsonl, validation.jsonl and test.jsonl with the keys text and label. The rows
are written in that order as one CSV with the columns text and label; NUL characters, which no CSV
holds, become spaces. The same rows give the same bytes.
"""

import csv
import io
import json
import lzma
import sys
from pathlib import Path

OUT = Path(__file__).parent.parent / "kerasft/data/embedded/spam.csv.xz"
LIMIT = 2_000_000  # bytes
# Text has no alignment (pb=0) and its previous character says much of the next (lc=4).
FILTERS = [
    {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "lc": 4,
        "lp": 0,
        "pb": 0,
    }
]


def rows(folder: Path):
    """Text and label of each row of the three files."""
    for part in ("train", "validation", "test"):
        with open(folder / f"{part}.jsonl", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                yield " ".join(row["text"].replace("\0", " ").split()), row["label"]


def packed(folder: Path) -> bytes:
    """The bytes of the packed CSV file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("text", "label"))
    writer.writerows(rows(folder))
    return lzma.compress(text.getvalue().encode("utf-8"), filters=FILTERS)


def main() -> None:
    """Write the file that the command line names."""
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    data = packed(Path(sys.argv[1]))
    if len(data) >= LIMIT:
        sys.exit(f"{len(data)} bytes; less than {LIMIT} are allowed")
    out = Path(sys.argv[2]) if len(sys.argv) == 3 else OUT
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(data)
    print(f"{out}: {len(data)} bytes")


if __name__ == "__main__":
    main()
