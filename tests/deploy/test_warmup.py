"""Warm-up requests: what is written is read again, and what TF Serving would fail on is named."""

import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from version_folders import put_graph

from kerasft._core import files
from kerasft._core.errors import InputError, MissingExtra
from kerasft.export.deploy.signatures import Input, Signature, read_signatures
from kerasft.export.deploy.warmup import MOST, PLACE, read_warmup, write_warmup
from kerasft.serving.tfrecord import records

TEXT = {"text": ("string", [None])}
SIGNATURES = {
    "serving_default": ("predict", TEXT),
    "pairs": ("predict", TEXT | {"labels": ("string", [None, None])}),
    "token_ids": (
        "predict",
        {"token_ids": ("int32", [None, None]), "padding_mask": ("bool", [None, None])},
    ),
    "fixed": ("predict", {"x": ("float32", [None, 3])}),
    "any": ("predict", {"x": ("float32", None)}),
    "classify": ("classify", {"inputs": ("string", [None])}),
    "regress": ("regress", {"inputs": ("string", [None])}),
    "__saved_model_init_op": ("", {}),
}
ODD = ["free prize", "", "垃圾 👩\u200d💻", "ends in nul\0"]
REQUESTS = {
    "texts": ("serving_default", "predict", {"text": ODD}),
    "bytes": ("serving_default", "predict", {"text": np.array([b"a", b"\xff"], object)}),
    "lists": ("pairs", "predict", {"text": ["a", "b"], "labels": [["x", ""], ["y", "z"]]}),
    "ids": (
        "token_ids",
        "predict",
        {"token_ids": np.array([[1, 2]], "int32"), "padding_mask": np.array([[True, False]])},
    ),
    "a fixed size": ("fixed", "predict", {"x": np.ones((2, 3), "float32")}),
    "any rank": ("any", "predict", {"x": np.ones((2, 3, 4), "float32")}),
    "classify": ("classify", "classify", [{"text": "a", "n": [1, 2], "x": 0.5}, {"text": ["b"]}]),
    "regress": ("regress", "regress", [{"text": "a"}]),
    "classify, asked as predict": ("classify", "predict", {"inputs": [b"..."]}),
}


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return put_graph(tmp_path_factory.mktemp("saved_models") / "spam" / "3", SIGNATURES)


@pytest.fixture
def version(graph, tmp_path):
    files.write_bytes(tmp_path / "3" / "saved_model.pb", (graph / "saved_model.pb").read_bytes())
    return tmp_path / "3"


def put(folder, *records):
    """A TFRecord of these bytes."""
    path = folder / PLACE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


def log_of(signature="serving_default", **inputs):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    for name, value in inputs.items():
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return log


GOOD = log_of(text=["a"]).SerializeToString()


