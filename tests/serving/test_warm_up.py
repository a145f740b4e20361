"""Warm-up requests are answered before a version is available, or it does not become so."""

import struct

import numpy as np
import pytest
from half_plus_two import Loads, Running, write_version

from kerasft._core.errors import InputError
from kerasft.serving import Options, tensors
from kerasft.serving._protos import Example, prediction_log_pb2
from kerasft.serving.tfrecord import check_sum
from kerasft.serving.warmup import PLACE

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def predicts(values, signature="", name="x"):
    log = prediction_log_pb2.PredictionLog()
    asked = log.predict_log.request
    asked.model_spec.signature_name = signature
    asked.inputs[name].CopyFrom(tensors.to_proto(np.array(values, np.float32)))
    return log


def examples(kind, *values, signature=None):
    log = prediction_log_pb2.PredictionLog()
    asked = getattr(log, f"{kind}_log").request
    asked.model_spec.signature_name = signature or kind
    for value in values:
        example = Example()
        example.features.feature["x"].float_list.value.append(value)
        asked.input.example_list.examples.append(example)
    return log


def both(*values, methods=(CLASSIFY, REGRESS)):
    log = prediction_log_pb2.PredictionLog()
    asked = log.multi_inference_log.request
    for method in methods:
        task = asked.tasks.add(method_name=method)
        task.model_spec.signature_name = method.rpartition("/")[2]
    source = examples("regress", *values).regress_log.request.input
    asked.input.CopyFrom(source)
    return log


def session_run():
    log = prediction_log_pb2.PredictionLog()
    log.session_run_log.request.model_spec.name = "half"
    return log


def framed(data):
    size = struct.pack("<Q", len(data))
    return size + check_sum(size) + data + check_sum(data)


def write(folder, version, *logs, plus=2.0, raw=b""):
    """A version with warm-up requests, which appears whole."""
    aside = folder.parent / f"aside-{version}"
    write_version(aside, version, plus)
    place = aside / str(version) / PLACE
    place.parent.mkdir()
    place.write_bytes(b"".join(framed(log.SerializeToString()) for log in logs) + raw)
    (aside / str(version)).rename(folder / str(version))


def poll(running):
    running.call(running.core.models.poll())


def status(running, version):
    return running.core.models.status("half")[version]


class Watching(Loads):
    """Notes the state of a version while each of its requests runs."""

    running = None

    def __init__(self):
        super().__init__()
        self.states = {}

    def __call__(self, folder):
        model, version = super().__call__(folder), int(folder.rpartition("/")[2])
        run = model.run

        def watched(name, inputs):
            if self.running:
                state = status(self.running, version).state
                self.states.setdefault(version, []).append((name, state))
            return run(name, inputs)

        model.run = watched
        return model


def test_every_request_is_answered_before_the_version_is_available(folder):
    loads = Watching()
    with Running(folder, load=loads) as running:
        loads.running = running
        logs = predicts([1.0, 2.0]), examples("classify", 0.5), examples("regress", 1.0), both(5.0)
        write(folder, 2, *logs, plus=3.0)
        poll(running)
        # Fails where they run after the switch, or not at all.
        names = ["serving_default", "classify", "regress", "classify", "regress"]
        assert loads.states == {2: [(name, "LOADING") for name in names]}
        assert running.predict([1.0])[1] == {"predictions": [3.5]}
        assert loads.states[2][-1] == ("serving_default", "AVAILABLE")
        first = loads.made[2].batches[0]
        assert first["x"].tolist() == [1.0, 2.0]
        page = running.ask("GET", "/monitoring/prometheus/metrics")[1]
    where = f'model_path="{folder}/2",status="OK"'
    assert f":tensorflow:serving:model_warmup_latency_count{{{where}}} 1.0" in page
    # Nobody sent them: one request was counted, the one behind the switch.
    assert ':tensorflow:serving:request_count{model_name="half",status="OK"} 1.0' in page
    assert "request_example_count_total{" not in page


