"""An export behind every server that there is: REST, gRPC, and the files beside it.

They are `kerasft serve` with the real C runtime, and TF Serving where it is found: see
model_servers.py.
"""

import os
import random
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import model_servers
import numpy as np
import pytest
from asking import expected

from kerasft.export.deploy import checksums, config, versions, warmup
from kerasft.export.gate import _graph, _ops
from kerasft.export.golden import read_golden
from kerasft.serving import _protos as protos
from kerasft.serving.tensors import from_proto, to_proto
from kerasft.testing import tiny

SEED = random.SystemRandom().randrange(10**6)
TEXTS = 1000
SIGNATURES = {"serving_default", "token_ids", "tokenize", "classify"}


@pytest.fixture(scope="module")
def folder(exported):
    """`saved_models/m` of a pipeline of pairs of texts."""
    return str(Path(exported("a pair")).parent)


@pytest.fixture(scope="module", params=model_servers.NAMES)
def server(request, folder):
    with model_servers.of_folder(request.param, folder) as asked:
        yield asked


def ask(server, verb, body):
    status, answer = server.ask("POST", f"/v1/models/m:{verb}", body)
    assert status == 200, answer
    return answer


def drawn(count):
    """Strings of words, signs of all planes, and nothing."""
    source = random.Random(SEED)
    words = [*tiny.WORDS, *tiny.SIGNS, "<b>", "\\", '"', "\n", "\t", "½", "ﬁ", "e\u0301"]
    planes = ((1, 0xD800), (0xE000, 0x110000))  # all but the surrogates

    def one():
        if source.random() < 0.1:
            return chr(source.randrange(*source.choice(planes)))
        return source.choice(words)

    def text():
        return source.choice(["", " "]).join(one() for _ in range(source.randrange(12)))

    return [text() for _ in range(count)]


def test_a_thousand_strings_by_both_doors(kind, server):
    """By REST in rows, by gRPC in tensors: what the pipeline in Python answers."""
    print(f"seed {SEED}")
    pipe = kind("a pair")
    fields = {"text": drawn(TEXTS), "text_pair": drawn(TEXTS)[::-1]}
    meant = expected(pipe, fields)
    labels = [label.decode() for label in meant["label"].tolist()]
    assert len(set(labels)) > 1  # an answer that is always the same would say nothing

    rows = [dict(zip(fields, values)) for values in zip(*fields.values())]
    found = []
    for start in range(0, TEXTS, 100):
        body = {"instances": rows[start : start + 100]}
        found += ask(server, "predict", body)["predictions"]
    assert [answer["label"] for answer in found] == labels
    shares = [answer["probabilities"] for answer in found]
    np.testing.assert_allclose(shares, meant["probabilities"], atol=1e-5)

    with grpc.insecure_channel(server.grpc) as channel:
        stub = protos.prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = protos.predict_pb2.PredictRequest()
        request.model_spec.name = "m"
        for name, values in fields.items():
            request.inputs[name].CopyFrom(to_proto(np.array([v.encode() for v in values], object)))
        answer = stub.Predict(request, timeout=60).outputs
    assert [v.decode() for v in from_proto(answer["label"]).tolist()] == labels
    shares = from_proto(answer["probabilities"])
    np.testing.assert_allclose(shares, meant["probabilities"], atol=1e-5)


def as_json(value):
    """A value of a golden record as REST takes it."""
    if isinstance(value, list):
        return [as_json(one) for one in value]
    if isinstance(value, dict):
        return {name: as_json(one) for name, one in value.items()}
    return value.decode() if isinstance(value, bytes) else value


def asked_by_rest(server, record):
    """What REST answers a golden record, in columns, by output."""
    name, inputs = record["signature"], record["inputs"]
    if name != "classify":
        found = ask(server, "predict", {"signature_name": name, "inputs": as_json(inputs)})
        (output, *more) = record["outputs"]
        return found["outputs"] if more else {output: found["outputs"]}
    rows = [
        {n: f.bytes_list.value[0].decode() for n, f in one.features.feature.items()}
        for one in map(protos.Example.FromString, inputs["inputs"])
    ]
    results = ask(server, "classify", {"signature_name": name, "examples": rows})["results"]
    parts = [list(zip(*row)) for row in results]
    return {"classes": [row[0] for row in parts], "scores": [row[1] for row in parts]}


def test_its_golden_records_by_rest(folder, server):
    """Fails where a string, a shape or a number beyond rounding is another one."""
    records = read_golden(f"{folder}/1")
    assert {record["signature"] for record in records} == SIGNATURES
    for record in records:
        got = asked_by_rest(server, record)
        assert set(got) == set(record["outputs"])
        for output, meant in record["outputs"].items():
            meant = np.array(as_json(meant))
            if meant.dtype.kind == "f":
                np.testing.assert_allclose(got[output], meant, atol=record["tolerance"])
            else:
                assert np.array_equal(got[output], meant), (record["signature"], output)


