"""Hostile requests to `kerasft serve`: no crash, no hang, no wrong status, nothing left behind.

    python benchmarks/fuzz.py [--count 100000] [--seed S] [--clients 8]

A classifier on the bundled preset is exported and served by a process of its own; this one sends
requests of the families in `_fuzz_rest.py` and `_fuzz_grpc.py`, drawn by the seed, over REST and
gRPC, and `_fuzz_slow.py` clients that send byte by byte or never read. Every tenth request is fine,
and has to be answered as before; another process asks all the time, and tells the longest wait.
"""

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import _fuzz_grpc
import _fuzz_rest
import _harness as harness
import grpc
import numpy as np
from _fuzz_rest import CLOSED, MODEL, Case, http
from _fuzz_slow import SlowClients
from _served import free_port, open_files, resident, running

TIMEOUT = 30.0  # of the server, in seconds, for a request and for what is half sent
DEADLINE = 2 * TIMEOUT + 10  # in which anything has an answer, or is closed: the body, the request
FINE = json.dumps({"instances": ["free prize", "the film was good", ""]}).encode()


class Wire:
    """A connection of REST, made anew where the last one was closed."""

    def __init__(self, port: int):
        self.port, self.socket, self.kept = port, None, b""

    def send(self, case: Case) -> list[tuple[int, bytes]]:
        """The answers to a case: statuses and bodies; CLOSED where the connection ended instead."""
        if case.fresh or self.socket is None:
            self.close()
            self.socket = socket.create_connection(("127.0.0.1", self.port), DEADLINE)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found: list[tuple[int, bytes]] = []
        try:
            for part in case.parts:
                self.socket.sendall(part)
            if case.end == "shut":
                self.socket.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass  # it may have answered before it closed
        if case.end == "gone":
            self.close()
            return found
        while len(found) < len(case.allowed):
            found.append(self._answer(case.head))
            if self.socket is None:
                break
        if case.fresh:
            self.close()
        return found

    def _answer(self, head: bool) -> tuple[int, bytes]:
        try:
            top = self._until(b"\r\n\r\n")
            status = int(top.split(b" ", 2)[1])
            if status == 100:
                return self._answer(head)
            lines = [line.lower() for line in top.split(b"\r\n")[1:]]
            size = [int(x.split(b":")[1]) for x in lines if x.startswith(b"content-length:")]
            body = b"" if head else self._exactly(size[0])
            if b"connection: close" in lines:
                self.close()
            return status, body
        except (ConnectionError, EOFError):
            self.close()
            return CLOSED, b""

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.kept:
            self._more()
        found, _, self.kept = self.kept.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self.kept) < size:
            self._more()
        found, self.kept = self.kept[:size], self.kept[size:]
        return found

    def _more(self) -> None:
        part = self.socket.recv(2**16)
        if not part:
            raise EOFError
        self.kept += part

    def close(self) -> None:
        """Give the connection back."""
        if self.socket is not None:
            self.socket.close()
        self.socket, self.kept = None, b""


