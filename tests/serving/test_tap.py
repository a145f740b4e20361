"""The server's log of requests: what is in it, what is not, and that no request waits for it."""

import errno
import io
import json
import os
import re
import threading
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from half_plus_two import LONGEST, Running, Spec, signature, until

from kerasft._core.errors import InputError
from kerasft.cli.failures import INPUT
from kerasft.cli.main import run
from kerasft.export.profile import PLACE, Feature, Reference
from kerasft.serving import Options, Tap, single, tap, tensors
from kerasft.serving._protos import Example, classification_pb2, predict_pb2
from kerasft.serving.errors import ServingError
from kerasft.serving.monitor.rows import parse

TEXT, SECRET = Spec("string", (None,)), "Our secret takeover of ACME"


class Opinions:
    """A classifier of texts in NumPy: those with "bad" are negative. One token a word."""

    signatures = {
        "serving_default": signature(
            "predict",
            {"text": TEXT},
            {"label": TEXT, "probabilities": Spec("float32", (None, 2)), "answer": TEXT},
        ),
        "classify": signature(
            "classify",
            {"inputs": TEXT},
            {"classes": Spec("string", (None, 2)), "scores": Spec("float32", (None, 2))},
        ),
        "tokenize": signature(
            "predict",
            {"text": TEXT},
            {n: Spec("int32", (None, None)) for n in ("token_ids", "start", "end")},
        ),
    }

    def run(self, name, inputs):
        return getattr(self, name)(**inputs)

    def close(self):
        pass

    def serving_default(self, text):
        bad = np.array([b"bad" in t for t in text])
        label = np.where(bad, b"negative", b"positive").astype(object)
        sure = np.where(bad, 0.9, 0.2).astype(np.float32)
        both = np.stack([sure, 1 - sure], 1)
        return {"label": label, "probabilities": both, "answer": text}

    def classify(self, inputs):
        texts = [Example.FromString(v).features.feature["text"].bytes_list.value for v in inputs]
        found = self.serving_default(np.array([t[0] for t in texts], object))
        classes = np.empty(found["probabilities"].shape, object)
        classes[:] = [b"negative", b"positive"]
        return {"classes": classes, "scores": found["probabilities"]}

    def tokenize(self, text):
        words = [t.split() for t in text]
        most = max(map(len, words), default=0)
        ids = np.zeros((len(words), most), np.int32)
        start = np.full((len(words), most), -1, np.int32)
        for i, row in enumerate(words):
            ids[i, : len(row)] = [100 if w == b"zyx" else 7 for w in row]
            start[i, : len(row)] = range(len(row))
        return {"token_ids": ids, "start": start, "end": start}


@pytest.fixture
def served(tmp_path):
    """A function that serves with a tap, and a place for its log."""
    version = tmp_path / "desk" / "1"
    reference = Reference("text-classification", ("negative", "positive"), unknown_id=100)
    reference.save(version / PLACE)
    (version / "saved_model.pb").write_text("")

    def serve(texts=False, most=10**6, path=tmp_path / "log", **more):
        log = Tap(str(path), texts, most)
        found = Running(
            tmp_path / "desk", models=single(str(tmp_path / "desk")), load=Load(), log=log, **more
        )
        found.log = tmp_path / "log"
        return found

    return serve


class Load:
    made: dict = {}

    def __call__(self, folder):
        return Opinions()


def ask(running, *texts, verb="predict", key="instances", signature="serving_default"):
    body = {"signature_name": signature, key: [{"text": t} for t in texts]}
    status, answer = running.ask("POST", f"/v1/models/desk:{verb}", body)
    assert status == 200, answer
    return answer


def lines(running):
    """What was logged, when the server has ended."""
    running.stop()
    return [json.loads(line) for line in running.log.read_text(encoding="utf-8").splitlines()]


def page(running):
    return running.ask("GET", "/monitoring/prometheus/metrics")[1]


