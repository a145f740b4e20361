"""Check that pieces lie where Hugging Face's fast tokenizers say they do.

    python benchmarks/check_offsets.py --models FOLDER --torch-python PYTHON

FOLDER holds minilm (WordPiece), zh-en-e5 (SentencePiece) and smollm2 (byte-level BPE). PYTHON, an
interpreter with transformers, tokenises generated strings; words are made of its offsets and word
numbers in plain Python, by the reference of the tests, which shares no code with kerasft. Texts of
other ids, and those of which Hugging Face's normaliser for SentencePiece loses signs or moves
offsets, are left out and counted by their reason. With SentencePiece all texts are compared with
the reference's own offsets too.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from unicodedata import category

import _harness as harness

ROOT = Path(__file__).resolve().parent.parent
MODELS = {"minilm": "wordpiece", "zh-en-e5": "sentencepiece", "smollm2": "bytes"}
COUNT, SEED = 10_000, 11
SUMS = ("other ids", "other ids: no reason known", "compared", "other offsets")


def spans(kind: str, text: str, row: list, names: list[str]) -> list[tuple[int, int, int]]:
    """(start, end, word) of every piece, from ids, offsets and word numbers of Hugging Face.

    Words of WordPiece and BPE begin where Hugging Face's do, those of SentencePiece after white
    space; which characters the tokenizer takes away is seen from the offsets.
    """
    from reference_offsets import is_white, number_words, span

    ids, offsets, numbers, _ = row
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


def other_form(text: str, form: str, model: Any) -> bool:
    """Whether Hugging Face's normaliser makes another text than SentencePiece's own.

    It looks up groups of letter and marks: of one of up to five bytes it loses what is behind the
    first sign of the table, and it melts nothing together in a longer one.
    """
    words = [word for word in form.replace("▁", " ").split(" ") if word]
    return model.normalize(text) != "".join("▁" + word for word in words)


def moves_offsets(text: str, model: Any) -> bool:
    """Whether Hugging Face's offsets miss a sign that SentencePiece removes.

    Such a sign is taken off the length of what is before it: where that is nothing, all offsets
    are one too low; where it is a sign that became several, the last of them is put one too far.
    """
    before = None
    for char in text:
        made = model.normalize(f"a{char}b")
        if made == "▁ab" and (before is None or before > len("▁a1b")):
            return True
        before = before if made == "▁ab" else len(made)
    return False


def reason(kind: str, text: str, ids: list[int], row: list, answer: dict, model: Any) -> str:
    """Why Hugging Face has other ids, or offsets that are no measure; "" where none is known."""
    other = ids != row[0]
    if other and kind == "bytes" and "\0" in text:
        return "NUL, where TensorFlow ends the text"
    if other and kind == "bytes" and any(len(word.encode()) > 256 for word in text.split()):
        return "a word of more than 256 bytes, which kerasft cuts"
    if other and kind != "bytes" and any(token in text for token in answer["specials"]):
        return "the name of a special token, which Hugging Face reads as the token"
    if kind != "sentencepiece":
        return ""
    if other and "\x85" in text:
        return "U+0085, a sign for SentencePiece and white space for Hugging Face"
    if other_form(text, row[3], model):
        return "another normal form"
    if other and sorted(ids) == sorted(row[0]):
        return "the same pieces in another order, of equal score"
    if not other and moves_offsets(text, model):
        return "a sign that is removed moves offsets"
    return ""


def folder_for(path: Path, out: str) -> str:
    """A folder whose tokenizer Hugging Face reads without SentencePiece's own library."""
    if (path / "tokenizer.json").exists():
        return str(path)
    from kerasft.backbones import load
    from kerasft.backbones.huggingface.tokenizer_files import write_tokenizer

    write_tokenizer(out, load(str(path))[1], max_length=512, segments=False)
    return out


def compare(path: Path, python: str, texts: list[str]) -> tuple[Counter, dict, list[str]]:
    """Counts, versions, and some of the texts whose offsets differ."""
    import tensorflow as tf
    from reference_offsets import Sentences

    from kerasft.backbones import load
    from kerasft.backbones.offsets import pieces

    _, tokenizer = load(str(path))
    with tempfile.TemporaryDirectory() as out:
        job = {"folder": folder_for(path, out), "texts": texts}
        answer = harness.other_python(python, "_offsets_side.py", job)
    found = pieces(tokenizer, tf.constant(texts))
    columns = [getattr(found, key).to_list() for key in ("start", "end", "word")]
    kind = MODELS[path.name]
    known = Sentences(tokenizer.proto) if kind == "sentencepiece" else None
    count = Counter({"texts": len(texts)} | dict.fromkeys(SUMS, 0))
    if known:
        count["other than the reference"] = 0
    names, odd = list(map(str, tokenizer.get_vocabulary())), []
    for text, ids, row, *got in zip(texts, found.ids.to_list(), answer["rows"], *columns):
        got = list(zip(*got))
        if known and got != [tuple(place) for _, *place in known.read(text)]:
            count["other than the reference"] += 1
        why = reason(kind, text, ids, row, answer, known and known.model)
        if ids != row[0]:
            count.update(["other ids", f"other ids: {why or 'no reason known'}"])
            continue
        same = got == spans(kind, text, row, names)
        if why:
            side = "the same" if same else "other"
            count.update([f"left out: {why}", f"left out: {why}, {side} offsets"])
        else:
            count.update(["compared"] if same else ["compared", "other offsets"])
            odd += [] if same else [text]
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
        values |= {f"{name}: {key}": value for key, value in sorted(count.items())}
        for key in ("other ids: no reason known", "other offsets", "other than the reference"):
            if key in count:
                bounds.append(harness.Bound(f"{name}: {key}", count[key], "<=", 0))
    if not all(bound.met for bound in bounds):
        return 1
    path = harness.record(
        "offsets-hf",
        "Generated strings with all that shifts offsets: start, end and word of every piece "
        "against Hugging Face's fast tokenizers. Left out are texts of other ids and those where "
        "its normaliser for SentencePiece makes another text or moves offsets. With "
        "SentencePiece all texts also against the reference of the tests.",
        values=values,
        bounds=bounds,
        seeds=[SEED],
        packages=packages,
    )
    return harness.finish(path)


if __name__ == "__main__":
    sys.exit(main())