BAD = {
    "a row that the model refuses": (predicts([-1.0]), "INVALID_ARGUMENT", "a row of -1"),
    "a failure of the model's own": (predicts([-2.0]), "INTERNAL", "ValueError: a failure"),
    "an unknown signature": (predicts([1.0], "no"), "FAILED_PRECONDITION", '"no" not found'),
    "an unknown input": (predicts([1.0], name="z"), "INVALID_ARGUMENT", "Missing but required"),
    "another shape": (predicts([[1.0]]), "INVALID_ARGUMENT", "expects shape ['?']"),
    "another method": (
        examples("classify", 1.0, signature="regress"),
        "INVALID_ARGUMENT",
        "Expected classification signature",
    ),
    "no example": (examples("regress"), "INVALID_ARGUMENT", "Input is empty"),
    "a method that is none": (both(1.0, methods=("x/y",)), "UNIMPLEMENTED", "x/y"),
    "a call of the session": (session_run(), "UNIMPLEMENTED", "session_run_log"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_record_refuses_the_version_and_the_old_one_goes_on(folder, bad):
    log, code, message = BAD[bad]
    with Running(folder) as running:
        write(folder, 2, predicts([1.0]), log, plus=3.0)
        poll(running)
        found = status(running, 2)
        assert (found.state, found.code) == ("END", code)
        assert f"Record 2 of {folder}/2/{PLACE}" in found.message and message in found.message
        assert running.loads.made[2].closed  # its memory is given back
        assert running.predict([1.0]) == (200, {"predictions": [2.5]})
        assert running.predict([1.0], "/versions/2")[0] == 404
        # Once its files have changed it is tried again.
        (folder / "2" / PLACE).unlink()
        poll(running)
        assert running.predict([1.0])[1] == {"predictions": [3.5]}


GOOD = framed(predicts([1.0]).SerializeToString())


@pytest.mark.parametrize(
    ("raw", "number", "code", "message"),
    [
        (GOOD[:-1], 1, "DATA_LOSS", "damaged"),
        (GOOD + GOOD[:5], 2, "DATA_LOSS", "damaged"),
        (GOOD[:20] + bytes([GOOD[20] ^ 1]) + GOOD[21:], 1, "DATA_LOSS", "damaged"),
        (GOOD[:9] + bytes([GOOD[9] ^ 1]) + GOOD[10:], 1, "DATA_LOSS", "damaged"),
        (b"no TFRecord at all", 1, "DATA_LOSS", "damaged"),
        (framed(b"\xff\xff"), 1, "INVALID_ARGUMENT", "is no PredictionLog"),
    ],
    ids=["cut off", "cut in a head", "a bit", "a bit of a check sum", "another file", "no log"],
)
def test_a_damaged_file_refuses_the_version(folder, raw, number, code, message):
    with Running(folder) as running:
        write(folder, 2, raw=raw)
        poll(running)
        found = status(running, 2)
        assert (found.state, found.code) == ("END", code)
        assert f"Record {number} of" in found.message and message in found.message


def test_a_server_does_not_start_on_a_version_that_is_not_warm(folder):
    write(folder, 2, predicts([-1.0]))
    with pytest.raises(InputError, match=r"2 does not load: Record 1 of .*a row of -1"):
        Running(folder).__enter__()


def test_a_log_without_a_request_is_passed_over_and_an_empty_file_is_none(folder):
    write(folder, 2, prediction_log_pb2.PredictionLog())
    write(folder, 3)
    with Running(folder) as running:
        assert running.core.models.versions() == {"half": [3]}
        assert not running.loads.made[3].batches


def test_a_thousand_records_and_no_more(folder):
    # 10 of the examples would make 10 runs; a log without a request takes no time.
    none = [prediction_log_pb2.PredictionLog()]
    with Running(folder) as running:
        write(folder, 2, *none * 999, predicts([1.0]), plus=3.0)
        poll(running)
        assert running.predict([1.0])[1] == {"predictions": [3.5]}
        write(folder, 3, *none * 1001)
        poll(running)
        assert "more than 1,000 records" in status(running, 3).message
        assert status(running, 3).code == "INVALID_ARGUMENT"


def test_what_takes_too_long_is_left_out(folder, monkeypatch, caplog):
    write(folder, 2, predicts([1.0]), predicts([2.0]), predicts([-1.0]))
    with caplog.at_level("INFO", "kerasft.serving"), Running(folder, warm_up=1e-9) as running:
        assert running.loads.made[2].batches == []
        assert "0 warm-up requests answered" in caplog.text
        assert "left out after 1e-09 seconds" in caplog.text


def test_the_option_leaves_them_out(folder):
    write(folder, 2, predicts([-1.0]))
    with Running(folder, warm_up=0) as running:
        assert running.core.models.versions() == {"half": [2]}
        assert not running.loads.made[2].batches
    for wrong in (-1, float("nan")):
        with pytest.raises(InputError, match="warm_up is at least 0"):
            Options((), warm_up=wrong)


def test_outputs_are_checked_too(folder):
    """As for any request: a Regress that gives two numbers a row is an error."""

    class Wide(Loads):
        def __call__(self, place):
            model = super().__call__(place)
            model.regress = lambda inputs: {"outputs": np.zeros((len(inputs), 2), np.float32)}
            return model

    with Running(folder, load=Wide()) as running:
        write(folder, 2, examples("regress", 1.0))
        poll(running)
        assert "Expected output Tensor shape" in status(running, 2).message
