"""The client: the same over REST and gRPC, in order, in time, tried again where that helps."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from half_plus_two import Running, write_version
from stub import Stub

from kerasft._core.errors import InputError
from kerasft.serving import Client, ModelConfig, ServingError, _client_calls

DOORS = ["rest", "grpc"]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(_client_calls, "_PAUSE", 0.01)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A server with versions 1 and 2 (x / 2 + 2 and x / 2 + 3) and labels."""
    folder = tmp_path_factory.mktemp("two") / "half"
    write_version(folder, 1)
    write_version(folder, 2, plus=3.0)
    labels = {"stable": 1, "new": 2}
    with Running(folder, models=(ModelConfig("half", str(folder), "all", labels=labels),)) as made:
        yield made


def client(running, door, **options):
    place = f"127.0.0.1:{running.server.rest_port}"
    if door == "grpc":
        place = f"grpc://127.0.0.1:{running.server.port}"
    return Client(place, "half", **options)


def both(running, ask, **options):
    """What a question is answered over REST and over gRPC."""
    found = []
    for door in DOORS:
        with client(running, door, **options) as made:
            found.append(ask(made))
    return found


def refused(code, ask):
    with pytest.raises(ServingError) as error:
        ask()
    assert error.value.code == code
    return str(error.value)


def in_float32(value):
    """Numbers as float32; NaN, which equals nothing, as a word."""
    if isinstance(value, dict):
        return {name: in_float32(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [in_float32(v) for v in value]
    if isinstance(value, float):
        return "NaN" if np.isnan(value) else np.float32(value)
    return value


# --- answers ------------------------------------------------------------------------------------


def test_numbers_are_the_same_over_rest_and_grpc_within_float32(shared):
    numbers = [1.0, 2, 5.0, 0.1, 1e-30, 3e38, -7.7, float("nan"), float("inf"), -float("inf")]
    rest, grpc = both(shared, lambda c: c.predict(numbers))
    wanted = np.array(numbers, np.float32) / 2 + np.float32(2)
    # Fails where a digit is lost (json.dumps of a rounded number), or NaN is quoted.
    assert in_float32(rest) == in_float32(grpc) == in_float32([{"y": v} for v in wanted.tolist()])
    assert type(grpc[0]["y"]) is float  # not NumPy's, whose JSON is another


def test_texts_bytes_arrays_and_given_inputs_are_the_same_over_rest_and_grpc(shared):
    rows = [{"a": [1, 2.5], "text": "é"}, {"a": np.array([3.5, 0]), "text": "\u0000😀"}]
    rest, grpc = both(shared, lambda c: c.predict(rows, signature="named"))
    # Fails where text_bytes stays {"b64": ...}, or texts come as bytes.
    wanted = [
        {"sum": 3.5, "text": "é", "text_bytes": "é".encode()},
        {"sum": 3.5, "text": "\u0000😀", "text_bytes": "\u0000😀".encode()},
    ]
    assert rest == grpc == wanted
    raw = [{"a": (1, 2), "text": b"\xff"}]
    rest, grpc = both(shared, lambda c: c.predict(raw, signature="named"))
    assert rest == grpc == [{"sum": 3.0, "text": "\ufffd", "text_bytes": b"\xff"}]
    # A row that is no mapping is the input that is not given; fails where `text` is for one row.
    rest, grpc = both(shared, lambda c: c.predict([[1, 2], [3, 4]], signature="named", text="q"))
    assert [(r["sum"], r["text"]) for r in rest] == [(3.0, "q"), (7.0, "q")]
    assert rest == grpc
    rest, grpc = both(shared, lambda c: c.predict(np.array([[1, 2], [3, 4]]), signature="lengths"))
    assert rest == grpc == [{"total": 3}, {"total": 7}]


def test_classify_and_regress_are_the_same_over_rest_and_grpc(shared):
    rest, grpc = both(shared, lambda c: c.classify([0.5, {"x": [0.1]}]))
    assert in_float32(rest) == in_float32(grpc)
    # Fails where scores are sorted, or a label is matched with its neighbour's score.
    assert grpc[0] == [("up", 0.5), ("down", -0.5)]
    assert both(shared, lambda c: c.regress([1.0, 2.0, 5.0])) == [[2.5, 3.0, 4.5]] * 2
    assert both(shared, lambda c: c.regress([{}, {}], x=1.0)) == [[2.5, 2.5]] * 2


def test_metadata_status_and_ready_are_the_same_over_rest_and_grpc(two):
    rest, grpc = both(two, lambda c: c.metadata(), label="stable")
    assert rest == grpc and rest["model_spec"]["version"] == "1"
    signature = rest["metadata"]["signature_def"]["signature_def"]["named"]
    assert signature["inputs"]["a"]["dtype"] == "DT_FLOAT"
    rest, grpc = both(two, lambda c: c.status())
    states = {one["version"]: one["state"] for one in rest["model_version_status"]}
    assert rest == grpc and states == {"1": "AVAILABLE", "2": "AVAILABLE"}
    rest, grpc = both(two, lambda c: c.status(), version=2)
    assert rest == grpc and len(rest["model_version_status"]) == 1
    assert both(two, lambda c: c.ready(5)) == [True, True]
    assert both(two, lambda c: c.ready(0.1), label="no") == [False, False]


def test_versions_and_labels(two):
    def one(**which):
        return [rows[0]["y"] for rows in both(two, lambda c: c.predict([1.0]), **which)]

    # Fails where a label or version is left out of the path or the request: 3.5 is the newest.
    assert one(version=1) == one(label="stable") == [2.5, 2.5]
    assert one(version=2) == one(label="new") == one() == [3.5, 3.5]
    for door in DOORS:
        with client(two, door, version=7) as made:
            refused("NOT_FOUND", lambda c=made: c.predict([1.0]))


@pytest.mark.parametrize("door", DOORS)
def test_many_rows_keep_their_order_in_requests_of_the_size(folder, door):
    with Running(folder) as running, client(running, door, batch_size=4, parallel=3) as made:
        found = made.predict(iter(range(103)))
        # Fails where answers are joined as they arrive (see also the stub's), or one is dropped.
        assert [row["y"] for row in found] == [x / 2 + 2 for x in range(103)]
        sizes = [len(batch["x"]) for batch in running.loads.made[1].batches]
        assert sorted(sizes) == [3] + [4] * 25


def test_answers_that_arrive_out_of_order_are_put_in_order():
    with Stub() as stub, Client(stub.address, "m", batch_size=1, parallel=2) as made:
        # The first row's answer is last to arrive; fails with concurrent.futures.as_completed.
        assert made.predict([0, 1, 2]) == [{"y": 1}, {"y": 2}, {"y": 3}]


def test_no_more_requests_at_a_time_than_parallel():
    with Stub(*["hang"] * 5) as stub:
        with Client(stub.address, "m", batch_size=1, parallel=2, timeout=0.4) as made:
            refused("DEADLINE_EXCEEDED", lambda: made.predict([1, 2, 3, 4]))
        assert len(stub.bodies) == 2


def test_threads_share_a_client(shared):
    for door in DOORS:
        with client(shared, door, batch_size=2, parallel=3) as made:
            found = {}

            def ask(k, c=made, found=found):
                found[k] = [row["y"] for row in c.predict([k, 0, k])]

            threads = [threading.Thread(target=ask, args=(k,)) for k in range(12)]
            [t.start() for t in threads]
            [t.join() for t in threads]
            # Fails where two threads read from one connection.
            assert found == {k: [k / 2 + 2, 2, k / 2 + 2] for k in range(12)}


def test_no_rows_ask_nobody():
    with Client("localhost:1", "m") as nobody:
        assert nobody.predict([]) == nobody.classify(()) == nobody.regress(iter("")) == []


# --- tries --------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("code", "tries"),
    [("UNAVAILABLE", 3), ("RESOURCE_EXHAUSTED", 3), ("INVALID_ARGUMENT", 1), ("NOT_FOUND", 1)],
)
def test_what_may_pass_is_asked_again_and_nothing_else(folder, monkeypatch, door, code, tries):
    with Running(folder) as running, client(running, door, retries=2) as made:
        assert made.predict([1.0]) == [{"y": 2.5}]
        find, asked = running.core.models.find, []

        def failing(*which, times):
            asked.append(which)
            if len(asked) <= times:
                raise ServingError(code, "not now")
            return find(*which)

        models = running.core.models
        monkeypatch.setattr(models, "find", lambda *which: failing(*which, times=9))
        # Fails where every failure is asked again, or none.
        assert refused(code, lambda: made.predict([1.0])) == "not now"
        assert len(asked) == tries
        asked.clear()
        monkeypatch.setattr(models, "find", lambda *which: failing(*which, times=2))
        if tries == 3:
            assert made.predict([1.0]) == [{"y": 2.5}]


@pytest.mark.parametrize("failure", [503, 429, 502])
def test_two_failures_and_then_an_answer(failure):
    with Stub(failure, failure) as stub, Client(stub.address, "m", retries=2) as made:
        assert made.predict([1]) == [{"y": 2}]
        assert stub.bodies == [stub.bodies[0]] * 3
    code = "RESOURCE_EXHAUSTED" if failure == 429 else "UNAVAILABLE"
    with Stub(failure, failure) as stub, Client(stub.address, "m", retries=1) as made:
        assert refused(code, lambda: made.predict([1])) == f"said {failure}"
        assert len(stub.bodies) == 2


def test_a_lost_answer_is_asked_again():
    # The first goes over the connection that metadata came by, which costs no try; see below.
    with Stub("drop", "drop", "drop") as stub, Client(stub.address, "m", retries=2) as made:
        assert made.predict([1]) == [{"y": 2}]
        assert len(stub.bodies) == 4
    with Stub("drop", "drop", "drop") as stub, Client(stub.address, "m", retries=1) as made:
        assert "gave no answer" in refused("UNAVAILABLE", lambda: made.predict([1]))
        assert len(stub.bodies) == 3


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (404, "NOT_FOUND"),
        (413, "RESOURCE_EXHAUSTED"),
        (418, "UNKNOWN"),
        (500, "INTERNAL"),
        (501, "UNIMPLEMENTED"),
        (504, "DEADLINE_EXCEEDED"),
    ],
)
def test_what_does_not_pass_is_asked_once_and_says_what_the_server_said(status, code):
    with Stub(status) as stub, Client(stub.address, "m") as made:
        assert refused(code, lambda: made.predict([1])) == f"said {status}"
        assert len(stub.bodies) == 1


