"""Small files of mails, and what lies in a folder."""

import csv
import json
from pathlib import Path

SPAM, HAM = ("free", "prize", "call", "now"), ("film", "story", "good", "bad")


def rows(count=24):
    """Mails whose words tell their label; no two are alike."""
    found = []
    for i in range(count):
        words = (HAM, SPAM)[i % 2]
        text = " ".join(words[(i // 2 >> shift) % 4] for shift in (0, 1, 2, 3))
        found.append(
            {"text": f"{text} {'you ' * (i // 8)}".strip(), "label": ("ham", "spam")[i % 2]}
        )
    return found


def written(path, found):
    """Write rows as CSV or JSON lines, as the name of the file says."""
    if path.suffix == ".jsonl":
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in found]
        path.write_text("".join(lines), encoding="utf-8")
        return str(path)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(found[0]))
        table.writeheader()
        table.writerows(found)
    return str(path)


def listing(folder):
    """Every file below a folder with its bytes, and every folder."""
    paths = sorted(Path(folder).rglob("*"))
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in paths}
