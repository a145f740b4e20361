"""What one client can take: connections, rows, bytes, time; and whose requests are answered."""

import asyncio
import json
import os
import random
import signal
import socket
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from half_plus_two import LONGEST, Running, until

from kerasft.serving import core, json_aside, json_form, rest, tensors
from kerasft.serving._protos import predict_pb2
from kerasft.serving.connections import Hosts
from kerasft.serving.errors import ServingError

PREDICT = "/v1/models/half:predict"


def raw(running, data, wait=True):
    """Bytes over a connection of their own; what comes until it is closed."""
    made = socket.create_connection(("127.0.0.1", running.server.rest_port), LONGEST)
    made.sendall(data)
    if not wait:
        return made
    with made:
        return made.makefile("rb").read()


def error_of(answer):
    """The status of an HTTP answer, and its {"error": ...}."""
    head, _, body = answer.partition(b"\r\n\r\n")
    found = json.loads(body)
    assert list(found) == ["error"] and b"application/json" in head
    return int(head.split()[1]), found["error"]


# The header Host


@pytest.mark.parametrize(
    ("header", "names", "bound", "fine"),
    [
        ("localhost", (), "127.0.0.1", True),
        ("LocalHost:8501", (), "127.0.0.1", True),
        ("localhost.:8501", (), "127.0.0.1", True),
        ("me.localhost", (), "127.0.0.1", True),
        ("127.0.0.1:8501", (), "127.0.0.1", True),
        ("127.8.8.8", (), "127.0.0.1", True),
        ("[::1]:8501", (), "::1", True),
        ("::1", (), "::1", True),
        ("evil.example", (), "127.0.0.1", False),
        ("evil.example", (), "::1", False),
        ("localhost.evil.example", (), "127.0.0.1", False),
        ("evil.example:localhost", (), "127.0.0.1", False),
        ("notlocalhost", (), "127.0.0.1", False),
        ("127.0.0.1.evil.example:80", (), "127.0.0.1", False),
        ("10.0.0.1", (), "127.0.0.1", False),
        ("", (), "127.0.0.1", False),
        ("evil.example", (), "0.0.0.0", True),
        ("10.0.0.1:8501", (), "10.0.0.1", True),
        ("desk.lan:8501", ("desk.lan",), "127.0.0.1", True),
        ("DESK.lan", ("Desk.LAN",), "0.0.0.0", True),
        ("localhost", ("desk.lan",), "0.0.0.0", True),
        ("evil.example", ("desk.lan",), "0.0.0.0", False),
        ("evil.example", ("*",), "127.0.0.1", True),
    ],
)
def test_by_which_names_a_server_is_asked(header, names, bound, fine):
    assert Hosts(names, bound).answers_to(header) == fine


@pytest.mark.parametrize("path", ["/", "/v1/models/half", "/healthz", "/page/models.json"])
def test_a_page_that_points_its_name_here_reads_nothing(shared, path):
    answer = raw(shared, f"GET {path} HTTP/1.0\r\nHost: evil.example\r\n\r\n".encode())
    status, told = error_of(answer)
    assert status == 403 and "evil.example" in told and "--allowed-host" in told
    # A second header does not get round it, and who says none is no browser.
    both = f"GET {path} HTTP/1.0\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert raw(shared, both.encode()).split()[1] in (b"403", b"400")
    assert raw(shared, f"GET {path} HTTP/1.0\r\n\r\n".encode()).split()[1] == b"200"


def test_a_line_without_a_version_is_not_answered_with_a_page(shared):
    assert error_of(raw(shared, b"GET /\r\n\r\n"))[0] == 505
    assert raw(shared, b"GET / HTTP/1.0\r\n\r\n").split()[1] == b"200"


def test_other_names_can_be_allowed(folder):
    with Running(folder, hosts=("desk.lan",)) as running:
        for host, status in (("desk.lan:1", 200), ("localhost", 200), ("evil.example", 403)):
            assert running.ask("GET", "/v1/models/half", headers={"Host": host})[0] == status


# Connections


def test_connections_beyond_the_limit_are_told_so_and_room_is_given_back(folder):
    with Running(folder, most_connections=2) as running:
        idle = [raw(running, b"", wait=False) for _ in range(2)]
        until(lambda: len(running.server._web.connections) == 2)
        status, told = error_of(raw(running, b""))
        assert status == 503 and "all the connections" in told
        idle.pop().close()
        until(lambda: len(running.server._web.connections) == 1)
        assert running.predict([1.0])[0] == 200
        idle.pop().close()


def test_a_client_that_takes_nothing_is_cut_off(folder):
    with Running(folder, timeout=0.3) as running, socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.settimeout(LONGEST)
        made.connect(("127.0.0.1", running.server.rest_port))
        many = b"GET /v1/models/half/metadata HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200
        end = time.monotonic() + LONGEST
        with pytest.raises(OSError):
            # Without the limit its requests and answers would stay here, and `send` would wait.
            while time.monotonic() < end:
                made.sendall(many)
        until(lambda: not running.server._web.connections)