def test_pauses_grow_and_vary(monkeypatch):
    monkeypatch.setattr(_client_calls, "_PAUSE", 0.02)
    with Stub(503, 503, 503) as stub, Client(stub.address, "m") as made:
        began = time.monotonic()
        made.predict([1])
        # Half of 0.02 + 0.04 + 0.08; fails without pauses, and with pauses that do not double.
        assert time.monotonic() - began >= 0.07


def test_a_request_that_is_too_large_is_asked_once_over_both(shared, monkeypatch):
    monkeypatch.setattr(_client_calls, "_PAUSE", 20.0)  # a second try would take longer than that
    began = time.monotonic()
    for door in DOORS:
        with client(shared, door, batch_size=100_000) as made:
            refused("RESOURCE_EXHAUSTED", lambda c=made: c.predict([1.0] * 50_000))
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("step", ["bare", "short"])
def test_an_answer_that_is_none_is_an_error(step):
    with Stub(step) as stub, Client(stub.address, "m") as made:
        assert "not what was asked" in refused("INTERNAL", lambda: made.predict([1, 2]))


@pytest.mark.parametrize("door", DOORS)
def test_an_output_without_rows_is_an_error(shared, door):
    with client(shared, door) as made, pytest.raises(ServingError):
        made.predict([1.0, 2.0], signature="flat")