def test_a_row_of_each_request_without_its_texts(served):
    with served() as running:
        ask(running, f"{SECRET} is bad", "good zyx")
        found = lines(running)
        text = running.log.read_text()
    assert [row["outputs"]["label"] for row in found] == ["negative", "positive"]
    assert [row["features"] for row in found] == [
        {"text_characters": len(SECRET) + 7, "text_tokens": 7, "text_unknown": 0},
        {"text_characters": 8, "text_tokens": 2, "text_unknown": 0.5},
    ]
    assert found[0]["outputs"]["probabilities"] == [0.9, 0.1]
    assert (found[0]["model"], found[0]["version"]) == ("desk", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found[0]["time"])
    assert datetime.fromisoformat(found[0]["time"]).utcoffset().total_seconds() == 0
    # Neither what was asked nor an answer that is a text.
    assert "secret" not in text and found[0]["inputs"] == {} and "answer" not in found[0]["outputs"]


def test_texts_when_they_are_asked_for(served):
    with served(texts=True) as running:
        ask(running, f"{SECRET} ünïcödé")
        (row,) = lines(running)
    assert row["inputs"] == {"text": f"{SECRET} ünïcödé"}
    assert row["outputs"]["answer"] == f"{SECRET} ünïcödé"


def test_classify_and_grpc_are_logged_alike(served):
    with served() as running:
        ask(running, "all bad", verb="classify", key="examples", signature="classify")
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "desk"
        texts = np.array([b"all bad"], object)
        request.inputs["text"].CopyFrom(tensors.to_proto(texts))
        running.predictions.Predict(request, timeout=LONGEST)
        request = classification_pb2.ClassificationRequest()
        request.model_spec.name, request.model_spec.signature_name = "desk", "classify"
        example = request.input.example_list.examples.add()
        example.features.feature["text"].bytes_list.value.append(b"all bad")
        running.predictions.Classify(request, timeout=LONGEST)
        found = lines(running)
    assert [sorted(row["outputs"]) for row in found] == [
        ["classes", "scores"],
        ["label", "probabilities"],
        ["classes", "scores"],
    ]
    read = [parse(json.dumps(row).encode()) for row in found]
    assert {row.classes for row in read} == {("negative",)}
    assert {row.features["text_tokens"] for row in read} == {2}
    assert {row.features["confidence"] for row in read} == {0.9}


def test_other_signatures_and_refused_requests_are_not_logged(served):
    with served() as running:
        body = {"signature_name": "tokenize", "instances": [{"text": "a"}]}
        assert running.ask("POST", "/v1/models/desk:predict", body)[0] == 200
        assert running.ask("POST", "/v1/models/desk:predict", {"instances": [{"x": 1}]})[0] == 400
        assert lines(running) == []


def test_the_file_is_turned_over_at_its_size(served):
    with served(most=2000) as running:
        for i in range(40):
            ask(running, f"good {i}")
        lines(running)
        sizes = [p.stat().st_size for p in (running.log, Path(f"{running.log}.1"))]
    assert 0 < sizes[0] <= 2000 and 1000 < sizes[1] <= 2000


def test_a_queue_that_is_full_drops_and_counts_and_answers(served, monkeypatch):
    gate = threading.Event()
    whole = tap.Writer._write
    monkeypatch.setattr(tap.Writer, "_write", lambda *a: gate.wait(LONGEST) and whole(*a))
    monkeypatch.setattr(tap, "_ROWS", 3)
    with served() as running:
        for _ in range(5):
            ask(running, "good", "bad")  # nobody writes, and each is answered
        assert "kerasft_log_rows_dropped_total 8.0" in page(running)
        gate.set()
        until(lambda: "kerasft_log_rows_total 2.0" in page(running))
        assert len(lines(running)) == 2


def test_a_disk_that_fails_drops_and_counts_and_comes_back(served, monkeypatch):
    whole, full = tap.Writer._write, [True]

    def write(*args):
        if full[0]:
            raise OSError(28, "No space left on device")
        return whole(*args)

    monkeypatch.setattr(tap.Writer, "_write", write)
    with served() as running:
        ask(running, "good")
        until(lambda: "kerasft_log_rows_dropped_total 1.0" in page(running))
        full[0] = False
        ask(running, "bad")
        assert [row["outputs"]["label"] for row in lines(running)] == ["negative"]