def test_classify_by_rest(kind, server):
    pipe = kind("a pair")
    rows = [{"text": "good", "text_pair": "a film"}, {"text": "", "text_pair": "bad"}]
    results = ask(server, "classify", {"signature_name": "classify", "examples": rows})["results"]
    meant = expected(pipe, {n: [r[n] for r in rows] for n in rows[0]})["probabilities"]
    for pairs, scores in zip(results, meant, strict=True):
        assert [label for label, _ in pairs] == list(pipe.task.labels)
        np.testing.assert_allclose([score for _, score in pairs], scores, atol=1e-5)


def test_its_warm_up_requests_were_played(folder, server):
    """Before the version was available: the C runtime answered each of them."""
    if server.name != model_servers.OURS:
        return  # TF Serving counts them too, where a monitoring.config asks it to
    with urllib.request.urlopen(f"{server.rest}/monitoring/prometheus/metrics") as answer:
        page = answer.read().decode()
    where = f'model_path="{folder}/1",status="OK"'
    assert f":tensorflow:serving:model_warmup_latency_count{{{where}}} 1.0" in page


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="/proc is a folder of Linux")
def test_neither_keras_nor_tensorflow_for_python_is_in_the_process(server):
    if server.name != model_servers.OURS:
        return  # TF Serving has no Python at all
    ask(server, "predict", {"instances": [{"text": "good", "text_pair": "bad"}]})
    maps = Path(f"/proc/{server.process.pid}/maps").read_text(encoding="utf-8")
    assert "libtensorflow_cc" in maps
    assert "_pywrap_tensorflow" not in maps and "keras" not in maps


def test_the_client_that_lies_beside_it(kind, folder, server):
    host, port = server.rest.removeprefix("http://").split(":")
    client = [sys.executable, f"{folder}/deploy/client.py", "good", "--set", "text_pair=a film"]
    done = subprocess.run(
        [*client, "--host", host, "--port", port], capture_output=True, text=True, check=True
    )
    meant = expected(kind("a pair"), {"text": ["good"], "text_pair": ["a film"]})
    assert meant["label"][0].decode() in done.stdout


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.data-00000-of-00001"])
def test_a_damaged_version_is_one_line_and_the_one_before_answers(folder, tmp_path, name):
    shutil.copytree(f"{folder}/1", tmp_path / "m" / "1")
    with model_servers.serving(str(tmp_path / "m"), "--poll", "0.1") as asked:
        shutil.copytree(f"{folder}/1", tmp_path / "aside")
        damaged = tmp_path / "aside" / name
        damaged.write_bytes(damaged.read_bytes()[:1000])
        (tmp_path / "aside").rename(tmp_path / "m" / "2")
        for _ in range(600):
            status, told = asked.ask("GET", "/v1/models/m/versions/2")
            if status == 200:  # 404: not looked at yet
                (state,) = told["model_version_status"]
                if state["state"] == "END":
                    break
            time.sleep(0.05)
        assert state["state"] == "END" and state["status"]["error_message"]
        rows = [{"text": "good", "text_pair": "bad"}]
        assert len(ask(asked, "predict", {"instances": rows})["predictions"]) == 1
    shutil.rmtree(tmp_path / "m" / "1")
    command = [sys.executable, "-m", "kerasft", "serve", str(tmp_path / "m")]
    done = subprocess.run(
        [*command, "--rest-port", "0", "--port", "0"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "does not load" in line


@pytest.mark.parametrize(
    "name",
    [
        "decoder of byte pairs",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("completions", "chats", "masks")),
    ],
)
def test_nothing_is_remembered_of_the_words_that_a_server_is_asked(exported, name):
    ops = _ops(_graph(exported(name)))
    assert "LookupTableFindV2" in ops and "LookupTableInsertV2" not in ops


@pytest.mark.graph
def test_kerashub_remembers_them():
    """Why byte pairs are merged by code of ours: KerasHub puts each new word into a table."""
    import keras_hub
    import tensorflow as tf

    vocabulary, merges = tiny.byte_pairs(())
    theirs = keras_hub.tokenizers.BytePairTokenizer(vocabulary=vocabulary, merges=merges)
    for tokenizer, grows in ((theirs, True), (tiny.tokenizer("gpt2"), False)):
        traced = tf.function(tokenizer.tokenize, [tf.TensorSpec([None], tf.string)])
        graph = str(traced.get_concrete_function().graph.as_graph_def())
        assert ("LookupTableInsertV2" in graph) == grows


def test_what_lies_beside_an_export(folder):
    place = f"{folder}/1"
    assert set(os.listdir(folder)) == {"1", "deploy"}
    names = {r["signature"] for r in read_golden(place)}
    assert {signature for signature, *_ in warmup.read_warmup(place)} == names
    checksums.verify(place)
    (found,) = versions.versions(folder)
    assert found.number == 1
    text = Path(f"{folder}/deploy/models.config").read_text(encoding="utf-8")
    assert [model.name for model in config.read_models_config(text)] == ["m"]
    card = Path(f"{place}/assets.extra/model_card.md").read_text(encoding="utf-8")
    assert "so so" in card
