"""Protocol buffers without TensorFlow: nothing is left where a later import would find it."""

import os
import subprocess
import sys

import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from kerasft._core.errors import InputError
from kerasft.export._stubs import package_folder, protos

NAMES = ["tensorflow.core.framework.tensor_pb2", "tensorflow_serving.apis.predict_pb2"]
ALONE = f"""
import sys
from kerasft.export._stubs import package_folder, protos
tensor_pb2, predict_pb2 = protos(*{NAMES})
(again,) = protos("tensorflow.core.framework.tensor_pb2")
assert again is tensor_pb2
tensor = tensor_pb2.TensorProto(string_val=[b"a"])
request = predict_pb2.PredictRequest(inputs={{"text": tensor}})
assert request.inputs["text"].string_val == [b"a"]
assert not [n for n in sys.modules if n.partition(".")[0] == "tensorflow"]
try:
    protos("tensorflow.core.no_pb2")
except ModuleNotFoundError:
    assert "tensorflow" not in sys.modules
else:
    raise AssertionError
"""
# The real package comes later, and both kinds of messages are one.
LATER = """
import tensorflow as tf
assert tf.constant([1, 2]).numpy().tolist() == [1, 2]
assert protos("tensorflow.core.framework.tensor_pb2")[0] is sys.modules[tensor_pb2.__name__]
request.inputs["text"].CopyFrom(tf.make_tensor_proto(["b"]))
assert tf.make_ndarray(request.inputs["text"]).tolist() == [b"b"]
"""


@pytest.mark.parametrize(
    "code", [ALONE, pytest.param(ALONE + LATER, marks=pytest.mark.slow)], ids=["alone", "later"]
)
def test_messages_without_tensorflow(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_where_tensorflow_is_loaded_it_is_used():
    assert protos(NAMES[0]) == [tensor_pb2]
    assert package_folder("tensorflow") == os.path.dirname(tf.__file__)


def test_a_package_that_is_missing():
    with pytest.raises(InputError, match="'no_such_package', which is not installed"):
        package_folder("no_such_package")
