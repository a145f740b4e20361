"""Fonts for labels in any script: a label is drawn in a font that has it, or as its number."""

import functools
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

_DEFAULT = "DejaVu Sans"  # comes with matplotlib
_WIDE = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "SimHei",
    "Arial Unicode MS",
)


def choose(texts: Sequence[str]) -> tuple[list[str], set[str]]:
    """Return font families that together have the characters, and the characters none has."""
    fonts = _installed()
    missing = {c for text in texts for c in text if c.isprintable()}
    missing -= _characters(fonts[_DEFAULT])
    families = [_DEFAULT]
    for family, file in fonts.items() if missing else ():
        found = missing & _characters(file)
        if found:
            families.append(family)
            missing -= found
        if not missing:
            break
    return families, missing


def drawable(labels: Sequence[str], missing: set[str], width: int = 24) -> list[str]:
    """Return the labels to draw: on one line, cut to `width` columns, `class 3` for boxes."""
    return [
        f"class {i}" if missing & set(label) else cut(one_line(label), width)
        for i, label in enumerate(labels)
    ]


def one_line(text: str) -> str:
    """The text without line breaks and control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def cut(text: str, width: int) -> str:
    """The text in at most `width` columns (a Chinese character takes two), with … where cut."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def _installed() -> dict[str, str]:
    """Font files by family, the plainest of each; families for many scripts first."""
    from matplotlib import font_manager

    fonts = sorted(font_manager.fontManager.ttflist, key=lambda f: (f.style != "normal", _bold(f)))
    found: dict[str, str] = {}
    for font in fonts:
        if not font.name.startswith("Last Resort"):  # matplotlib's own: it draws boxes
            found.setdefault(font.name, font.fname)
    order = [f for f in _WIDE if f in found] + sorted(found.keys() - set(_WIDE))
    return {family: found[family] for family in order}


def _bold(font) -> int:
    return abs(font.weight - 400) if isinstance(font.weight, int) else 0


@functools.cache
def _characters(file: str) -> frozenset[str]:
    """The characters of a font file; none if matplotlib cannot read it."""
    from matplotlib import ft2font

    try:
        return frozenset(map(chr, ft2font.FT2Font(file).get_charmap()))
    except (OSError, RuntimeError):  # a bitmap font, or a damaged or vanished file
        return frozenset()
