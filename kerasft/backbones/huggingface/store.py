"""The weights of a checkpoint folder by their Hugging Face names: safetensors or tf_model.h5."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kerasft._core import files
from kerasft._core.errors import InputError

_SINGLE, _INDEX, _H5 = "model.safetensors", "model.safetensors.index.json", "tf_model.h5"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "flax_model.msgpack")
# Checkpoints that came from TensorFlow 1 name the two vectors of a norm by their symbols.
_NORMS = {".gamma": ".weight", ".beta": ".bias"}
# TensorFlow's names of a weight, and which of them are stored the other way round.
_LEAVES = {"kernel": "weight", "embeddings": "weight", "gamma": "weight", "beta": "bias"}


class Store:
    """Arrays by name, each read when it is asked for.

    Args:
        source: the file's name, for messages.
        shapes: name -> shape.
        read: name -> array.
    """

    def __init__(
        self,
        source: str,
        shapes: dict[str, tuple[int, ...]],
        read: Callable[[str], np.ndarray],
    ):
        self.source, self.shapes, self._read = source, shapes, read

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def size(self) -> int:
        """How many numbers there are in all."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def get(self, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """A weight as float32; `InputError` if it is not there or not of that shape."""
        if name not in self.shapes:
            raise InputError(
                f"{self.source} lacks the weight {name!r}, which config.json asks for. "
                "Check that config.json and the weights belong together."
            )
        if shape is not None and self.shapes[name] != tuple(shape):
            raise InputError(
                f"{self.source}: the weight {name!r} must be of shape {tuple(shape)}, as "
                f"config.json asks. Received: shape={self.shapes[name]}."
            )
        value = self._read(name)
        if not (np.issubdtype(value.dtype, np.floating) or value.dtype.name == "bfloat16"):
            raise InputError(
                f"{self.source}: the weight {name!r} must hold floating point numbers; quantised "
                f"checkpoints are not read. Received: dtype={value.dtype.name}."
            )
        return value.astype("float32")


def open_store(folder: str) -> Store:
    """Open the weights of a folder.

    Raises:
        InputError: if there are none, or only in a format that can run code when it is read.
    """
    there = {name for name in (_SINGLE, _INDEX, _H5, *_PICKLES) if Path(folder, name).is_file()}
    if _SINGLE in there:
        return _open_safetensors(folder, [_SINGLE])
    if _INDEX in there:
        return _open_safetensors(folder, _shards(folder))
    if _H5 in there:
        return _open_h5(files.join(folder, _H5))
    pickle = next((name for name in _PICKLES if name in there), None)
    if pickle:
        raise InputError(
            f"{files.join(folder, pickle)} is a pickle or depends on one, which can run code when "
            "it is read. Convert it once where you trust it: "
            "AutoModel.from_pretrained(folder).save_pretrained(folder, safe_serialization=True)."
        )
    raise InputError(
        f"A Hugging Face folder holds {_SINGLE}, {_INDEX} or {_H5}. Received: {folder}, "
        "which has none of them."
    )


def _shards(folder: str) -> list[str]:
    path = files.join(folder, _INDEX)
    index = files.read_json(path)
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
        raise InputError(f"{path} must hold a `weight_map` from weights to files.")
    for name in set(names.values()):
        files.inside(folder, name)
    return sorted(set(names.values()))


def _open_safetensors(folder: str, names: list[str]) -> Store:
    from safetensors import SafetensorError, safe_open

    where: dict[str, tuple[Any, str]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name in names:
        path = files.inside(folder, name)
        if not Path(path).is_file():
            raise InputError(f"There is no file {path}, which {_INDEX} names.")
        try:
            file = safe_open(path, framework="np")
            for key in file.keys():  # noqa: SIM118  (the object is no dict)
                where[_modern(key)] = (file, key)
                shapes[_modern(key)] = tuple(file.get_slice(key).get_shape())
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is not a whole safetensors file: {error}.") from None

    def read(name: str) -> np.ndarray:
        file, key = where[name]
        return file.get_tensor(key)

    return Store(files.join(folder, names[0]), shapes, read)


def _modern(name: str) -> str:
    for old, new in _NORMS.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _open_h5(path: str) -> Store:
    import h5py

    found: dict[str, tuple[str, bool]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        with h5py.File(path, "r") as file:

            def visit(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset):
                    if item.external or item.is_virtual:
                        raise InputError(f"{path}: {name} lies in another file, which is not read.")
                    key, turned = torch_name(name)
                    found[key] = (name, turned)
                    # Transformers' TensorFlow Conv1D keeps its bias as a row.
                    shape = item.shape[::-1] if turned else item.shape
                    shapes[key] = shape[1:] if _is_row(key, shape) else tuple(shape)

            file.visititems(visit)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path} is not an HDF5 file: {error}.") from None

    def read(key: str) -> np.ndarray:
        name, turned = found[key]
        with h5py.File(path, "r") as file:
            value = file[name][()]
        value = value.T if turned else value
        return value.reshape(shapes[key])

    return Store(path, shapes, read)


def _is_row(key: str, shape: tuple[int, ...]) -> bool:
    return key.endswith(".bias") and len(shape) == 2 and shape[0] == 1


def torch_name(name: str) -> tuple[str, bool]:
    """The PyTorch name of a weight in Keras 2's HDF5 layout, and whether its matrix is turned.

    Example:
        >>> torch_name("bert/tf_bert_model/bert/encoder/layer_._0/output/dense/kernel:0")
        ('bert.encoder.layer.0.output.dense.weight', True)
    """
    name = re.sub(r":\d+$", "", name)
    # The first part is the group of the top-level layer, the second the model's own name.
    parts = re.sub(r"_\._(\d+)", r"/\1", name).split("/")[2:] or [name]
    leaf = parts[-1]
    return ".".join([*parts[:-1], _LEAVES.get(leaf, leaf)]), leaf == "kernel"
