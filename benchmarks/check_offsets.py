"""Check that pieces lie where Hugging Face's fast tokenizers say they do.

    python benchmarks/check_offsets.py --models FOLDER --torch-python PYTHON

FOLDER holds minilm (WordPiece), zh-en-e5 (SentencePiece) and smollm2 (byte-level BPE). PYTHON, an
interpreter with transformers, tokenises generated strings; words are made of its offsets and word
numbers in plain Python, by the reference of the tests, which shares no code with kerasft.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any
from unicodedata import category

import _harness as harness

ROOT = Path(__file__).resolve().parent.parent
MODELS = {"minilm": "wordpiece", "zh-en-e5": "sentencepiece", "smollm2": "bytes"}
COUNT, SEED = 10_000, 11


def spans(kind: str, text: str, row: list, names: list[str]) -> list[tuple[int, int, int]]:
    """(start, end, word) of every piece, from ids, offsets and word numbers of Hugging Face.

    Words of WordPiece and BPE begin where Hugging Face's do, those of SentencePiece after white
    space; which characters the tokenizer takes away is seen from the offsets.
    """
    from reference_offsets import is_white, number_words, span

    ids, offsets, numbers = row
    white = {p for p, c in enumerate(text) if is_white(c)}
    if kind == "wordpiece":  # \v, \f and U+0085 are control characters there
        white -= {p for p, c in enumerate(text) if c in "\v\f\x85"}
    covered = {p for begin, end in offsets for p in range(begin, end)} - white
    first: dict[int, int] = {}
    for (begin, _), number in zip(offsets, numbers, strict=True):
        first.setdefault(number, begin)
    cuts = None if kind == "sentencepiece" else set(first.values())
    if kind == "wordpiece":  # a piece may reach over what BERT takes away
        covered -= {p for p in covered if text[p] in "\0\ufffd" or category(text[p])[0] == "C"}
    if kind == "sentencepiece":  # the same at the beginning of a text; NUL is a sign for it
        covered -= {p for p in covered if category(text[p]) == "Cc" and text[p] != "\0"}
    kept = range(len(text)) if kind == "bytes" else covered
    owner = number_words(text, white, kept, cuts=cuts)
    found = []
    for index, (begin, end) in zip(ids, offsets, strict=True):
        blank = kind == "sentencepiece" and names[index].strip("▁") == ""
        places = range(begin, min(max(end, begin + 1), len(text)))
        late = names[index].startswith("▁")
        found.append(span(owner, places or range(len(text), len(text)), blank, late))
    return found


def loses_signs(text: str, row: list) -> bool:
    """Whether a visible sign is in no offset of Hugging Face.

    Its normaliser for SentencePiece loses marks after some signs, and is one place off after a
    control character in front. The ids may be the same, where both have the unknown piece.
    """
    covered = {p for begin, end in row[1] for p in range(begin, end)}
    return any(category(c)[0] in "LMNPS" and p not in covered for p, c in enumerate(text))


def folder_for(path: Path, out: str) -> str:
    """A folder whose tokenizer Hugging Face reads without SentencePiece's own library."""
    if (path / "tokenizer.json").exists():
        return str(path)
    from kerasft.backbones import load
    from kerasft.backbones.huggingface.tokenizer_files import write_tokenizer

    write_tokenizer(out, load(str(path))[1], max_length=512, segments=False)
    return out


def compare(path: Path, python: str, texts: list[str]) -> tuple[dict[str, int], dict, list[str]]:
    """Counts, versions, and some of the texts whose offsets differ."""
    import tensorflow as tf

    from kerasft.backbones import load
    from kerasft.backbones.offsets import pieces

    _, tokenizer = load(str(path))
    with tempfile.TemporaryDirectory() as out:
        job = {"folder": folder_for(path, out), "texts": texts}
        answer = harness.other_python(python, "_offsets_side.py", job)
    found = pieces(tokenizer, tf.constant(texts))
    columns = [getattr(found, key).to_list() for key in ("start", "end", "word")]
    count: dict[str, Any] = {"texts": len(texts), "other ids": 0}
    count |= {"signs in no offset of Hugging Face": 0, "other offsets": 0}
    names, odd = list(map(str, tokenizer.get_vocabulary())), []
    for text, ids, row, *got in zip(texts, found.ids.to_list(), answer["rows"], *columns):
        if ids != row[0]:
            count["other ids"] += 1
        elif MODELS[path.name] == "sentencepiece" and loses_signs(text, row):
            count["signs in no offset of Hugging Face"] += 1
        elif list(zip(*got)) != spans(MODELS[path.name], text, row, names):
            count["other offsets"] += 1
            odd.append(text)
    return count, answer["packages"], odd[:20]


def main() -> int:
    """Compare the three and record, if all offsets are the same."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, required=True, help="where the three folders are")
    parser.add_argument("--torch-python", required=True, help="an interpreter with transformers")
    parser.add_argument("--count", type=int, default=COUNT, help="how many strings")
    args = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "backbones")]
    from odd_strings import odd_strings

    texts, values, bounds = odd_strings(args.count, SEED), {}, []
    for name in MODELS:
        count, packages, odd = compare(args.models / name, args.torch_python, texts)
        print(name, count, *map(ascii, odd), sep="\n  ")
        values |= {f"{name}: {key}": value for key, value in count.items()}
        limit = harness.Bound(f"{name}: other offsets", count["other offsets"], "<=", 0)
        bounds.append(limit)
    if not all(bound.met for bound in bounds):
        return 1
    path = harness.record(
        "offsets-hf",
        "Generated strings with all that shifts offsets: start, end and word of every piece "
        "against Hugging Face's fast tokenizers, where the ids are the same.",
        values=values,
        bounds=bounds,
        seeds=[SEED],
        packages=packages,
    )
    return harness.finish(path)


if __name__ == "__main__":
    sys.exit(main())
