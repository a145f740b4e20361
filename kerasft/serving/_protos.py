"""The messages and stubs of tensorflow-serving-api, without TensorFlow for Python.

They import `tensorflow.core...`, which are generated messages only. A stand-in package `tensorflow`
that names the folder of the wheel is enough for them, and goes away once they are loaded, so that
TensorFlow can still be imported afterwards.
"""

import contextlib
import importlib.util
import sys
import types
from collections.abc import Iterator

from kerasft._core.errors import MissingExtra


@contextlib.contextmanager
def _stand_in() -> Iterator[None]:
    """`tensorflow` as a package without code of its own, unless TensorFlow is there already."""
    if "tensorflow" in sys.modules:
        yield
        return
    spec = importlib.util.find_spec("tensorflow")
    if spec is None:
        raise MissingExtra("tensorflow", "serve")
    package = types.ModuleType("tensorflow")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["tensorflow"] = package
    try:
        yield
    finally:
        del sys.modules["tensorflow"]


with _stand_in():
    from tensorflow.core.example.example_pb2 import Example
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow.core.framework.types_pb2 import DataType
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        input_pb2,
        model_management_pb2,
        model_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
        regression_pb2,
    )
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

__all__ = [
    "DataType",
    "Example",
    "ModelServerConfig",
    "SignatureDef",
    "TensorProto",
    "classification_pb2",
    "get_model_metadata_pb2",
    "get_model_status_pb2",
    "inference_pb2",
    "input_pb2",
    "model_management_pb2",
    "model_pb2",
    "model_service_pb2_grpc",
    "predict_pb2",
    "prediction_service_pb2_grpc",
    "regression_pb2",
]
