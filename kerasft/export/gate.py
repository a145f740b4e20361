"""What a SavedModel must be like before it is handed over: read from the file, not from Keras."""

import importlib.util
import os
from typing import Any

from kerasft._core.errors import KerasftError

_PYTHON_OPS = ("PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunction")
# Bytes that the file may hold beside the weights: names, shapes, the checkpoint's own records.
_SLACK = 1_000_000


def check_saved_model(folder: str, parameters: int) -> dict[str, Any]:
    """Check an exported SavedModel's graph and size.

    Args:
        folder: the version's folder.
        parameters: bytes of the model's weights.

    Returns:
        `ops` (number of distinct ops), `checkpoint_bytes`, `tables` (mutable tables, which grow).

    Raises:
        KerasftError: for an op that runs Python or that only XLA knows, an op that neither
            TensorFlow nor tensorflow-text has, an output without the batch in front, or weights
            that are stored twice.
    """
    graph = _graph(folder)
    ops = _ops(graph)
    _check_ops(ops)
    _check_outputs(graph)
    data = os.path.join(folder, "variables")
    size = sum(os.path.getsize(os.path.join(data, f)) for f in os.listdir(data))
    if size > 1.2 * parameters + _SLACK:
        raise KerasftError(
            f"The export stores its weights more than once: {size} bytes for {parameters}."
        )
    tables = sorted(op for op in ops if op.startswith("MutableHashTable"))
    return {"ops": len(ops), "checkpoint_bytes": size, "tables": tables}


def _graph(folder: str) -> Any:
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    with open(os.path.join(folder, "saved_model.pb"), "rb") as file:
        proto.ParseFromString(file.read())
    return proto.meta_graphs[0]


def _ops(graph: Any) -> set[str]:
    """Names of the ops of the graph and its functions; a call of a function is no op."""
    functions = graph.graph_def.library.function
    nodes = [*graph.graph_def.node, *(node for f in functions for node in f.node_def)]
    return {node.op for node in nodes} - {f.signature.name for f in functions}


def _check_ops(ops: set[str]) -> None:
    bad = sorted(op for op in ops if op in _PYTHON_OPS or op.startswith("Xla"))
    if bad:
        raise KerasftError(f"The export holds ops that TF Serving cannot run: {', '.join(bad)}.")
    served = _served_ops()
    # Python spells the sign ">" of a namespace as "_".
    foreign = sorted(op for op in ops if op.replace(">", "_") not in served)
    if foreign:
        raise KerasftError(
            "The export holds ops that are neither TensorFlow's nor tensorflow-text's, so TF "
            f"Serving does not have them: {', '.join(foreign)}."
        )


def _served_ops() -> set[str]:
    """Names of the ops that TensorFlow itself has, and of those in tensorflow-text's libraries."""
    import tensorflow as tf

    found = set(dir(tf.raw_ops))
    package = importlib.util.find_spec("tensorflow_text").submodule_search_locations[0]
    folder = os.path.join(package, "python", "ops")
    for name in os.listdir(folder):
        if name.endswith(".so"):
            found |= set(dir(tf.load_op_library(os.path.join(folder, name))))
    return found


def _check_outputs(graph: Any) -> None:
    for name, signature in graph.signature_def.items():
        if name.startswith("__saved_model"):
            continue  # TensorFlow's own, for the tables; nobody asks it
        for output, info in signature.outputs.items():
            shape = info.tensor_shape
            if shape.unknown_rank or not shape.dim or shape.dim[0].size != -1:
                raise KerasftError(f"Output {output!r} of {name} lacks the batch in dimension 0.")
