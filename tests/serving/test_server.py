"""From the start of a server to its end, in this process and in one of its own."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from half_plus_two import LONGEST, Loads, Running, until

from kerasft._core.errors import InputError
from kerasft.serving import Batching, Options, read_batching, read_models, single, tensors
from kerasft.serving._protos import predict_pb2
from kerasft.serving.config import read_monitoring
from kerasft.serving.server import Server


def closed(port):
    with socket.socket() as made:
        return made.connect_ex(("127.0.0.1", port)) != 0


def by_rest(running):
    status, answer = running.predict([1.0])
    return answer["predictions"] if status == 200 else status


def by_grpc(running):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half"
    request.inputs["x"].CopyFrom(tensors.to_proto(np.array([1.0], np.float32)))
    return list(running.predictions.Predict(request, timeout=LONGEST).outputs["y"].float_val)


@pytest.mark.parametrize("ask", [by_rest, by_grpc])
def test_the_end_waits_for_what_runs_and_takes_nothing_new(folder, ask):
    with Running(folder) as running:
        model, answers = running.loads.made[1], []
        model.gate.clear()
        slow = threading.Thread(target=lambda: answers.append(ask(running)))
        slow.start()
        until(lambda: model.running)
        ending = threading.Thread(target=running.stop)
        ending.start()
        until(lambda: closed(running.server.rest_port) and closed(running.server.port))
        time.sleep(0.1)  # a door that waits less than its grace would have hung up by now
        assert not running.core.ready and not answers
        model.gate.set()
        slow.join()
        ending.join()
        assert answers == [[2.5]]
        assert running.finished is True
        assert model.closed


@pytest.mark.parametrize("told", [True, False], ids=["told to stop", "not told"])
def test_a_connection_of_the_last_moment_is_closed(folder, monkeypatch, told):
    if not told:
        monkeypatch.setattr(Server, "_accept_no_more", lambda _: asyncio.sleep(0))

    async def connect_and_stop(server, turns):
        with socket.create_connection(("127.0.0.1", server.rest_port)):
            for _ in range(turns):  # of the loop: the connection is accepted in one of them
                await asyncio.sleep(0)
            await server.stop()

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for turns in range(6):
            with Running(folder, grace=0.2) as running:
                running.call(connect_and_stop(running.server, turns))
                running.finished = True
            gc.collect()
    assert not told or not found
    assert told or {w.category for w in found} == {ResourceWarning}


def test_the_end_does_not_wait_longer_than_its_grace(folder):
    with Running(folder, grace=0.1) as running:
        model = running.loads.made[1]
        model.gate.clear()
        slow = threading.Thread(target=_gives_up, args=(running,))
        slow.start()
        until(lambda: model.running)
        began = time.monotonic()
        assert running.stop() is False
        assert time.monotonic() - began < 1
        assert not model.closed  # it still runs
        model.gate.set()
        slow.join()


def _gives_up(running):
    with contextlib.suppress(OSError):  # the server hangs up
        running.predict([1.0])


def test_concurrent_requests_of_both_doors_share_batches(folder):
    batching = Batching(max_batch_size=64, batch_timeout_micros=20_000)
    with Running(folder, batching=batching) as running:
        answers = {}

        def ask(i):
            answers[i] = running.predict([float(i)] * 2)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {i: (200, {"predictions": [i / 2 + 2] * 2}) for i in range(12)}
        assert len(running.loads.made[1].batches) < 12
        page = running.ask("GET", "/monitoring/prometheus/metrics")[1]
        assert ":tensorflow:serving:batching_session:wrapped_run_count " in page


def test_a_full_queue_is_503(folder):
    batching = Batching(max_batch_size=1, max_enqueued_batches=1, num_batch_threads=1)
    with Running(folder, batching=batching) as running:
        model = running.loads.made[1]
        model.gate.clear()
        waiting = [threading.Thread(target=running.predict, args=([1.0],)) for _ in range(2)]
        waiting[0].start()
        until(lambda: model.running)
        waiting[1].start()
        until(lambda: running.core.running == 2)
        status, answer = running.predict([1.0])
        assert status == 503 and "queue" in answer["error"]
        model.gate.set()
        for thread in waiting:
            thread.join()


def test_a_port_in_use_is_said_for_either_door(folder):
    with Running(folder) as running:
        for name, flag in (("rest_port", "--rest-port"), ("port", "--port")):
            port = getattr(running.server, name)
            with pytest.raises(InputError, match=f"Port {port} is in use.*{flag} N"):
                Running(folder, **{name: port}).__enter__()


def test_no_other_grpc_server_shares_the_port_unnoticed(folder, capfd):
    with Running(folder) as running, ThreadPoolExecutor(1) as threads:
        other = grpc.server(threads)  # gRPC lets servers share a port unless both refuse
        with pytest.raises(RuntimeError):
            other.add_insecure_port(f"127.0.0.1:{running.server.port}")
        other.stop(0)


def test_the_metrics_can_be_elsewhere_or_nowhere(folder):
    with Running(folder, metrics_path="/numbers") as running:
        assert running.ask("GET", "/numbers")[0] == 200
        assert running.ask("GET", "/monitoring/prometheus/metrics")[0] == 404
    with Running(folder, metrics_path=None) as running:
        assert running.ask("GET", "/monitoring/prometheus/metrics")[0] == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70_000},
        {"rest_port": -1},
        {"port": 8500, "rest_port": 8500},
        {"timeout": 0},
        {"max_body_bytes": 0},
        {"most_requests": 0},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError, match="Received: "):
        Options((), **wrong)


def test_a_folder_is_served_by_its_name(folder, tmp_path):
    (config,) = single(folder)
    assert (config.name, config.base_path) == ("half", str(folder))
    assert single(folder, "other")[0].name == "other"
    for wrong in (tmp_path / "nowhere", "gs://bucket/half"):
        with pytest.raises(InputError):
            single(wrong)
    with pytest.raises(InputError, match="no / or :"):
        single(folder, "a/b")


def test_a_folder_is_served_as_its_versions_were_chosen(tmp_path):
    from kerasft.export.deploy.config import models_config

    place = tmp_path / "spam" / "deploy" / "models.config"
    place.parent.mkdir(parents=True)
    place.write_text(models_config("spam", "/models/spam", (3, 4), {"stable": 3}))
    (config,) = single(tmp_path / "spam", "mail")
    assert (config.name, config.base_path) == ("mail", str(tmp_path / "spam"))
    assert (config.policy, config.versions, dict(config.labels)) == (
        "specific",
        (3, 4),
        {"stable": 3},
    )
    place.write_text("broken {")
    with pytest.raises(InputError, match="models.config"):
        single(tmp_path / "spam")


def test_the_text_files_of_tf_serving(tmp_path):
    def written(text):
        (tmp_path / "file").write_text(textwrap.dedent(text))
        return tmp_path / "file"

    first, second = read_models(
        written("""
            model_config_list {
              config { name: "a" base_path: "/models/a" model_platform: "tensorflow" }
              config {
                name: "b" base_path: "/models/b" model_platform: "tensorflow"
                model_version_policy { specific { versions: 1 versions: 3 } }
                version_labels { key: "stable" value: 1 }
              }
            }
        """)
    )
    assert (first.policy, first.versions, first.wanted([1, 2])) == ("latest", 1, [2])
    assert (second.policy, second.versions, dict(second.labels)) == (
        "specific",
        (1, 3),
        {"stable": 1},
    )
    batching = read_batching(
        written("""
            max_batch_size { value: 32 }
            batch_timeout_micros { value: 5000 }
            max_enqueued_batches { value: 100 }
            num_batch_threads { value: 4 }
            thread_pool_name { value: "pool" }
            allowed_batch_sizes: 8
            allowed_batch_sizes: 32
            pad_variable_length_inputs: true
        """)
    )
    assert batching == Batching(32, 5000, 100, 4, (8, 32), True)
    assert read_batching(written("")) == Batching()
    monitoring = 'prometheus_config { enable: true path: "/numbers" }'
    assert read_monitoring(written(monitoring)) == "/numbers"
    assert read_monitoring(written("prometheus_config { enable: true }")) == (
        "/monitoring/prometheus/metrics"
    )
    assert read_monitoring(written("")) is None


A = 'config { name: "a" base_path: "/a" model_platform: "tensorflow"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_config_list {", "is not a ModelServerConfig as text"),
        ("max_batch_size { value: 3 }", "is not a ModelServerConfig as text"),
        ("", "needs a model_config_list"),
        ("model_config_list { }", "at least one model"),
        ('model_config_list { config { name: "a" base_path: "/a" } }', "model_platform"),
        (f"model_config_list {{ {A} }} {A} }} }}", "listed once"),
        (f"model_config_list {{ {A.replace('/a', 'a')} }} }}", "absolute"),
        (
            f"model_config_list {{ {A} model_version_policy {{ specific {{ }} }} }} }}",
            "needs versions",
        ),
    ],
)
def test_a_config_that_cannot_be_served_says_why(tmp_path, text, message):
    (tmp_path / "models.config").write_text(text)
    with pytest.raises(InputError, match=message):
        read_models(tmp_path / "models.config")


def test_wrong_batching_and_monitoring_files(tmp_path):
    place = tmp_path / "file"
    for read in (read_models, read_batching, read_monitoring):
        with pytest.raises(InputError, match="There is no file"):
            read(place)
    place.write_text("max_batch_size: 3")  # a plain number, where TF Serving wants { value: 3 }
    with pytest.raises(InputError, match="BatchingParameters"):
        read_batching(place)
    place.write_text('prometheus_config { enable: true path: "/v1/numbers" }')
    with pytest.raises(InputError, match="metrics' path"):
        read_monitoring(place)


# A server in a process of its own, with the fake in place of the C runtime.
ALONE = """
import sys
import half_plus_two
import kerasft.serving.server as server
from kerasft.cli.main import main
server.load_c_model = half_plus_two.Loads(open_gates=sys.argv.pop(1) == "open")
sys.argv[0] = "kerasft"
try:
    main()