class Client(threading.Thread):
    """Sends its share of the requests and keeps what was wrong.

    Args:
        ports: of REST and gRPC.
        count: requests.
        seed: that the requests are drawn by.
        want: what FINE is answered with.
    """

    def __init__(self, ports: tuple[int, int], count: int, seed: Any, want: np.ndarray):
        super().__init__()
        self.count, self.draw, self.want = count, random.Random(seed), want
        self.wire = Wire(ports[0])
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{ports[1]}",
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)],
        )
        self.wrong: list[str] = []
        self.sent: Counter[str] = Counter()
        self.longest, self.apart = 0.0, 0.0

    def run(self) -> None:
        for number in range(self.count):
            start, family = time.monotonic(), "fine"
            try:
                if number % 10 == 9:
                    self._fine()
                else:
                    rest = self.draw.random() < 0.7
                    families = _fuzz_rest.FAMILIES if rest else _fuzz_grpc.FAMILIES
                    (make,) = self.draw.choices(list(families), list(families.values()))
                    family = f"{'REST' if rest else 'gRPC'} {make.__name__}"
                    (self._rest if rest else self._grpc)(family, make(self.draw))
            except Exception as error:  # a deadline that went by, above all
                self._note(family, f"{type(error).__name__}: {error}")
                self.wire.close()
            self.sent[family] += 1
            self.longest = max(self.longest, time.monotonic() - start)
        self.wire.close()
        self.channel.close()

    def _note(self, name: str, what: str) -> None:
        self.wrong.append(f"{name}: {what}"[:400])

    def _fine(self) -> None:
        if self.draw.random() < 0.5:
            ((status, body),) = self.wire.send(
                Case((http("POST", _fuzz_rest.PREDICT, FINE),), ({},))
            )
            if status == CLOSED:  # the one before it may have ended the connection
                ((status, body),) = self.wire.send(
                    Case((http("POST", _fuzz_rest.PREDICT, FINE),), ({},))
                )
            got = probabilities(json.loads(body)) if status == 200 else status
        else:
            message = _fuzz_grpc.texts(b"free prize", b"the film was good", b"")
            kind = _fuzz_grpc.protos.predict_pb2.PredictResponse
            call = self.channel.unary_unary(_fuzz_grpc.PREDICT)
            found = kind.FromString(call(message.SerializeToString(), timeout=DEADLINE))
            got = np.reshape(found.outputs["probabilities"].float_val, self.want.shape)
        apart = float(np.abs(np.subtract(got, self.want)).max())
        self.apart = max(self.apart, apart)
        if not apart <= 1e-5:
            self._note("fine", f"answered {got}")

    def _rest(self, name: str, case: Case) -> None:
        found = self.wire.send(case)
        if found and found[0][0] == CLOSED and not case.fresh:
            found = self.wire.send(case)  # an old connection may just have been closed
        for (status, body), allowed in zip(found, case.allowed):
            if status not in allowed:
                told = f"{status}, not {sorted(allowed)}: {case.parts[0][:300]!r} {body[:100]!r}"
                self._note(name, told)
            if status >= 400 and not case.head and not is_error(body):
                self._note(name, f"{status} with the body {body[:200]!r}")
        if len(found) < len(case.allowed) and found[-1][0] == 200 and not case.fresh:
            self._note(name, f"{len(found)} answers to {len(case.allowed)} requests")

    def _grpc(self, name: str, call: _fuzz_grpc.Call) -> None:
        code = self._code(call)
        if code not in call.allowed:
            self._note(name, f"{code}, not {call.allowed}: {call.message[:100]!r}")

    def _code(self, call: _fuzz_grpc.Call) -> str:
        asked = self.channel.unary_unary(call.method)
        limit = DEADLINE if call.deadline is None else call.deadline
        made = asked.future(call.message, timeout=limit)
        if call.cancel:
            made.cancel()
        try:
            made.result()
            return "OK"
        except grpc.FutureCancelledError:
            return "CANCELLED"
        except grpc.RpcError as error:
            return error.code().name


def is_error(body: bytes) -> bool:
    """Whether a body is {"error": ...}."""
    try:
        found = json.loads(body)
    except ValueError:
        return False
    return isinstance(found, dict) and list(found) == ["error"] and isinstance(found["error"], str)


def probabilities(answer: dict[str, Any]) -> np.ndarray:
    """What FINE is answered with."""
    return np.array([row["probabilities"] for row in answer["predictions"]])


