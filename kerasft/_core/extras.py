"""Optional packages, imported when first needed."""

import importlib
from types import ModuleType

from kerasft._core.errors import MissingExtra


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package, or raise `MissingExtra` with the line that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == module.split(".")[0]:
            raise MissingExtra(module.split(".")[0], extra) from None
        raise