finally:
    heavy = sorted({"tensorflow", "keras", "keras_hub"} & set(sys.modules))
    print("heavy:", heavy, file=sys.stderr, flush=True)
"""


class Alone:
    """`kerasft serve ...` in a process; `gate`: "open", or "shut" for a model that never ends."""

    def __init__(self, *args, gate="open"):
        here = str(Path(__file__).parent)
        path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, "-c", ALONE, gate, "serve", *map(str, args)],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
            text=True,
        )

    def ended(self):
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def line(self):
        """The first line that it says where it listens."""
        for line in self.process.stderr:
            if line.startswith("Serving"):
                return line
        raise AssertionError(f"it ended with {self.process.wait()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=60)


def port_of(line):
    return int(line.partition("http://127.0.0.1:")[2].partition("/")[0])


def post(port):
    body = b'{"instances": [1.0]}'
    head = b"POST /v1/models/half:predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    made = socket.create_connection(("127.0.0.1", port), LONGEST)
    made.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return made


def test_the_command_serves_until_it_is_told_to_stop_without_tensorflow(folder):
    with Alone(folder, "--port", 0, "--rest-port", 0) as alone:
        line = alone.line()
        assert "half 1" in line and "gRPC 127.0.0.1:" in line
        with post(port_of(line)) as made:
            assert made.makefile("rb").read().endswith(b'{"predictions": [2.5]}')
        alone.process.send_signal(signal.SIGTERM)
        code, out, err = alone.ended()
        assert (code, out) == (0, "")
        # What imports TensorFlow for Python or Keras on the way shows here.
        assert "heavy: []" in err


def test_the_command_leaves_a_model_that_never_ends_behind(folder):
    with Alone(folder, "--port", 0, "--rest-port", 0, "--grace", 0.2, gate="shut") as alone:
        port = port_of(alone.line())
        with post(port):
            time.sleep(0.1)
            began = time.monotonic()
            alone.process.send_signal(signal.SIGINT)
            code, _, err = alone.ended()
            assert time.monotonic() - began < 8  # the fake waits for 10 seconds
            assert code == 1
            assert "did not finish within 0.2 seconds" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere"], "There is no folder"),
        ([], "Received: neither"),
        (["empty"], "No versions of servable empty"),
        (["broken"], "does not load: no saved_model.pb"),
        (["half", "--model-config-file", "x"], "Received: both"),
        (["--model-config-file", "nowhere"], "There is no file"),
        (["half", "--batching-parameters-file", "nowhere"], "There is no file"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(folder, monkeypatch, args, message, capsys):
    from kerasft.cli.main import run
    from kerasft.serving import server

    monkeypatch.chdir(folder.parent)
    Path("empty").mkdir()
    Path("broken/1").mkdir(parents=True)
    monkeypatch.setattr(server, "load_c_model", Loads())
    assert run(["serve", *args, "--port", "0", "--rest-port", "0"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1 and message in err[0]