# --- the deadline -------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["hang", "drip"])
def test_the_deadline_holds_for_the_whole_call(step):
    with Stub(503, step) as stub, Client(stub.address, "m", timeout=0.4, parallel=1) as made:
        began = time.monotonic()
        # Fails for "drip" where each read has the whole time, and where each try has it.
        message = refused("DEADLINE_EXCEEDED", lambda: made.predict([1]))
        assert 0.4 <= time.monotonic() - began < 2
        assert message == "No answer within 0.4 seconds."
        # The one thread is free again; fails for "drip" where the end of a call cuts nothing.
        assert made.predict([1]) == [{"y": 2}]
    told = [int(h["Grpc-Timeout"].removesuffix("m")) for h in stub.headers[:2]]
    # Each request is told what is left; fails where it is told the whole.
    assert 400 >= told[0] > told[1] > 0


@pytest.mark.parametrize("door", DOORS)
def test_the_deadline_over_rest_and_grpc(folder, door):
    with Running(folder) as running, client(running, door, timeout=0.4) as made:
        assert made.predict([1.0]) == [{"y": 2.5}]
        running.loads.made[1].gate.clear()
        began = time.monotonic()
        refused("DEADLINE_EXCEEDED", lambda: made.predict([1.0]))
        assert 0.3 < time.monotonic() - began < 2