def plain(value):
    """Texts as bytes, arrays as lists."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict):
        return {n: plain(v if isinstance(v, (list, np.ndarray)) else [v]) for n, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, np.ndarray)) else value


def test_signatures_are_read(graph):
    found = read_signatures(graph)
    assert list(found) == sorted(n for n in SIGNATURES if not n.startswith("__"))
    assert found["fixed"] == Signature("predict", {"x": Input("float32", (None, 3))})
    assert found["classify"].method == "classify"


def test_what_is_written_is_read(version):
    """Fails if an input is left out, or a text goes through numpy, which drops the last NUL."""
    assert write_warmup(version, REQUESTS.values()) == str(version / PLACE)
    found = read_warmup(version)
    assert [request[:2] for request in found] == [request[:2] for request in REQUESTS.values()]
    for (_, _, got), (_, _, meant) in zip(found, REQUESTS.values(), strict=True):
        assert plain(got) == plain(meant)
    written = (version / PLACE).read_bytes()
    write_warmup(version, found)
    assert (version / PLACE).read_bytes() == written


def test_the_records_are_prediction_logs(version):
    write_warmup(version, [REQUESTS["texts"], REQUESTS["regress"]])
    first, second = tf.data.TFRecordDataset(str(version / PLACE)).as_numpy_iterator()
    log = prediction_log_pb2.PredictionLog.FromString(first)
    assert log.predict_log.request.model_spec.signature_name == "serving_default"
    assert list(tf.make_ndarray(log.predict_log.request.inputs["text"])) == plain(ODD)
    log = prediction_log_pb2.PredictionLog.FromString(second)
    (example,) = log.regress_log.request.input.example_list.examples
    assert list(example.features.feature["text"].bytes_list.value) == [b"a"]


def test_the_server_reads_tensorflows_records_without_it(tmp_path):
    """And finds any bit that is wrong, wherever it lies, as TensorFlow does."""
    (tmp_path / "assets.extra").mkdir()
    path = put(tmp_path, b"", b"abc", bytes(range(256)))
    assert list(records(path, checked=True)) == [b"", b"abc", bytes(range(256))]
    path = put(tmp_path, b"abc", b"d")
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert None in records(path, checked=True)


WRONG = {
    "no signature of that name": (("serve", "predict", {"text": ["a"]}), "Received: 'serve'"),
    "no such input": (("serving_default", "predict", {"txt": ["a"]}), "inputs text. Received: txt"),
    "an input is missing": (("pairs", "predict", {"text": ["a"]}), "labels, text. Received: text"),
    "an input too many": (
        ("serving_default", "predict", {"text": ["a"], "labels": ["b"]}),
        "inputs text. Received: labels, text",
    ),
    "a wrong dtype": (
        ("token_ids", "predict", {"token_ids": np.ones((1, 2), "int64"), "padding_mask": [[True]]}),
        "must be int32 [any, any]. Received: int64 [1, 2]",
    ),
    "a wrong rank": (
        ("serving_default", "predict", {"text": "a"}),
        "must be string [any]. Received: string []",
    ),
    "a wrong size": (
        ("fixed", "predict", {"x": np.ones((2, 4), "float32")}),
        "must be float32 [any, 3]. Received: float32 [2, 4]",
    ),
    "unlike batches": (
        ("pairs", "predict", {"text": ["a"], "labels": [["x"], ["y"]]}),
        "Received: labels 2, text 1",
    ),
    "no rows": (
        ("serving_default", "predict", {"text": np.array([], object)}),
        "Received",
    ),
    "a list that is no array": (
        ("serving_default", "predict", {"text": [["a"], ["b", "c"]]}),
        "array",
    ),
    "a wrong method": (("serving_default", "classify", [{"text": "a"}]), "asked with predict"),
    "no method": (("serving_default", "generate", {}), "Received: 'generate'"),
    "no example": (("classify", "classify", []), "at least one example"),
    "arrays for classify": (("classify", "classify", {"text": ["a"]}), "list of examples"),
    "examples for predict": (("serving_default", "predict", [{"text": "a"}]), "arrays by name"),
    "an example that is none": (("classify", "classify", ["a"]), "feature -> value"),
    "a feature that is none": (("classify", "classify", [{"text": None}]), "'text'"),
    "no request": ("serving_default", "(signature, method, inputs)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_request_that_would_fail_is_named_and_nothing_is_written(version, name):
    request, said = WRONG[name]
    with pytest.raises(InputError) as told:
        write_warmup(version, [REQUESTS["texts"], request])
    assert said in str(told.value) and "Warm-up request 2" in str(told.value)
    assert not (version / PLACE).exists()


def test_as_many_requests_as_tf_serving_takes(version):
    one = REQUESTS["texts"]
    write_warmup(version, [one] * MOST)
    assert len(read_warmup(version)) == MOST == 1000
    for number in (0, MOST + 1):
        with pytest.raises(InputError, match="at least one|at most 1,000"):
            write_warmup(version, [one] * number)
    put(version, *[GOOD] * (MOST + 1))
    with pytest.raises(InputError, match="at most 1,000"):
        read_warmup(version)


def damaged(at):
    def change(data):
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return change


SIZE = 16 + len(GOOD)  # of one record


@pytest.mark.parametrize(
    "change",
    [
        damaged(SIZE),  # the length of the second record
        damaged(SIZE + 8),  # the check sum of the length
        damaged(SIZE + 14),  # its data
        damaged(2 * SIZE - 1),  # the check sum of the data
        lambda data: data[: SIZE + 5],
        lambda data: data[: 2 * SIZE - 2],
    ],
)
def test_a_damaged_record_is_named(version, change):
    path = put(version, GOOD, GOOD)
    assert len(read_warmup(version)) == 2
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match="record 2 is damaged"):
        read_warmup(version)


def unlike(**changes):
    """A log whose tensor says of itself what is not so."""
    log = log_of(text=["a"])
    tensor = log.predict_log.request.inputs["text"]
    for name, value in changes.items():
        if name == "unknown_rank":
            tensor.tensor_shape.unknown_rank = value
        else:
            setattr(tensor, name, value)
    return log


FOREIGN = {
    "no log": (b"\xff\xff", "is no PredictionLog"),
    "an empty log": (b"", "Received: None"),
    "another kind": (
        prediction_log_pb2.PredictionLog(session_run_log={}).SerializeToString(),
        "session_run_log",
    ),
    "another signature": (log_of("old", text=["a"]).SerializeToString(), "Received: 'old'"),
    "another dtype": (log_of(text=[1]).SerializeToString(), "Received: int32 [1]"),
    "no dtype": (unlike(dtype=0).SerializeToString(), "no dtype"),
    "an unknown dtype": (unlike(dtype=99).SerializeToString(), "dtype"),
    "no rank": (unlike(unknown_rank=True).SerializeToString(), "no shape"),
    "half a float": (
        unlike(dtype=1, tensor_content=b"abc").SerializeToString(),
        "must be string [any]",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_record_of_others_that_would_fail_is_named(version, name):
    record, said = FOREIGN[name]
    put(version, GOOD, record, GOOD)
    with pytest.raises(InputError) as told:
        read_warmup(version)
    assert said in str(told.value) and "record 2" in str(told.value)


def test_values_that_do_not_fill_their_shape(version):
    log = log_of("fixed", x=np.ones((2, 3), "float32"))
    log.predict_log.request.inputs["x"].tensor_content = b"abc"
    put(version, log.SerializeToString())
    with pytest.raises(InputError, match="does not hold the values of its shape"):
        read_warmup(version)


def test_a_folder_without_a_model_or_a_file(version, tmp_path):
    with pytest.raises(InputError, match="There is no file .*tf_serving_warmup_requests"):
        read_warmup(version)
    with pytest.raises(InputError, match="There is no file .*saved_model.pb"):
        write_warmup(tmp_path / "4", [REQUESTS["texts"]])
    (version / "saved_model.pb").write_bytes(b"\xff\xff")
    with pytest.raises(InputError, match="is damaged"):
        write_warmup(version, [REQUESTS["texts"]])


def test_without_the_package_it_is_said_what_to_install(version, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis.prediction_log_pb2", None)
    with pytest.raises(MissingExtra, match=r"pip install 'kerasft\[serving\]'"):
        write_warmup(version, [REQUESTS["texts"]])
