"""A fake of the model class, TF Serving's half_plus_two in NumPy, and a server around it.

It can wait, fail and count. The real one, a SavedModel, is asked in test_conformance.py.
"""

import asyncio
import http.client
import json
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import numpy as np

from kerasft._core.errors import InputError
from kerasft.serving import Options, Server, single
from kerasft.serving._protos import Example, model_service_pb2_grpc, prediction_service_pb2_grpc

LONGEST = 10.0  # seconds that a test waits for anything


@dataclass(frozen=True)
class Spec:
    dtype: str
    shape: tuple | None


@dataclass(frozen=True)
class Signature:
    method: str
    inputs: dict
    outputs: dict


def signature(method, inputs, outputs):
    return Signature(f"tensorflow/serving/{method}", inputs, outputs)


ROWS, EXAMPLES = Spec("float32", (None,)), {"inputs": Spec("string", (None,))}
PAIR = {"classes": Spec("string", (None, 2)), "scores": Spec("float32", (None, 2))}
SIGNATURES = {
    "serving_default": signature("predict", {"x": ROWS}, {"y": ROWS}),
    "classify": signature("classify", EXAMPLES, PAIR),
    "regress": signature("regress", EXAMPLES, {"outputs": Spec("float32", (None, 1))}),
    "named": signature(
        "predict",
        {"a": Spec("float32", (None, 2)), "text": Spec("string", (None,))},
        {"sum": ROWS, "text": Spec("string", (None,)), "text_bytes": Spec("string", (None,))},
    ),
    "lengths": signature(
        "predict", {"ids": Spec("int32", (None, None))}, {"total": Spec("int32", (None,))}
    ),
    "flat": signature("predict", {"x": ROWS}, {"y": Spec("float32", ())}),
}


class Refused(Exception):
    """As the runtime's own errors: with a code."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


@dataclass
class HalfPlusTwo:
    """x / 2 + plus. A row of -1 is refused; the folder's saved_model.pb holds `plus`."""

    plus: float
    signatures: dict = field(default_factory=lambda: SIGNATURES)
    batches: list = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    running: int = 0
    closed: bool = False

    def run(self, name, inputs):
        assert not self.closed, "run after close"
        self.running += 1
        try:
            assert self.gate.wait(LONGEST)
            self.batches.append({n: np.array(v) for n, v in inputs.items()})
            return getattr(self, name)(**inputs)
        finally:
            self.running -= 1
            assert not self.closed, "closed while it ran"

    def close(self):
        assert not self.running, "closed while it ran"
        self.closed = True

    def serving_default(self, x):
        if (x == -1).any():
            raise Refused("INVALID_ARGUMENT", "a row of -1")
        if (x == -2).any():
            raise ValueError("a failure of the model's own")
        if (x == -3).any():
            raise InputError("a row of -3 is nothing to ask.")
        return {"y": x / 2 + np.float32(self.plus)}

    def named(self, a, text):
        return {"sum": a.sum(1), "text": text, "text_bytes": text}

    def lengths(self, ids):
        return {"total": ids.sum(1).astype(np.int32)}

    def flat(self, x):
        return {"y": np.float32(x.sum())}

    def regress(self, inputs):
        return {"outputs": (_x_of(inputs) / 2 + np.float32(self.plus))[:, None]}

    def classify(self, inputs):
        scores = np.stack([_x_of(inputs), -_x_of(inputs)], 1)
        classes = np.empty(scores.shape, object)
        classes[:] = [b"up", b"down"]
        return {"classes": classes, "scores": scores}


def _x_of(inputs):
    found = [Example.FromString(value).features.feature["x"].float_list.value for value in inputs]
    return np.array([values[0] for values in found], np.float32)


def write_version(folder, version, plus=2.0):
    """A version as it appears on disk: whole, by a rename."""
    aside = Path(folder, f".{version}.tmp")
    aside.mkdir(parents=True)
    (aside / "saved_model.pb").write_text(str(plus))
    aside.rename(Path(folder, str(version)))


class Loads:
    """The `load` of a server's options; keeps what it made by the version's folder."""

    def __init__(self, open_gates=True):
        self.made, self.open_gates = {}, open_gates

    def __call__(self, folder):
        try:
            model = HalfPlusTwo(float(Path(folder, "saved_model.pb").read_text()))
        except (OSError, ValueError):
            raise Refused("DATA_LOSS", "no saved_model.pb that can be read") from None
        if self.open_gates:
            model.gate.set()
        self.made[int(Path(folder).name)] = model
        return model


class Running:
    """A server in a thread, with clients. `with Running(folder) as served: ...`"""

    def __init__(self, folder, **options):
        self.loads = options.pop("load", None) or Loads()
        models = options.pop("models", None) or single(folder)
        plain = Options(models, port=0, rest_port=0, poll=0, load=self.loads, grace=LONGEST)
        self.options = replace(plain, **options)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.finished = None

    def __enter__(self):
        self.thread.start()
        try:
            self.server = self.call(self._start())
        except BaseException:
            self._end()
            raise
        self.core = self.server.core
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.server.port}")
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        return self

    async def _start(self):
        server = Server(self.options)
        await server.start()
        return server

    def __exit__(self, *_):
        for model in self.loads.made.values():
            model.gate.set()
        self.channel.close()
        try:
            if self.finished is None:
                self.stop()
            self.call(self._left())
        finally:
            self._end()

    async def _left(self):
        """What a server that gave up waiting has left behind."""
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        if rest:
            await asyncio.wait(rest, timeout=1)

    def _end(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(LONGEST)
        self.loop.close()

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(LONGEST)

    def stop(self):
        self.finished = self.call(self.server.stop())
        return self.finished

    def ask(self, method, path, body=None, headers=()):
        """Status and body, read as JSON where it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.rest_port, LONGEST)
        try:
            raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, raw, dict(headers))
            answer = connection.getresponse()
            text = answer.read()
            plain = answer.headers.get_content_type() == "application/json"
            return answer.status, json.loads(text) if plain else text.decode()
        finally:
            connection.close()

    def predict(self, x, version=""):
        """POST :predict in the row form."""
        return self.ask("POST", f"/v1/models/half{version}:predict", {"instances": x})


def until(condition):
    """Wait until something holds."""
    end = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.002)
