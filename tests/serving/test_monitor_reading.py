"""Reading the log: across rotations, lines without an end, and TF Serving's own records."""

import json
import struct

import numpy as np
import pytest
import request_logs as logs

from kerasft._core.errors import InputError
from kerasft.cli.main import run
from kerasft.export._stubs import protos
from kerasft.serving import tensors
from kerasft.serving.monitor import Options, tail, watch
from kerasft.serving.monitor.rows import Broken, of_prediction_log, parse
from kerasft.serving.monitor.tail import Tail

(prediction_log_pb2,) = protos("tensorflow_serving.apis.prediction_log_pb2")


@pytest.fixture
def log(tmp_path):
    """A log and a tail that follows it; what is left open is closed."""
    path = tmp_path / "log"
    found = Tail(str(path))
    yield path, lambda: list(found.lines()), found
    found.close()


def turn(path):
    path.replace(f"{path}.1")


# --- rotation -----------------------------------------------------------------------------------


def test_a_log_that_comes_later_and_grows(log):
    path, new, _ = log
    assert new() == []
    path.write_bytes(b"1\n2\nha")
    assert new() == [b"1", b"2"]
    with path.open("ab") as file:
        file.write(b"lf\n")
    assert new() == [b"half"]
    assert new() == []


def test_what_was_written_before_the_turn_is_read(log):
    path, new, found = log
    path.write_bytes(b"1\n")
    assert new() == [b"1"]
    with path.open("ab") as file:
        file.write(b"2\n")
    turn(path)
    path.write_bytes(b"3\n")
    assert new() == [b"2", b"3"] and found.lost == 0


def test_a_look_between_the_turn_and_the_new_file(log):
    path, new, found = log
    path.write_bytes(b"1\n")
    assert new() == [b"1"]
    turn(path)
    assert new() == []
    path.write_bytes(b"2\n")
    assert new() == [b"2"] and found.lost == 0


def test_two_turns_between_two_looks_are_told(log):
    path, new, found = log
    path.write_bytes(b"1\n")
    assert new() == [b"1"]
    for text in (b"2\n", b"3\n"):
        turn(path)
        path.write_bytes(text)
    assert new() == [b"2", b"3"] and found.lost == 1  # told: more may be lost than is seen
    turn(path)
    path.write_bytes(b"4\n")
    assert new() == [b"4"] and found.lost == 1


def test_it_begins_with_the_file_before(log):
    path, new, found = log
    path.write_bytes(b"1\n")
    turn(path)
    path.write_bytes(b"2\n")
    assert new() == [b"1", b"2"] and found.lost == 0


def test_a_log_that_is_emptied_in_its_place(log):
    path, new, _ = log
    path.write_bytes(b"1\n2\n3\nhal")
    assert len(new()) == 3
    path.write_bytes(b"4\n")
    assert new() == [b"4"]


def test_a_line_without_an_end_is_no_memory_without_an_end(log, monkeypatch):
    path, new, found = log
    monkeypatch.setattr(tail, "MOST", 100)
    monkeypatch.setattr(tail, "_CHUNK", 30)
    path.write_bytes(b"1\n" + b"x" * 1000 + b"\n2\n" + b"y" * 90 + b"\n")
    assert new() == [b"1", None, b"2", b"y" * 90]
    assert len(found._rest) <= 130


def test_a_last_line_without_its_end_counts_where_nobody_follows(tmp_path):
    (tmp_path / "log").write_bytes(b"1\n2")
    found = Tail(str(tmp_path / "log"), wait=False)
    assert list(found.lines()) == [b"1", b"2"]
    found.close()
    with pytest.raises(InputError, match="no file"):
        Tail(str(tmp_path / "none"), wait=False)


# --- rows ---------------------------------------------------------------------------------------


def line(outputs, **more):
    found = {"time": "2026-01-02T03:04:05Z", "model": "m", "outputs": outputs}
    return parse(json.dumps(found | more).encode())


@pytest.mark.parametrize(
    ("outputs", "classes", "features"),
    [
        ({"label": "a", "probabilities": [0.1, 0.9]}, ("a",), {"confidence": 0.9}),
        ({"classes": ["a", "b"], "scores": [0.1, 0.9]}, ("b",), {"confidence": 0.9}),
        ({"labels": ["a", "b"], "probabilities": [0.8, 0.9]}, ("a", "b"), {"confidence": 0.9}),
        ({"labels": []}, (), {}),
        ({"score": 2}, None, {"score": 2.0}),
        ({"outputs": 2.5}, None, {"score": 2.5}),
        ({}, None, {}),
    ],
)
def test_what_each_kind_of_answer_says(outputs, classes, features):
    row = line(outputs)
    assert (row.classes, row.features, row.time) == (classes, features, 1767323045.0)


