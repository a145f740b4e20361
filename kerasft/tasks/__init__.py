"""Level 4: tasks, one a file: what is read, which head, which loss, what comes out."""

from kerasft._core.registry import Registry

registry = Registry("task", "kerasft.tasks")


def __getattr__(name: str):
    """Give `TextClassification`, ... from their files, found by the registry."""
    # A private module is asked for while the tasks that need it are being imported.
    if name.startswith("_"):
        raise AttributeError(f"module 'kerasft.tasks' has no attribute {name!r}")
    found = {c.__name__: c for c in map(registry.get, registry.names())}
    if name in found:
        return found[name]
    raise AttributeError(f"module 'kerasft.tasks' has no attribute {name!r}")


def __dir__():
    return sorted(registry.get(n).__name__ for n in registry.names())
