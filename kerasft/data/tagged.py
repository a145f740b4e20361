"""Tokens and tags, as CoNLL files have them, turned into a raw text and spans of it."""

import re
from collections.abc import Iterable, Sequence

from kerasft.data.fields import label

SCHEMES = ("bio", "iob1", "iobes", "plain")
_SAMPLE = 1000  # rows with tags that are looked at to find the scheme
_TAG = re.compile(r"([BIESLUM])-(.+)", re.DOTALL)
_INSIDE = {"I": "I", "M": "I", "B": "B", "E": "E", "L": "E", "S": "S", "U": "S"}
Spans = tuple[tuple[int, int, str], ...]
Words = tuple[tuple[int, int], ...]

# Scripts that are written without spaces, with their punctuation. Half-width Hangul stands among
# the full-width forms, and Korean has spaces.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\ua9e0-\ua9ff\uaa60-\uaa7f"  # Thai ...
    "\u2e80-\u312f\u31a0-\u31ff\u3400-\u9fff\uf900-\ufaff\ufe30-\ufe4f"  # Kana, Han
    "\uff01-\uff9f\uffe0-\uffee\U0001aff0-\U0001b16f\U00020000-\U000323af]"
)


def join(tokens: Sequence[str]) -> tuple[str, Words]:
    """Write tokens as running text: with spaces, but for those beside an unspaced script.

    Args:
        tokens: the tokens, none of them empty.

    Returns:
        (text, the (start, end) of each token in it, in code points).

    Example:
        join(["Vitamin", "C", "很", "好", "。"])  # ("Vitamin C很好。", ((0, 7), (8, 9), ...))
    """
    parts, words, end, last = [], [], 0, ""
    for token in tokens:
        if last and not (_UNSPACED.match(last) or _UNSPACED.match(token)):
            parts.append(" ")
            end += 1
        parts.append(token)
        words.append((end, end + len(token)))
        end, last = end + len(token), token[-1]
    return "".join(parts), tuple(words)


def scheme_of(rows: Iterable[Sequence[str]]) -> str:
    """Find how tags are written, from the first 1,000 rows that have others than "O".

    Args:
        rows: lists of tags, e.g. ["O", "B-PER", "I-PER"].

    Returns:
        "plain" (each tag is a label), "iobes" (or BILOU, BMES: the ends are marked), "iob1" (`B-`
        stands only where two of one label touch), else "bio".

    Example:
        scheme_of([["O", "I-PER", "I-PER"]])  # "iob1"
    """
    marks, starts_inside, starts_apart, left = set(), False, False, _SAMPLE
    for tags in rows:
        before = "O"
        for tag in tags:
            mark, name = _cut(tag)
            fresh = _cut(before)[1] != name
            marks.add(mark)
            starts_inside |= mark == "I" and fresh
            starts_apart |= mark == "B" and fresh
            before = tag
        left -= any(tag != "O" for tag in tags)
        if not left:
            break
    marks.discard("O")
    if marks == {""}:
        return "plain"
    if marks & set("ESLUM"):
        return "iobes"
    return "iob1" if starts_inside and not starts_apart else "bio"


def read_tags(words: Words, tags: Sequence[str], scheme: str) -> tuple[Spans, list[int]]:
    """Turn one tag a word into spans.

    A tag that breaks its scheme is read as it was meant: `I-X` with nothing to continue begins a
    span, and a span that is not ended ends where the next tag stands.

    Args:
        words: (start, end) of each word.
        tags: the tag of each word.
        scheme: one of `SCHEMES`.

    Returns:
        (spans (start, end, label), the places of the tags that break the scheme).

    Raises:
        ValueError: for a tag that the scheme does not know.
    """
    if scheme == "plain":
        kept = [(*word, label(tag)) for word, tag in zip(words, tags) if tag != "O"]
        return tuple(kept), []
    spans, broken, name, closed = [], [], None, True
    for place, ((start, end), tag) in enumerate(zip(words, tags)):
        mark, found = _cut(tag)
        if not mark:
            raise ValueError(
                f"a tag such as O, B-NAME or I-NAME is expected, but token {place + 1} has {tag!r}"
            )
        mark = _INSIDE.get(mark, mark)
        goes_on = mark in "IE" and name == found
        unended = scheme == "iobes" and not closed and not goes_on
        if unended or (mark in "IE" and not goes_on and (scheme != "iob1" or mark == "E")):
            broken.append(place)
        if goes_on:
            spans[-1] = (spans[-1][0], end, name)
        elif mark != "O":
            spans.append((start, end, label(found)))
        name, closed = (found if mark in "BI" else None), mark not in "BI"
    if scheme == "iobes" and not closed and broken[-1:] != [len(tags) - 1]:
        broken.append(len(tags) - 1)
    return tuple(spans), broken


def _cut(tag: str) -> tuple[str, str]:
    """("B", "PER") of "B-PER", ("O", "") of "O", and ("", tag) of a tag without a mark."""
    match = _TAG.fullmatch(tag)
    return (match[1], match[2]) if match else (tag if tag == "O" else "", "" if tag == "O" else tag)