def test_a_logged_text_has_its_length_again():
    assert line({}, inputs={"text": "four", "n": 3}).features == {"text_characters": 4.0}
    measured = line({}, inputs={"text": "four"}, features={"text_characters": 9})
    assert measured.features == {"text_characters": 9.0}


def test_times_of_other_zones_and_none():
    assert parse(b'{"time": "2026-01-02T04:04:05+01:00", "outputs": {}}').time == 1767323045.0
    assert parse(b'{"time": "2026-01-02T03:04:05", "outputs": {}}').time == 1767323045.0  # UTC
    for wrong in ("null", "5", '"2026-13-02T03:04:05Z"', '"0001-01-01T00:00:00+23:00"', '"now"'):
        with pytest.raises(Broken, match="no time"):
            parse(b'{"time": %s, "outputs": {}}' % wrong.encode())


@pytest.mark.parametrize(
    "outputs",
    [
        {"label": "a", "probabilities": [True]},
        {"label": "a" * 2000},
        {"classes": ["a"], "scores": [1, 2]},
        {"classes": [], "scores": []},
        {"labels": "a"},
        {"labels": [1]},
        {"score": 10**400},
        {"embedding": [1, None]},
    ],
)
def test_answers_that_cannot_be_are_broken(outputs):
    with pytest.raises(Broken):
        line(outputs)


# --- TF Serving's records -----------------------------------------------------------------------


def predict_log(texts, labels):
    log = prediction_log_pb2.PredictionLog()
    held = log.predict_log
    held.request.model_spec.name = "desk"
    asked = np.array([t.encode() for t in texts], object)
    held.request.inputs["text"].CopyFrom(tensors.to_proto(asked))
    answer = np.array([label.encode() for label in labels], object)
    held.response.outputs["label"].CopyFrom(tensors.to_proto(answer))
    sure = np.tile(np.array([[0.75, 0.25]], np.float32), (len(texts), 1))
    held.response.outputs["probabilities"].CopyFrom(tensors.to_proto(sure))
    return log.SerializeToString()


def framed(record):
    return struct.pack("<Q", len(record)) + b"\0" * 4 + record + b"\0" * 4


def test_a_predict_log_is_rows():
    one, two = of_prediction_log(predict_log(["good", "bad day"], ["positive", "negative"]))
    assert (one.model, one.classes, two.classes) == ("desk", ("positive",), ("negative",))
    assert two.features == {"text_characters": 7.0, "confidence": 0.75} and two.time is None


def test_classify_and_regress_logs():
    log = prediction_log_pb2.PredictionLog()
    row = log.classify_log.response.result.classifications.add()
    for label, score in (("a", 0.25), ("b", 0.75)):
        row.classes.add(label=label, score=score)
    (found,) = of_prediction_log(log.SerializeToString())
    assert found.classes == ("b",) and found.features == {"confidence": 0.75}
    log = prediction_log_pb2.PredictionLog()
    log.regress_log.response.result.regressions.add(value=1.5)
    (found,) = of_prediction_log(log.SerializeToString())
    assert found.classes is None and found.features == {"score": 1.5}


def test_records_that_are_none_are_broken():
    for record in (b"\xff\xff", b"", b"text"):
        with pytest.raises(Broken):
            list(of_prediction_log(record))


def test_a_tfrecord_is_watched(tmp_path, capsys):
    logs.reference().save(tmp_path / "reference.json")
    path = tmp_path / "requests.tfrecord"
    texts = ["x" * 115] * 60
    records_of = [
        predict_log(texts, ["negative"] * 60),
        b"\xff\xff",
        predict_log(texts, ["neutral"] * 60),
    ]
    path.write_bytes(b"".join(map(framed, records_of)) + b"\x07\0")
    options = Options(str(path), str(tmp_path / "reference.json"), "60")
    view = watch(options)
    assert view.rows == 120 and sum(view.broken.values()) == 2
    shares = {f.key: f.value for f, _ in view.findings if f.quantity == "class_share"}
    assert shares == {"negative": 0, "neutral": 1, "positive": 0}
    words = ["monitor", str(path), "--reference", str(tmp_path / "reference.json")]
    assert run([*words, "--window", "1h"]) == 2
    assert "holds no times" in capsys.readouterr().err
