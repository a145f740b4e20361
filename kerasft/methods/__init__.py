"""Level 3: tuning methods, one a file: which weights of the backbone move."""

from kerasft._core.registry import Registry

registry = Registry("method", "kerasft.methods")


def __getattr__(name: str):
    """Give `LoRA`, `Freeze`, ... from their files, found by the registry."""
    from kerasft.methods._adapted import Adapted, adapt

    found = {c.__name__: c for c in map(registry.get, registry.names())}
    found |= {"Adapted": Adapted, "adapt": adapt}
    if name in found:
        return found[name]
    raise AttributeError(f"module 'kerasft.methods' has no attribute {name!r}")


def __dir__():
    return sorted([*(registry.get(n).__name__ for n in registry.names()), "Adapted", "adapt"])