def test_no_try_begins_beyond_the_deadline(monkeypatch):
    monkeypatch.setattr(_client_calls, "_PAUSE", 0.3)
    monkeypatch.setattr(_client_calls.random, "uniform", lambda low, high: high)
    with Stub(*[503] * 9) as stub, Client(stub.address, "m", retries=9, timeout=0.8) as made:
        began = time.monotonic()
        # What the server says is told at once where the next pause, of 0.6, would be too long.
        assert refused("UNAVAILABLE", lambda: made.predict([1])) == "said 503"
        assert time.monotonic() - began < 0.8
        assert len(stub.bodies) == 2


def test_one_failure_ends_the_other_requests():
    with Stub("hang", 400) as stub, Client(stub.address, "m", batch_size=1, timeout=5) as made:
        began = time.monotonic()
        refused("INVALID_ARGUMENT", lambda: made.predict([1, 2]))
        assert time.monotonic() - began < 3  # fails where all are waited for


# --- connections --------------------------------------------------------------------------------


def test_connections_are_kept_alive():
    with Stub() as stub, Client(stub.address, "m") as made:
        for x in range(1, 6):
            assert made.predict([x]) == [{"y": x + 1}]
        assert stub.connections == 1  # six with a connection a request, metadata included


def test_a_connection_that_lay_idle_and_was_closed_costs_no_try():
    with Stub("last", "last") as stub, Client(stub.address, "m", retries=0) as made:
        for x in range(1, 4):
            assert made.predict([x]) == [{"y": x + 1}]
        assert (stub.connections, len(stub.bodies)) == (3, 3)


def test_what_a_signature_takes_is_read_again_after_a_failure():
    with Stub(200, 400) as stub, Client(stub.address, "m") as made:
        made.predict([1])
        stub.input = "z"
        refused("INVALID_ARGUMENT", lambda: made.predict([1]))
        assert made.predict([1]) == [{"y": 2}]
        assert [list(b["instances"][0]) for b in stub.bodies] == [["x"], ["x"], ["z"]]


@pytest.mark.parametrize("address", ["127.0.0.1:{0}", "grpc://127.0.0.1:{0}"])
def test_nobody_there(address):
    with Stub() as stub:
        port = stub.server.server_port  # free again below
    with Client(address.format(port), "m", retries=1, timeout=2) as made:
        refused("UNAVAILABLE", lambda: made.predict([1.0]))
        assert made.ready(0.1) is False


def test_the_wrong_port_and_the_wrong_scheme(shared):
    with Client(f"127.0.0.1:{shared.server.port}", "half") as made:
        assert "Is it the port of REST?" in refused("UNAVAILABLE", lambda: made.predict([1.0]))
    with Stub() as stub, Client(f"https://{stub.address}", "half") as made:
        assert "SSL" in refused("UNAVAILABLE", lambda: made.predict([1.0]))