def campaign(
    ports: tuple[int, int],
    pid: int,
    count: int,
    seed: int,
    clients: int,
    slow: int,
    watch: Any,
    limit: float,
) -> dict[str, Any]:
    """Send hostile requests to a server.

    Args:
        ports: of REST and gRPC.
        pid: of the server's process.
        count: requests.
        seed: that they are drawn by.
        clients: that send at a time.
        slow: clients that send byte by byte or do not read, beside them.
        watch: called with REST's port; what it gives is called in the end, and gives how long what
            is fine had to wait.
        limit: seconds after which the server gives up on what is half sent.

    Returns:
        `wrong` (what was not right), `sent` by family, `memory` (MiB, by time), `files` before and
        after, `longest` of a request and of one that is fine, seconds.
    """
    wire, asked = Wire(ports[0]), Case((http("POST", _fuzz_rest.PREDICT, FINE),), ({},))
    want = probabilities(json.loads(wire.send(asked)[0][1]))
    wire.close()
    time.sleep(0.1)
    files = open_files(pid)
    shares = [count // clients + (i < count % clients) for i in range(clients)]
    threads = [Client(ports, n, f"{seed} {i}", want) for i, n in enumerate(shares)]
    watching = watch(ports[0])
    slowly = SlowClients(ports, slow, seed, limit)
    start = time.monotonic()
    for thread in [*threads, slowly]:
        thread.start()
    memory = []
    while any(thread.is_alive() for thread in threads):
        memory.append((sum(t.sent.total() for t in threads), resident(pid)))
        time.sleep(0.2)
    slowly.join()
    took, waits = time.monotonic() - start, watching()
    end = time.monotonic() + 3 * limit + 1
    while open_files(pid) > files + 3 and time.monotonic() < end:
        time.sleep(0.1)
    memory.append((count, resident(pid)))
    return {
        "wrong": [what for thread in [*threads, slowly] for what in thread.wrong],
        "sent": dict(sorted(sum((t.sent for t in threads), slowly.sent).items())),
        "memory": memory,
        "files": [files, open_files(pid)],
        "longest": max(thread.longest for thread in threads),
        "waits": waits,
        "apart": max(thread.apart for thread in threads),
        "seconds": took,
    }


def watched(port: int) -> Any:
    """Ask what is fine again and again from another process; a call ends it and gives the waits."""
    command = [sys.executable, __file__, "--watch", str(port)]
    made = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def end() -> list[float]:
        return json.loads(made.communicate("\n", timeout=DEADLINE)[0])

    return end


def watch(port: int) -> None:
    """The process behind `watched`: longest wait, and those of 50 and 99 in 100, in seconds."""
    over, waits = threading.Event(), []
    threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
    wire, asked = Wire(port), Case((http("GET", MODEL),), ({},))
    while not over.wait(0.02):
        start = time.monotonic()
        wire.send(asked)
        waits.append(time.monotonic() - start)
    waits.sort()
    print(json.dumps([waits[-1], waits[len(waits) // 2], waits[len(waits) * 99 // 100]]))


def export(folder: Path) -> None:
    """A classifier on the bundled preset, in a process of its own."""
    code = (
        "import kerasft as kf; from kerasft.backbones import load\n"
        "from kerasft.methods import adapt; from kerasft.pipeline import Pipeline\n"
        "from kerasft._core.seeds import set_seed\n"
        "set_seed(0); backbone, tokenizer = load('bert_tiny')\n"
        "task = kf.tasks.TextClassification(labels=('ham', 'spam'), max_length=64)\n"
        f"Pipeline(task.build(adapt(backbone)), tokenizer, task).export({str(folder / 'm')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)


def main() -> int:
    """Serve, send, record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--watch", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.watch:
        watch(args.watch)
        return 0
    print(f"seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        export(folder)
        log = folder / "log"
        ports = free_port(), free_port()
        command = [sys.executable, "-m", "kerasft", "serve", str(folder / "m")]
        command += ["--rest-port", str(ports[0]), "--port", str(ports[1])]
        command += ["--timeout", str(TIMEOUT), "--max-body-bytes", str(_fuzz_rest.MOST_BYTES)]
        with (
            log.open("wb") as file,
            running(command, "/readyz", ports[0], log=file) as process,
        ):
            slow = max(args.count // 500, 10)
            found = campaign(
                ports, process.pid, args.count, args.seed, args.clients, slow, watched, TIMEOUT
            )
            found["alive"] = process.poll() is None
        found["code"] = process.returncode
        found["log"] = log.read_text("utf-8", "replace")
    return harness.finish(told(args, found))


def told(args: argparse.Namespace, found: dict[str, Any]) -> Path:
    """The run file."""
    bound, sent = harness.Bound, sum(found["sent"].values())
    early = [mib for done, mib in found["memory"] if done <= args.count / 5]
    last = found["memory"][-1][1]
    bad = (found["log"].count("Traceback"), len(found["wrong"]))
    for what in found["wrong"][:50]:
        print(what)
    if bad[0]:
        print(found["log"][-6000:])
    return harness.record(
        "serving-fuzz",
        f"{sent} requests to `kerasft serve`, hostile but for one in ten, over REST and gRPC by "
        f"{args.clients} clients and {args.count // 500 or 10} slow ones. A classifier on the "
        f"bundled preset; server and clients share the cores. Bodies end at "
        f"{_fuzz_rest.MOST_BYTES} bytes, what is half sent after {TIMEOUT:g} s.",
        values={
            "seconds": found["seconds"],
            "longest wait of GET /v1/models/m, s": found["waits"][0],
            "its p50, s": found["waits"][1],
            "its p99, s": found["waits"][2],
            "MiB of memory after a fifth": early[-1],
            "MiB at most": max(mib for _, mib in found["memory"]),
            "MiB at the end": last,
        },
        bounds=[
            bound("crashes", float(not found["alive"] or found["code"] != 0), "<=", 0.0),
            bound("wrong statuses, bodies or answers", float(bad[1]), "<=", 0.0),
            bound("longest request, s", found["longest"], "<=", DEADLINE),
            bound("tracebacks in the log", float(bad[0]), "<=", 0.0),
            bound("greatest difference of a fine answer", found["apart"], "<=", 1e-5),
            bound("files left open", float(found["files"][1] - found["files"][0]), "<=", 3.0),
            bound("memory at the end / after a fifth", last / early[-1], "<=", 1.25),
        ],
        raw={
            "sent": found["sent"],
            "wrong": found["wrong"][:50],
            "memory, MiB": [round(m) for _, m in found["memory"]][
                :: len(found["memory"]) // 60 or 1
            ],
        },
        seeds=[args.seed],
    )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