@pytest.mark.parametrize(
    "broken",
    [
        b"\x16\x03\x01\x00\x00\r\n\r\n",
        b"GET / HTTP/x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_what_is_no_http_is_told_so_without_a_traceback(shared, caplog, broken):
    assert error_of(raw(shared, broken))[0] == 400
    assert not caplog.records  # aiohttp logs each with a traceback


@pytest.mark.parametrize("wrong", [b"zz\r\na\r\n", b"2\r\nabc\r\n", b"f" * 40 + b"\r\n"])
def test_broken_chunks_end_a_request_at_once(shared, caplog, wrong):
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    began = time.monotonic()
    with raw(shared, head.encode(), wait=False) as made:
        time.sleep(0.05)  # what is broken comes when the request waits for its body
        made.sendall(wrong)
        assert error_of(made.makefile("rb").read())[0] == 400
    assert time.monotonic() - began < 5  # aiohttp alone lets it wait for its time to be over
    assert not caplog.records


def test_a_body_is_sent_once_the_server_says_that_it_may_come(shared):
    body = b'{"instances": [1.0]}'
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    with raw(shared, f"{head}Expect: 100-continue\r\n\r\n".encode(), wait=False) as made:
        assert made.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        made.sendall(body)
        assert b"[2.5]" in made.recv(1000)
    assert shared.ask("POST", PREDICT, body, {"Expect": "a miracle"})[0] == 417


# Rows and bytes


def by_grpc(running, values=(), shape=(1,)):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half"
    request.inputs["x"].CopyFrom(tensors.to_proto(np.array(values, np.float32)))
    del request.inputs["x"].tensor_shape.dim[:]
    for size in shape:
        request.inputs["x"].tensor_shape.dim.add(size=size)
    with pytest.raises(grpc.RpcError) as error:
        running.predictions.Predict(request, timeout=LONGEST)
    return error.value.code().name, error.value.details()


def test_a_request_has_so_many_rows_at_most(folder):
    with Running(folder, most_rows=3) as running:
        assert running.predict([1.0] * 3)[0] == 200
        status, answer = running.predict([1.0] * 4)
        assert status == 400 and "at most 3 rows. Received: 4" in answer["error"]
        # One value stands for all: a few bytes ask for many rows.
        assert by_grpc(running, [1.0], (4,))[0] == "INVALID_ARGUMENT"
        assert len(running.loads.made[1].batches) == 1


@pytest.mark.parametrize("shape", [(1, 0, 2**63 - 1), (0, 2**62), (2**62, 2**62), (2**26,)])
def test_shapes_that_no_array_has_are_the_clients_mistake(shared, caplog, shape):
    assert by_grpc(shared, (), shape)[0] == "INVALID_ARGUMENT"
    assert not caplog.records  # NumPy's own error would be a failure of the server


def test_bytes_that_are_no_message_are_told_as_grpc_in_c_plus_plus_does(shared, caplog):
    call = shared.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as error:
        call(b"\xff\xff\xff", timeout=LONGEST)
    assert error.value.code() == grpc.StatusCode.INTERNAL
    assert not caplog.records


def test_bodies_together_have_a_limit(folder):
    with Running(folder, max_body_bytes=1000) as running:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
        half = [raw(running, head.encode() + b" " * 990, wait=False) for _ in range(4)]
        until(lambda: running.server._rest._bytes == 4 * 990)
        status, answer = running.ask("POST", PREDICT, b" " * 990)
        assert status == 503 and "bytes are under way" in answer["error"]
        half.pop().close()
        until(lambda: running.server._rest._bytes == 3 * 990)
        assert running.predict([1.0])[0] == 200
        for made in half:
            made.close()
        until(lambda: running.server._rest._bytes == 0)


def test_a_long_body_is_refused_before_it_comes(shared):
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {2**40}\r\n\r\n"
    with raw(shared, head.encode(), wait=False) as made:
        assert made.recv(1000).startswith(b"HTTP/1.1 413")


# Large requests


def documents(count):
    """Bodies of every kind, most of them wrong."""
    draw = random.Random(0)
    words = ["1.0", "[1.0]", "[]", "{", "}", '"a"', "NaN", "null", '{"x": 1}', ",", "1e999"]
    yield from (b"", b"[", b"\xff", b"[" * 5000, b'{"signature_name": 5}')
    yield b'{"signature_name": "regress", "examples": [{"x": 1.0}]}'
    for _ in range(count):
        inner = draw.choice(["", ", "]).join(draw.choices(words, k=draw.randrange(4)))
        yield f'{{"{draw.choice(["instances", "inputs", "examples"])}": [{inner}]}}'.encode()


def test_what_is_read_aside_is_read_alike(folder, monkeypatch):
    with Running(folder) as running:
        asked = [("predict", body) for body in documents(60)]
        asked += [("regress", body) for body in documents(20)]
        here = [running.ask("POST", f"/v1/models/half:{v}", body) for v, body in asked]
        monkeypatch.setattr(rest, "LARGE", 0)
        aside = [running.ask("POST", f"/v1/models/half:{v}", body) for v, body in asked]
        assert running.server._rest._aside._process is not None
    assert str(aside) == str(here)  # NaN is not equal to itself
    assert {status for status, _ in here} == {200, 400}


@pytest.mark.parametrize("large", [core.LARGE, 10**9], ids=["aside", "in the loop"])
def test_a_large_request_lets_nobody_wait(folder, monkeypatch, large):
    monkeypatch.setattr(rest, "LARGE", large)
    body = b'{"instances": [' + b"[]," * 800_000 + b"[]]}"
    with Running(folder) as running:
        running.ask("POST", PREDICT, b" " * core.LARGE)  # the process is there
        sender = threading.Thread(target=running.ask, args=("POST", PREDICT, body))
        sender.start()
        waits = []
        while sender.is_alive():
            began = time.monotonic()
            assert running.predict([1.0])[0] == 200
            waits.append(time.monotonic() - began)
            time.sleep(0.005)
        sender.join()
    # In the loop the whole reading is one wait.
    assert (len(waits) > 8) == (large == core.LARGE), waits


def test_a_reading_that_is_out_of_time_ends_and_the_next_one_is_read(folder, monkeypatch):
    monkeypatch.setattr(rest, "LARGE", 0)
    with Running(folder) as running:
        assert running.predict([1.0])[0] == 200
        pid = running.server._rest._aside._process.pid
        os.kill(pid, signal.SIGSTOP)
        headers = {"Grpc-Timeout": "100m"}
        status, answer = running.ask("POST", PREDICT, {"instances": [1.0]}, headers)
        assert (status, list(answer)) == (504, ["error"])
        assert running.predict([1.0]) == (200, {"predictions": [2.5]})
        assert running.server._rest._aside._process.pid != pid


def test_a_reading_for_which_there_is_no_memory_is_refused(folder, monkeypatch):
    monkeypatch.setattr(rest, "LARGE", 0)
    with Running(folder) as running:
        assert running.predict([1.0])[0] == 200
        pid = running.server._rest._aside._process.pid
        os.kill(pid, signal.SIGSTOP)
        answers = []
        asking = threading.Thread(target=lambda: answers.append(running.predict([1.0])))
        asking.start()
        until(lambda: running.core.running == 1)
        os.kill(pid, signal.SIGKILL)  # as a system without memory does
        asking.join()
        assert answers[0][0] == 429 and "memory" in answers[0][1]["error"]
        assert running.predict([1.0])[0] == 200
        pid = running.server._rest._aside._process.pid
    # It goes with its server.
    assert not Path(f"/proc/{pid}").exists()


def test_what_a_process_writes_before_it_is_ended_does_not_hold_it_up():
    """asyncio's `wait` does not end while there is more to read than its buffers take."""

    async def ended():
        aside = json_aside.Aside(10)
        for body in (b'{"instances": [1]}', b'{"inputs": [[' + b"1," * 500_000 + b"1]]}"):
            reading = aside.read(body, "predict", {"serving_default": {"x": "float32"}})
            task = asyncio.ensure_future(reading)
            while not task.done() and (aside._process is None or len(body) < 100):
                await asyncio.sleep(0.01)
            while not task.done() and len(aside._process.stdout._buffer) < 2**16:
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task}, timeout=LONGEST)
            assert task.done()

    asyncio.run(asyncio.wait_for(ended(), 2 * LONGEST))


def test_only_what_is_large_goes_to_a_thread():
    def where():
        return threading.current_thread()

    async def found():
        return await core.apart(core.LARGE - 1, where), await core.apart(core.LARGE, where)

    here, there = asyncio.run(found())
    assert here is threading.main_thread() and there is not here


def test_a_wrong_value_is_shown_without_being_written_out(monkeypatch):
    long = {"instances": [[i] for i in range(10**5)], "inputs": []}
    monkeypatch.setattr(json, "dumps", None)  # all of it would take longer than reading it
    with pytest.raises(ServingError) as error:
        json_form.inputs_of(long, {"x": "float32"})
    assert len(str(error.value)) < 500
    assert '{"instances": [[0], [1]' in str(error.value)


def test_a_damaged_version_is_told_and_the_one_before_answers(folder):
    with Running(folder) as running:
        aside = folder / ".2.tmp"
        aside.mkdir()
        (aside / "saved_model.pb").write_bytes(b"\xff" * 100)
        aside.rename(folder / "2")
        running.call(running.core.models.poll())
        assert running.predict([1.0]) == (200, {"predictions": [2.5]})
        status, answer = running.predict([1.0], "/versions/2")
        assert status == 404 and "Specific(half, 2)" in answer["error"]