def test_a_closed_client_says_so(shared):
    for door in DOORS:
        made = client(shared, door)
        made.close()
        made.close()
        with pytest.raises(InputError, match="until `close`. Received: a call after it"):
            made.predict([1.0])


def test_closing_ends_a_call_of_many_requests():
    with Stub(*["hang"] * 9) as stub:
        made = Client(stub.address, "m", batch_size=1, parallel=1, timeout=5)
        threading.Timer(0.1, lambda: (made.close(), stub.over.set())).start()
        began = time.monotonic()
        refused("CANCELLED", lambda: made.predict([1, 2, 3]))
        assert time.monotonic() - began < 3  # fails where who waits is not told


# --- what is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "localhost",
        "",
        "localhost:no",
        "localhost:0",
        "localhost:99999",
        "ftp://localhost:1",
        "http://a b:80",
        "http://[::1:80",
        "http://localhost:80/v1",
        "http://me@localhost:80",
        f"{'a' * 70}:80",
        8501,
    ],
)
def test_bad_addresses(address):
    with pytest.raises(InputError, match="An address is host:port") as error:
        Client(address, "m")
    assert f"Received: {address!r}." in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"model": ""},
        {"label": ""},
        {"version": "1"},
        {"version": 1, "label": "stable"},
        {"batch_size": 0},
        {"parallel": 0},
        {"retries": -1},
        {"timeout": 0},
        {"timeout": 1e9},
    ],
)
def test_wrong_options(options):
    with pytest.raises(InputError, match="Received: "):
        Client("localhost:1", **{"model": "m"} | options)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ("a text", {}, "Rows are a list"),
        ({"x": [1.0]}, {}, "Rows are a list"),
        (1.0, {}, "Rows are a list"),
        ([{"z": 1.0}], {}, "takes x. Received: z."),
        ([1.0], {"xx": 1.0}, "Did you mean 'x'?"),
        ([1.0], {"x": 1.0}, "A row is a mapping of nothing more"),
        ([{"x": 1.0}], {"x": 1.0}, "Received: 'x' twice"),
        ([{"a": [1, 2]}], {"signature": "named"}, "takes a, text. Received: a."),
        (["t"], {"signature": "named"}, "a mapping of a, text. Received: 't'"),
        ([1.0], {"signature": "nmaed"}, "Did you mean 'named'?"),
        ([None], {}, "Received: None"),
    ],
)
def test_wrong_rows(shared, door, rows, options, message):
    with client(shared, door) as made:
        with pytest.raises(InputError) as error:
            made.predict(rows, **options)
        assert message in str(error.value)


@pytest.mark.parametrize(
    "rows", [["1.0"], [True], [[1.0]], [1.0, [2.0]], [{"x": "\ud800"}], [-1.0]]
)
def test_what_the_server_refuses_is_refused_alike_over_rest_and_grpc(shared, rows):
    found = []
    for door in DOORS:
        with client(shared, door) as made:
            found.append(refused("INVALID_ARGUMENT", lambda c=made: c.predict(rows)))
    assert found[0] == found[1]


def test_rest_needs_nothing_of_the_extra_and_grpc_says_what_it_needs():
    code = (
        "import sys\n"
        "for name in ('aiohttp', 'grpc', 'prometheus_client', 'tensorflow_serving'):\n"
        "    sys.modules[name] = None\n"
        "import kerasft as kf\n"
        "kf.serving.Client('localhost:1', 'm').close()\n"
        "client = lambda: kf.serving.Client('grpc://localhost:1', 'm')\n"
        "for ask in (client, lambda: kf.serving.serve):\n"
        "    try: ask()\n"
        "    except kf.InputError as error: print(error)\n"
        "print('tensorflow' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *said, loaded = done.stdout.splitlines()
    assert len(said) == 2 and loaded == "False"
    assert all("pip install 'kerasft[serving]'" in line for line in said)
