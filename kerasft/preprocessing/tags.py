"""Tags of tokens (BIO, IOB1, IOBES, plain) and the entities that they mean."""

from collections.abc import Iterable, Sequence

from kerasft._core.checks import one_of
from kerasft._core.errors import InputError

SCHEMES = ("BIO", "IOB1", "IOBES", "plain")
# BILOU says L and U, BMES says M, for what IOBES says E, S and I.
SAME = {"L": "E", "U": "S", "M": "I"}
_BEGIN, _INSIDE = {"B", "S"}, {"I", "E"}

Span = tuple[str, int, int]


def spans_of(tags: Sequence[str], scheme: str, broken: str = "repair") -> tuple[list[Span], int]:
    """Read the entities out of the tags of one row.

    BIO: B begins an entity, I goes on with it. IOB1: I also begins one, B only where another of
    the same label stands before. IOBES: E ends one, S is one of one token; BILOU and BMES are
    read as such. plain: a run of one tag other than O is one entity.

    Args:
        tags: `O`, or a letter, `-` and a label, e.g. `B-PER`; plain: `O` or the label alone.
        scheme: One of `SCHEMES`.
        broken: What becomes of a tag that breaks the scheme: an I or E without its beginning
            (IOBES also: an entity without its end). "repair" begins (ends) an entity there, as
            conlleval and seqeval do; "refuse" raises.

    Returns:
        The entities as (label, first token, token after the last one), in order, and the number
        of tags that were repaired.

    Raises:
        InputError: If a tag cannot be read, or breaks the scheme under "refuse"; it names the
            position, counted from 0.

    Example:
        >>> spans_of(["B-PER", "I-PER", "O", "I-LOC"], "BIO")
        ([('PER', 0, 2), ('LOC', 3, 4)], 1)
    """
    one_of("scheme", scheme, SCHEMES)
    one_of("broken", broken, ("repair", "refuse"))
    spans, repaired, open_ = [], 0, None  # `open_`: label and start of the entity we are in
    for i, tag in enumerate([*tags, "O"]):
        letter, label = _read(tag, i, scheme)
        goes_on = open_ is not None and letter in _INSIDE and label == open_[0]
        wrong = letter in _INSIDE and not goes_on and scheme in ("BIO", "IOBES")
        if open_ is not None and not goes_on:
            wrong = wrong or scheme == "IOBES"
            spans.append((*open_, i))
            open_ = None
        if wrong:
            if broken == "refuse":
                raise InputError(_complaint(tags, i, scheme))
            repaired += 1
        if letter != "O" and open_ is None:
            open_ = (label, i)
        if letter in ("E", "S"):
            spans.append((*open_, i + 1))
            open_ = None
    return spans, repaired


def tags_of(spans: Iterable[Span], length: int, scheme: str) -> list[str]:
    """Write entities as the tags of one row; `spans_of` reads them again.

    Under "plain" two neighbours of one label become one entity.

    Args:
        spans: Entities (label, first token, token after the last one), in any order.
        length: How many tokens the row has.
        scheme: One of `SCHEMES`.

    Returns:
        One tag a token.

    Raises:
        InputError: If an entity does not lie inside the row, or two overlap.

    Example:
        >>> tags_of([("PER", 0, 2)], 3, "IOBES")
        ['B-PER', 'E-PER', 'O']
    """
    one_of("scheme", scheme, SCHEMES)
    tags, before = ["O"] * length, ("", 0, 0)
    for label, start, end in sorted(spans, key=lambda span: span[1:]):
        if not 0 <= start < end <= length or start < before[2]:
            raise InputError(
                f"Entities must lie in the row of {length} tokens and not overlap. "
                f"Received: {(label, start, end)!r} after {before!r}."
            )
        beside = before[0] == label and before[2] == start
        letters = _letters(end - start, scheme, beside)
        tags[start:end] = [f"{letter}-{label}" if letter else label for letter in letters]
        before = (label, start, end)
    return tags


def scheme_of(rows: Iterable[Sequence[str]]) -> str:
    """Guess the scheme of a file from the tags of its rows.

    Args:
        rows: The tags of each row.

    Returns:
        `plain` if a tag is neither O nor a letter of a scheme, `-` and a label; `IOBES` if E, S,
        L, U or M occur; `IOB1` if entities begin with I, and B stands only after its own label;
        else `BIO`, which is also the answer for O alone.

    Example:
        >>> scheme_of([["I-PER", "O", "I-LOC", "B-LOC"]])
        'IOB1'
    """
    begun_by_i = fresh_b = ends = False
    for tags in rows:
        before = ""
        for tag in tags:
            if tag == "O":
                before = ""
                continue
            letter, dash, label = tag.partition("-")
            if letter not in ("B", "I", "E", "S", *SAME) or not dash or not label:
                return "plain"
            ends = ends or letter not in ("B", "I")
            begun_by_i = begun_by_i or (letter == "I" and before != label)
            fresh_b = fresh_b or (letter == "B" and before != label)
            before = label
    if ends:
        return "IOBES"
    return "IOB1" if begun_by_i and not fresh_b else "BIO"


def _letters(length: int, scheme: str, beside: bool) -> list[str]:
    """The letter of each token of an entity; `beside`: one of the same label ends before it."""
    if scheme == "plain":
        return [""] * length
    if scheme == "IOBES":
        return ["S"] if length == 1 else ["B", *["I"] * (length - 2), "E"]
    first = "B" if scheme == "BIO" or beside else "I"
    return [first, *["I"] * (length - 1)]


def _read(tag: str, place: int, scheme: str) -> tuple[str, str]:
    """Letter and label of a tag; a plain label reads as I of IOB1."""
    if tag == "O":
        return "O", ""
    if scheme == "plain":
        return "I", tag
    letter, _, label = tag.partition("-")
    if scheme == "IOBES":
        letter = SAME.get(letter, letter)
    allowed = _BEGIN | _INSIDE if scheme == "IOBES" else {"B", "I"}
    if letter not in allowed or not label:
        raise InputError(
            f"A tag of {scheme} is O, or one of {' '.join(sorted(allowed))}, '-' and a label. "
            f"Received: {tag!r} at token {place}."
        )
    return letter, label


def _complaint(tags: Sequence[str], place: int, scheme: str) -> str:
    before = repr(tags[place - 1]) if place else "nothing"
    tag = repr(tags[place]) if place < len(tags) else "the end of the row"
    return (
        f"The tags break {scheme}: {tag} cannot follow {before}. "
        f"Received: that at token {place}. Mend the tags, or have them repaired."
    )
