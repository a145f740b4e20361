"""The gate: what is wrong with a SavedModel is found in its files."""

import os

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kerasft._core.errors import KerasftError
from kerasft.export.gate import check_saved_model

TEXT = tf.TensorSpec([None], tf.string, name="text")
PARAMETERS = 4_000_000  # bytes: larger than the slack for what else a checkpoint holds


def write(folder, answer, *more, signature=(TEXT,)):
    """A SavedModel of a million weights whose only signature is `answer(weights, ...)`."""
    module = tf.Module()
    module.weights = [tf.Variable(np.ones(PARAMETERS // 4, np.float32)), *more]
    function = tf.function(lambda *values: answer(module.weights, *values), signature)
    tf.saved_model.save(module, folder, signatures={"serving_default": function})
    return folder


def lengths(weights, text):
    return {"length": tf.cast(tf.strings.length(text), tf.float32) * weights[0][0]}


def edit(folder, change):
    """Change the protocol buffer of a SavedModel."""
    path = os.path.join(folder, "saved_model.pb")
    proto = saved_model_pb2.SavedModel()
    with open(path, "rb") as file:
        proto.ParseFromString(file.read())
    change(proto.meta_graphs[0])
    with open(path, "wb") as file:
        file.write(proto.SerializeToString())


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write(str(tmp_path_factory.mktemp("good")), lengths)


@pytest.fixture
def copy(good, tmp_path):
    tf.io.gfile.makedirs(str(tmp_path / "variables"))
    for name in ("saved_model.pb", *(f"variables/{n}" for n in os.listdir(f"{good}/variables"))):
        tf.io.gfile.copy(f"{good}/{name}", str(tmp_path / name))
    return str(tmp_path)


def rename_op(new):
    def change(graph):
        nodes = [n for f in graph.graph_def.library.function for n in f.node_def]
        next(n for n in nodes if n.op == "StringLength").op = new

    return change


def test_a_good_one_passes(good):
    found = check_saved_model(good, PARAMETERS)
    assert found["ops"] > 3 and found["tables"] == []
    assert PARAMETERS < found["checkpoint_bytes"] < 1.1 * PARAMETERS


def test_python_in_the_graph_is_refused(tmp_path):
    def python(weights, text):
        count = tf.numpy_function(lambda t: np.float32([len(x) for x in t]), [text], tf.float32)
        return {"length": tf.ensure_shape(count, [None]) * weights[0][0]}

    with pytest.raises(KerasftError, match="cannot run: .*PyFunc"):
        check_saved_model(write(str(tmp_path), python), PARAMETERS)


@pytest.mark.parametrize(
    ("op", "said"),
    [
        ("XlaDynamicUpdateSlice", "cannot run: XlaDynamicUpdateSlice"),
        ("EagerPyFunc", "cannot run: EagerPyFunc"),
        ("DecisionForestsInference", "nor tensorflow-text's.*DecisionForestsInference"),
    ],
)
def test_ops_that_serving_lacks_are_refused(copy, op, said):
    edit(copy, rename_op(op))
    with pytest.raises(KerasftError, match=said):
        check_saved_model(copy, PARAMETERS)


@pytest.mark.parametrize("op", ["TFText>RoundRobinTrim", "CaseFoldUTF8", "StringUpper"])
def test_ops_of_tensorflow_and_of_its_text_library_pass(copy, op):
    edit(copy, rename_op(op))
    check_saved_model(copy, PARAMETERS)


def test_weights_stored_twice_are_refused(tmp_path):
    twice = tf.Variable(np.ones(PARAMETERS // 4, np.float32))
    folder = write(str(tmp_path), lengths, twice)
    with pytest.raises(KerasftError, match="more than once"):
        check_saved_model(folder, PARAMETERS)
    check_saved_model(folder, 2 * PARAMETERS)


@pytest.mark.parametrize(
    "output",
    [
        lambda weights, text: tf.reduce_sum(tf.strings.length(text)),
        lambda weights, text: weights[0],
        lambda weights, text: tf.ensure_shape(tf.strings.length(text), [4]),
    ],
    ids=["a scalar", "a weight", "a batch of four"],
)
def test_an_output_without_the_batch_is_refused(tmp_path, output):
    folder = write(str(tmp_path), lambda weights, text: {"odd": output(weights, text)})
    with pytest.raises(KerasftError, match="'odd' of serving_default lacks the batch"):
        check_saved_model(folder, PARAMETERS)


def test_tables_that_grow_are_told(copy):
    edit(copy, rename_op("MutableHashTableV2"))
    assert check_saved_model(copy, PARAMETERS)["tables"] == ["MutableHashTableV2"]
