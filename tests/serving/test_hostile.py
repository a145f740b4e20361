"""A short form of benchmarks/fuzz.py and benchmarks/soak.py, against a model in NumPy."""

import mmap
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from half_plus_two import Running, Spec, signature, write_version

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import _fuzz_rest
import fuzz
import soak
from _fuzz_slow import SlowClients
from _served import memory
from _serving_sides import Clients

from kerasft.serving import connections, json_form, rest
from kerasft.serving._protos import Example

SEED = 364136  # `benchmarks/fuzz.py --seed` sends others
TEXT, IDS = Spec("string", (None,)), Spec("int32", (None, None))
LIMIT = 20.0  # seconds for a request, and for what is half sent


class Texts:
    """A classifier of texts, with the signatures of an export."""

    signatures = {
        "serving_default": signature(
            "predict",
            {"text": TEXT},
            {"label": TEXT, "probabilities": Spec("float32", (None, 2))},
        ),
        "token_ids": signature(
            "predict",
            {"token_ids": IDS, "segment_ids": IDS, "padding_mask": Spec("bool", (None, None))},
            {"logits": Spec("float32", (None, 2))},
        ),
        "classify": signature(
            "classify",
            {"inputs": TEXT},
            {"classes": Spec("string", (None, 2)), "scores": Spec("float32", (None, 2))},
        ),
    }
    kept, size = None, 0

    def run(self, name, inputs):
        if name == "serving_default":
            if self.kept is not None:
                # Pages of its own: what this process has freed before may be used again.
                self.kept.append(mmap.mmap(-1, self.size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
                self.kept[-1].write(b"1" * self.size)
            shares = np.array([[len(t) % 7, 1] for t in inputs["text"]], np.float32) / 8
            return {"label": np.array([b"ham"] * len(shares), object), "probabilities": shares}
        if name == "token_ids":
            return {"logits": np.zeros((len(inputs["token_ids"]), 2), np.float32)}
        for value in inputs["inputs"]:
            feature = Example.FromString(value).features.feature
            if not feature["text"].bytes_list.value:
                raise SimpleError("INVALID_ARGUMENT", "a feature is missing")
        count = len(inputs["inputs"])
        classes = np.full((count, 2), b"ham", object)
        return {"classes": classes, "scores": np.zeros((count, 2), np.float32)}

    def close(self):
        pass


class SimpleError(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Load:
    made = {}

    def __call__(self, folder):
        self.model = Texts()
        return self.model


@pytest.fixture
def limit():
    return LIMIT


@pytest.fixture
def texts(tmp_path, limit):
    """A server of `m` in this process."""
    write_version(tmp_path / "m", 1)
    options = {"timeout": limit, "max_body_bytes": _fuzz_rest.MOST_BYTES, "load": Load()}
    with Running(tmp_path / "m", **options) as running:
        yield running


def send(texts, count, clients=4):
    ports = (texts.server.rest_port, texts.server.port)
    print(f"seed {SEED}")
    return fuzz.campaign(
        ports, os.getpid(), count, SEED, clients, 0, lambda _: lambda: [0.0], LIMIT
    )


def test_hostile_requests_are_told_what_is_wrong_and_harm_nobody(texts, caplog):
    found = send(texts, 2000)
    assert found["wrong"] == []
    assert sum(found["sent"].values()) == 2000 and len(found["sent"]) > 35
    assert found["apart"] <= 1e-5 and found["longest"] < 20
    assert found["files"][1] - found["files"][0] <= 3
    assert "Traceback" not in caplog.text
    assert texts.core.running == 0 and texts.server._rest._bytes == 0


@pytest.mark.slow
def test_more_of_them(texts):
    assert send(texts, 20_000, clients=8)["wrong"] == []


@pytest.mark.parametrize(
    ("place", "name", "wrong", "family", "seen"),
    [
        (json_form, "problem", lambda message: b'{"message": "no"}', "cut_json", "with the body"),
        (connections.Hosts, "answers_to", lambda self, header: True, "hosts", "hosts: 200"),
        (rest, "http_status", lambda code: 500, "broken_json", "500, not"),
        (json_form, "parse", lambda body: {"instances": ["a"]}, "deep", "deep: 200"),
    ],
)
def test_what_it_is_there_to_find_is_found(texts, monkeypatch, place, name, wrong, family, seen):
    monkeypatch.setattr(place, name, wrong)
    # Of the family that is made for it alone: among all of them a rare one may not be drawn.
    monkeypatch.setattr(_fuzz_rest, "FAMILIES", {getattr(_fuzz_rest, family): 1.0})
    assert any(seen in what for what in send(texts, 100)["wrong"])


def test_an_answer_that_has_changed_is_found(texts, monkeypatch):
    calls = iter(range(10**6))

    def run(self, name, inputs, whole=Texts.run):
        answer = whole(self, name, inputs)
        if name == "serving_default" and next(calls) > 2:
            answer["probabilities"] = answer["probabilities"] + np.float32(1e-3)
        return answer

    monkeypatch.setattr(Texts, "run", run)
    assert any(what.startswith("fine: answered") for what in send(texts, 100)["wrong"])


@pytest.mark.parametrize("limit", [0.5])
@pytest.mark.parametrize("patience", [20.0, -0.9])
def test_slow_clients_are_cut_off_and_those_that_are_not_are_found(texts, monkeypatch, patience):
    monkeypatch.setattr("_fuzz_slow._SLACK", patience)  # -0.9: sooner than the server gives up
    slow = SlowClients((texts.server.rest_port, texts.server.port), 15, SEED, 0.5)
    slow.run()
    assert any("still open" in what for what in slow.wrong) == (patience < 0)
    assert len(slow.sent) > 3
    assert patience < 0 or slow.wrong == []


@pytest.mark.parametrize("leaks", [False, True])
def test_memory_that_grows_with_each_request_is_found(texts, leaks):
    load = texts.options.load
    clients = Clients(texts.server.rest_port, "/v1/models/m:predict", soak.NewTexts(SEED))
    soak.capacity(clients, 0.4)
    # Of what this process holds already, which with other tests in it may be gigabytes: 160
    # requests after the warm-up leave some 15%.
    load.model.size = max(200_000, int(0.15 * memory(os.getpid())[0] * 2**20 / 160))
    load.model.kept = [] if leaks else None
    found = soak.soak(clients, os.getpid(), 100.0, 2.0)
    assert found["errors"] == [] and found["requests"] >= 190
    assert (soak.growth(found["own"]) > 0.05) == leaks


def test_no_word_comes_twice():
    texts = soak.NewTexts(SEED)
    words = [word for i in range(300) for word in texts[i].decode().split('"')[3].split()]
    assert len(set(words)) == len(words) == 300 * soak.WORDS


def test_growth_is_from_the_end_of_the_warm_up():
    assert soak.growth([10.0, 50.0] * 10 + [100.0] * 80) == 0  # what warms up does not count
    assert soak.growth([100.0] * 90 + [102.0] * 10) == pytest.approx(0.02)
