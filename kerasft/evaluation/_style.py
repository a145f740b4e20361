"""One look for all plots, whatever a user or a notebook has set."""

import contextlib
from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def style(families: Sequence[str] = ("DejaVu Sans",)) -> Iterator[None]:
    """Our settings for what is made inside; a user's own and a notebook's come back after."""
    import matplotlib

    settings = {
        "font.family": list(families),
        "font.size": 9,
        "axes.titlesize": 11,
        "axes.grid": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "text.parse_math": False,  # a label may hold dollar signs
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        yield
