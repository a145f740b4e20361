"""What a SavedModel must be like before it is handed over: read from the file, not from Keras."""

import os
from typing import Any

from kerasft._core.errors import KerasftError

_PYTHON_OPS = ("PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunction")


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
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    with open(os.path.join(folder, "saved_model.pb"), "rb") as file:
        proto.ParseFromString(file.read())
    graph = proto.meta_graphs[0]
    nodes = list(graph.graph_def.node)
    for function in graph.graph_def.library.function:
        nodes += function.node_def
    ops = {node.op for node in nodes}
    bad = sorted(op for op in ops if op in _PYTHON_OPS or op.startswith("Xla"))
    if bad:
        raise KerasftError(f"The export holds ops that TF Serving cannot run: {', '.join(bad)}.")
    for name, signature in graph.signature_def.items():
        for output, info in signature.outputs.items():
            shape = info.tensor_shape
            if shape.unknown_rank or not shape.dim or shape.dim[0].size != -1:
                raise KerasftError(f"Output {output!r} of {name} lacks the batch in dimension 0.")
    data = os.path.join(folder, "variables")
    size = sum(os.path.getsize(os.path.join(data, f)) for f in os.listdir(data))
    if size > 1.2 * parameters + 1_000_000:
        raise KerasftError(
            f"The export stores its weights more than once: {size} bytes for {parameters}."
        )
    tables = sorted(op for op in ops if op.startswith("MutableHashTable"))
    return {"ops": len(ops), "checkpoint_bytes": size, "tables": tables}
