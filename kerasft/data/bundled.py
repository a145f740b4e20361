"""Data that ship inside kerasft."""

from pathlib import Path

from kerasft._core.checks import one_of

_FILES = {"spam": "spam.csv.xz"}


def embedded(name: str) -> str:
    """Return the path of a data set that ships inside kerasft.

    Args:
        name: "spam": 5,893 e-mails of the SpamAssassin corpus, columns text and label (ham, spam).

    Returns:
        A path for `open_source` or the `data` section of a recipe.

    Raises:
        InputError: if there is no such data set.

    Example:
        open_source(embedded("spam"), {"text": "text", "label": "label"})
    """
    one_of("name", name, _FILES)
    return str(Path(__file__).parent / "embedded" / _FILES[name])
