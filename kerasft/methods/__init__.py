"""Level 3: tuning methods, one a file: which weights of the backbone move."""

from importlib import import_module

from kerasft._core.registry import Registry

registry = Registry("method", "kerasft.methods")


# What methods are made of and what becomes of them, loaded when it is asked for.
_PARTS = {
    "Adapted": "_adapted",
    "adapt": "_adapted",
    "Change": "_change",
    "Routes": "_routes",
    "changes_of": "_routes",
    "summed": "_change",
    "load_adapter": "_adapter_file",
    "read_adapter": "_adapter_file",
    "save_adapter": "_adapter_file",
    "adapter_weights": "_site_layers",
    "set_adapter_weights": "_site_layers",
    "is_record": "_trainable",
    "paces_of": "_paces",
    "watch_of": "_watch",
    "read_peft": "_peft",
    "write_peft": "_peft",
    "ProjectionLayer": "_site_layers",
    "SiteLayer": "_site_layers",
    "carried": "_site_layers",
    "Merged": "_site_layers",
    "merge": "_site_layers",
    "put": "_site_layers",
    "replaced": "_site_layers",
    "unmergeable": "_site_layers",
}


def __getattr__(name: str):
    """Give `LoRA`, `Freeze`, ... from their files, found by the registry."""
    if name in _PARTS:
        return getattr(import_module(f"{__name__}.{_PARTS[name]}"), name)
    found = {c.__name__: c for c in map(registry.get, registry.names())}
    if name in found:
        return found[name]
    raise AttributeError(f"module 'kerasft.methods' has no attribute {name!r}")


def __dir__():
    return sorted([*(registry.get(n).__name__ for n in registry.names()), *_PARTS])
