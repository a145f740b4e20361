"""client.py and requests.sh against a server on this machine that keeps what it was asked."""

import http.server
import json
import shutil
import subprocess
import sys
import threading

import pytest

from kerasft._core.errors import InputError
from kerasft.export.deploy import _client
from kerasft.export.deploy.client_files import client_py, requests_sh

TEXT = {"text": "string"}
GENERATE = {"prompt": "string", "max_new_tokens": "int32", "temperature": "float32"}
SIGNATURES = {
    "serving_default": ("predict", TEXT),
    "token_ids": ("predict", {"token_ids": "int32", "padding_mask": "bool"}),
    "tokenize": ("predict", TEXT),
    "classify": ("classify", {"inputs": "string"}),
    "regress": ("regress", {"inputs": "string"}),
    "generate": ("predict", GENERATE),
}
ODD = 'it\'s $HOME `id` \\ "quoted" 100% 垃圾\n@x !'
SAMPLES = {"text": ODD, "max_new_tokens": 20, "temperature": 0.5}
ZERO_SHOT = {"serving_default": ("predict", {"text": "string", "labels": "string"})}
PAIR = {"serving_default": ("predict", {"question": "string", "context": "string"})}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one thing a row, and refuses a text "bad" as TF Serving refuses."""

    def do_GET(self):
        self.server.asked.append((self.path, None))
        self.say(200, {"model_version_status": []})

    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json"
        body = json.loads(data)
        self.server.asked.append((self.path, body))
        if "inputs" in body:
            return self.say(200, {"outputs": body["inputs"]})
        rows = body.get("instances") or body["examples"]
        if any(row.get("text") == "bad" for row in rows):
            return self.say(400, {"error": "no such text"})
        if any(row.get("text") == "worse" for row in rows):
            return self.say(502, "<html>")
        key = "predictions" if "instances" in body else "results"
        self.say(200, {key: [{"label": f"{i} 垃圾"} for i in range(len(rows))]})

    def say(self, code, value):
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.asked = []
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def client(server, tmp_path):
    """`client(words, ...)` runs client.py as a process of its own; without site packages."""

    def run(*words, signatures=SIGNATURES, samples=SAMPLES, name="spam"):
        path = tmp_path / "client.py"
        path.write_text(client_py(name, signatures, samples), encoding="utf-8")
        place = ["--host", "127.0.0.1", "--port", str(server.server_port)]
        command = [sys.executable, "-I", "-S", str(path), *words, *place]
        return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=30)

    return run


def test_texts_are_rows(client, server):
    said = client("some text", ODD)
    assert said.returncode == 0, said.stderr
    assert [json.loads(line) for line in said.stdout.splitlines()] == [
        {"label": "0 垃圾"},
        {"label": "1 垃圾"},
    ]
    rows = [{"text": "some text"}, {"text": ODD}]
    body = {"signature_name": "serving_default", "instances": rows}
    assert server.asked == [("/v1/models/spam:predict", body)]


@pytest.mark.parametrize(
    ("words", "path", "rows"),
    [
        ([], "spam:predict", {"instances": [{"text": ODD}]}),
        (["a", "--label", "stable"], "spam/labels/stable:predict", {"instances": [{"text": "a"}]}),
        (["a", "--version", "3"], "spam/versions/3:predict", {"instances": [{"text": "a"}]}),
        (["a", "--model", "ham"], "ham:predict", {"instances": [{"text": "a"}]}),
        (["a", "--signature", "tokenize"], "spam:predict", {"instances": [{"text": "a"}]}),
        (["a", "--signature", "classify"], "spam:classify", {"examples": [{"text": "a"}]}),
        (["a", "--signature", "regress"], "spam:regress", {"examples": [{"text": "a"}]}),
        (
            ["a", "--signature", "generate", "--set", "max_new_tokens=3"],
            "spam:predict",
            {"instances": [{"prompt": "a", "max_new_tokens": 3, "temperature": 0.5}]},
        ),
    ],
)
def test_what_is_asked(client, server, words, path, rows):
    said = client(*words)
    assert said.returncode == 0, said.stderr
    ((asked, body),) = server.asked
    assert asked == f"/v1/models/{path}"
    signature = words[words.index("--signature") + 1] if "--signature" in words else None
    assert body == {"signature_name": signature or "serving_default"} | rows


def test_several_texts_a_row(client, server):
    said = client("q1", "c1", "q2", "c2", signatures=PAIR, samples={})
    assert said.returncode == 0, said.stderr
    rows = [{"question": "q1", "context": "c1"}, {"question": "q2", "context": "c2"}]
    assert server.asked[0][1]["instances"] == rows
    said = client("q1", "c1", "q2", signatures=PAIR, samples={})
    assert said.returncode == 2 and "question, context" in said.stderr


def test_lists_come_from_the_command_line(client, server):
    samples = {"text": "a", "labels": ["sport", "trade"]}
    said = client("x", "--set", "labels=red, green,blue", signatures=ZERO_SHOT, samples=samples)
    assert said.returncode == 0, said.stderr
    assert server.asked[0][1]["instances"] == [{"text": "x", "labels": ["red", "green", "blue"]}]


def test_lists_of_unlike_length_are_padded(monkeypatch):
    monkeypatch.setattr(_client, "SIGNATURES", ZERO_SHOT)
    rows = [{"text": "x", "labels": ["a"]}, {"text": "y", "labels": ["a", "b"]}]
    assert _client.body_of("serving_default", rows)["instances"] == [
        {"text": "x", "labels": ["a", ""]},
        {"text": "y", "labels": ["a", "b"]},
    ]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["bad"], 1, "answered 400: no such text"),
        (["worse"], 1, 'answered 502: "<html>"'),
        (["a", "--signature", "none"], 2, "invalid choice"),
        (["a", "--set", "tex=b"], 2, "takes text; not tex"),
        (["a", "--signature", "token_ids"], 2, "Received: 1 texts"),
        (["a", "--signature", "generate", "--set", "max_new_tokens=x"], 2, "is int32"),
        (["a", "--label", "x", "--version", "3"], 2, "not allowed with"),
    ],
)
def test_what_goes_wrong_is_said(client, words, code, said):
    done = client(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr and "Traceback" not in done.stderr


def test_no_server(client, server):
    server.server_close()
    done = client("a")
    assert done.returncode == 1 and "gave no answer" in done.stderr


def test_a_name_from_elsewhere_stays_a_name(client, server):
    name = "x$(id)垃圾&é"
    said = client("a", name=name)
    assert said.returncode == 0, said.stderr
    assert server.asked[0][0] == "/v1/models/x%24%28id%29%E5%9E%83%E5%9C%BE%26%C3%A9:predict"
    assert "%24%28id%29" in requests_sh(name, SIGNATURES, SAMPLES)


# requests.sh


def test_the_shell_reads_the_lines():
    text = requests_sh("spam", SIGNATURES, SAMPLES)
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
    # Fails if the JSON is not quoted: the text has a quote.
    broken = text.replace("'\"'\"'", "'", 1)
    assert (
        subprocess.run(
            ["bash", "-n"], input=broken, text=True, stderr=subprocess.DEVNULL
        ).returncode
        != 0
    )


def test_curl_asks_every_signature(server, tmp_path):
    if shutil.which("curl") is None:
        return  # the lines are read by the shell above
    path = tmp_path / "requests.sh"
    path.write_text(requests_sh("spam", SIGNATURES, SAMPLES, label="stable"), encoding="utf-8")
    env = {"HOST": f"127.0.0.1:{server.server_port}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-e", path], env=env, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
    base, text = "/v1/models/spam/labels/stable", {"text": ODD}
    generate = {"prompt": ODD, "max_new_tokens": 20, "temperature": 0.5}
    assert server.asked == [
        (base, None),
        (f"{base}/metadata", None),
        (f"{base}:predict", {"signature_name": "serving_default", "instances": [text]}),
        (f"{base}:predict", {"signature_name": "serving_default", "inputs": {"text": [ODD]}}),
        (f"{base}:predict", {"signature_name": "tokenize", "instances": [text]}),
        (f"{base}:classify", {"signature_name": "classify", "examples": [text]}),
        (f"{base}:regress", {"signature_name": "regress", "examples": [text]}),
        (f"{base}:predict", {"signature_name": "generate", "instances": [generate]}),
    ]


@pytest.mark.parametrize(
    ("name", "signatures", "samples", "said"),
    [
        ("a b", SIGNATURES, SAMPLES, "no blanks"),
        ("spam", {"x": ("ask", {})}, SAMPLES, "predict, classify, regress"),
        ("spam", SIGNATURES, {"text": None}, "must be a text, a number"),
    ],
)
def test_wrong_descriptions_are_refused(name, signatures, samples, said):
    for write in (client_py, requests_sh):
        with pytest.raises(InputError) as told:
            write(name, signatures, samples)
        assert said in str(told.value)