def test_a_full_disk_leaves_no_half_line(served, monkeypatch):
    """A disk takes what it has room for before it refuses the rest."""
    room = [10]

    class Small(io.FileIO):
        def write(self, data):
            taken = super().write(bytes(data)[: room[0]])
            room[0] -= taken
            if not taken:
                raise OSError(errno.ENOSPC, "No space left on device")
            return taken

    monkeypatch.setattr(tap.Writer, "_opened", lambda self: Small(self._tap.path, "ab"))
    with served() as running:
        ask(running, "good")
        until(lambda: "kerasft_log_rows_dropped_total 1.0" in page(running))
        room[0] = 10**6
        ask(running, "bad")
        # Fails where what the disk took of the first line stays before the second.
        assert [row["outputs"]["label"] for row in lines(running)] == ["negative"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_log_on_a_full_disk_costs_its_rows_alone(served, caplog):
    with served(path="/dev/full") as running:
        for _ in range(3):
            ask(running, "good")
        until(lambda: "kerasft_log_rows_dropped_total 3.0" in page(running))
    told = [record.message for record in caplog.records if "is not written" in record.message]
    assert len(told) == 1 and "No space left" in told[0]  # once, not for every request


def test_a_model_without_a_tokenizer_logs_lengths_alone(served, monkeypatch):
    few = {n: s for n, s in Opinions.signatures.items() if n != "tokenize"}
    monkeypatch.setattr(Opinions, "signatures", few)
    with served() as running:
        ask(running, "good zyx")
        assert [row["features"] for row in lines(running)] == [{"text_characters": 8}]


def test_without_a_tap_nothing_is_written(served, tmp_path):
    with served() as running:
        pass
    assert Options(single(str(tmp_path / "desk"))).log is None
    with Running(tmp_path / "desk", load=Load()) as running:
        ask(running, "good")
        assert running.server._log is None


def test_a_place_that_cannot_be_written_is_told_at_the_start(tmp_path, capsys):
    (tmp_path / "desk" / "1").mkdir(parents=True)
    with pytest.raises(InputError, match="--log"):
        tap.Writer(Tap(str(tmp_path / "none" / "log")), None)
    assert run(["serve", str(tmp_path / "desk"), "--log-texts"]) == INPUT
    assert "--log-texts" in capsys.readouterr().err
    with pytest.raises(InputError, match="most_bytes"):
        Tap("log", most_bytes=0)


def test_odd_values_are_lines_all_the_same(tmp_path):
    class Version:
        name, version, signatures = "m", 1, {}

    inputs = {"text": np.array([b"\xff\xfe", "\U0001f600\n".encode()], object)}
    outputs = {
        "score": np.array([np.nan, 1e30], np.float32),
        "labels": np.array([[b"a", b""], [b"", b""]], object),
        "table": np.zeros((2, 5000), np.float32),
    }
    found = tap._Answered(
        Version, datetime.fromisoformat("2026-01-01T00:00:00+00:00"), inputs, outputs, False, 2, 0
    )
    rows = tap.rows_of(found, True)
    assert [row["outputs"] for row in rows] == [
        {"score": None, "labels": ["a"]},
        {"score": 1e30, "labels": []},
    ]
    assert [row["features"]["text_characters"] for row in rows] == [2, 2]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_a_feature_of_the_log_is_that_of_the_reference():
    """Both come of one function: fails if a name is changed on one side."""
    assert Feature.of([1.0, 2.0]).rows == 2
    from kerasft.export.profile import measured

    assert list(measured({"text": ["a b"]}, lambda t: [[1, 2]], 2)) == [
        "text_characters",
        "text_tokens",
        "text_unknown",
    ]
    assert measured({"text": ["a b", ""]}, lambda t: [[1, 2], []], 2)["text_unknown"].tolist() == [
        0.5,
        0.0,
    ]


@pytest.mark.parametrize(("code", "lost"), [("UNAVAILABLE", True), ("INTERNAL", False)])
def test_only_an_unloaded_version_leaves_its_tokens_out(code, lost):
    class Gone:
        def answer(self, *_):
            raise ServingError(code, "no")

    if lost:
        assert tap._ids(Gone(), ["good"]) is None
    else:
        with pytest.raises(ServingError):
            tap._ids(Gone(), ["good"])
