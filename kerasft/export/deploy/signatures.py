"""The signatures of a SavedModel, read from its file without loading the model."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from kerasft._core import files
from kerasft._core.errors import InputError

METHODS = ("predict", "classify", "regress")
_PREFIX = "tensorflow/serving/"


@dataclasses.dataclass(frozen=True)
class Input:
    """One input of a signature.

    Args:
        dtype: name of the dtype, such as "string" or "int32".
        shape: sizes, None where any size fits; None for any rank. The batch comes first.
    """

    dtype: str
    shape: tuple[int | None, ...] | None = (None,)

    def __str__(self) -> str:
        return f"{self.dtype} {shape_text(self.shape)}"


@dataclasses.dataclass(frozen=True)
class Signature:
    """How one signature is asked.

    Args:
        method: "predict", "classify" or "regress".
        inputs: name -> `Input`; Classify and Regress have one, `inputs`, of serialized examples.
    """

    method: str
    inputs: Mapping[str, Input]

    def __post_init__(self):
        if self.method not in METHODS:
            raise InputError(
                f"`method` must be one of: {', '.join(METHODS)}. Received: {self.method!r}."
            )


def read_signatures(folder: str | os.PathLike) -> dict[str, Signature]:
    """The signatures of a SavedModel that clients ask.

    Args:
        folder: a version, such as saved_models/NAME/3.

    Returns:
        Name -> `Signature`; TensorFlow's own, whose names begin with "__", are left out.

    Raises:
        InputError: if the folder holds no SavedModel.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = files.join(folder, "saved_model.pb")
    if not files.exists(path):
        raise InputError(f"There is no file {path}. Give a version, such as saved_models/NAME/3.")
    proto = saved_model_pb2.SavedModel()
    try:
        proto.ParseFromString(files.read_bytes(path))
    except DecodeError:
        raise InputError(f"{path} is no SavedModel: it is damaged. Export again.") from None
    if not proto.meta_graphs:
        raise InputError(f"{path} is no SavedModel: it holds no graph. Export again.")
    return {
        name: Signature(
            signature.method_name.removeprefix(_PREFIX),
            {n: _input(info) for n, info in sorted(signature.inputs.items())},
        )
        for name, signature in sorted(proto.meta_graphs[0].signature_def.items())
        if not name.startswith("__") and signature.method_name.startswith(_PREFIX)
    }


def _input(info: Any) -> Input:
    import tensorflow as tf

    shape = info.tensor_shape
    sizes = (
        None if shape.unknown_rank else tuple(d.size if d.size >= 0 else None for d in shape.dim)
    )
    return Input(tf.dtypes.as_dtype(info.dtype).name, sizes)


def shape_text(shape: tuple[int | None, ...] | None) -> str:
    """A shape as messages say it: [any, 3]."""
    if shape is None:
        return "[...]"
    return f"[{', '.join('any' if size is None else str(size) for size in shape)}]"
