"""The page for the desk as a browser asks for it; what it shows: test_page_in_browser.py."""

import http.client
import json
import re
from dataclasses import dataclass
from importlib.resources import files

import pytest
from half_plus_two import Running, Signature, Spec, write_version

from kerasft import serving
from kerasft.cli.main import run
from kerasft.serving import ModelConfig
from kerasft.serving.page import MODELS, models_json, task_of
from kerasft.serving.server import describe

FILES = {"/": "text/html", "/page/page.css": "text/css", "/page/page.js": "text/javascript"}


def get(running, path, method="GET"):
    """Status, headers and body as they come."""
    connection = http.client.HTTPConnection("127.0.0.1", running.server.rest_port, 10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", FILES)
def test_the_files_come_with_their_types_and_nothing_from_elsewhere(shared, path):
    status, headers, body = get(shared, path)
    assert status == 200
    assert headers["Content-Type"] == f"{FILES[path]}; charset=utf-8"
    assert "default-src 'self'" in headers["Content-Security-Policy"].split("; ")
    assert headers["X-Content-Type-Options"] == "nosniff"
    text = body.decode("utf-8")
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", text)
    bare = get(shared, path, "HEAD")
    assert (bare[0], bare[1]["Content-Type"], bare[2]) == (200, headers["Content-Type"], b"")


def test_no_text_can_become_code():
    """The policy forbids what stands in the page itself; the script makes no elements of text."""
    here = files("kerasft.serving.page")
    page, script = (here.joinpath(n).read_text(encoding="utf-8") for n in ("page.html", "page.js"))
    assert re.findall(r"<script[^>]*>(.*?)</script>", page, re.S) == [""]
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", page)
    code = re.sub(r"^ *//.*$", "", script, flags=re.M)  # a comment may name them
    assert not re.search(
        r"\.(inner|outer)HTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser",
        code,
    )


def test_every_field_of_the_page_has_a_label():
    page = files("kerasft.serving.page").joinpath("page.html").read_text(encoding="utf-8")
    fields = re.findall(r'<(?:select|input|textarea) id="([^"]+)"', page)
    assert fields == ["model", "version", "signature"]
    assert re.findall(r'<label for="([^"]+)"', page) == fields


def test_the_page_can_be_off(folder):
    with Running(folder, page=False) as running:
        for path in (*FILES, MODELS, "/favicon.ico"):
            status, _, body = get(running, path)
            assert (status, json.loads(body)) == (404, {"error": f"There is no {path}."})
        assert running.predict([1.0])[0] == 200


@pytest.mark.parametrize("words", [[], ["--no-page"]])
def test_the_command_says_where_the_page_is_unless_it_is_off(folder, monkeypatch, words):
    given = []
    monkeypatch.setattr(serving, "serve", lambda options: not given.append(options), raising=False)
    assert run(["serve", str(folder), *words]) == 0
    assert given[0].page is not bool(words)
    with Running(folder, page=given[0].page) as running:
        told = describe(running.server)
        assert (f"by hand: http://127.0.0.1:{running.server.rest_port}/" in told) is not bool(words)


def test_the_page_leaves_every_other_path_alone(shared):
    for path in ("/page", "/page/", "/page/../page/page.js", "/page/__init__.py", "/pages"):
        status, headers, body = get(shared, path)
        assert (status, list(json.loads(body))) == (404, ["error"])
        assert "Content-Security-Policy" not in headers
    assert get(shared, "/", "POST")[0] == 404
    assert get(shared, "/favicon.ico")[0] == 204
    assert get(shared, "/v1/models/half")[0] == 200


def write_extra(folder, version, **extras):
    place = folder / str(version) / "assets.extra"
    place.mkdir()
    for name, text in extras.items():
        (place / f"{name}.json").write_text(text, encoding="utf-8")


def test_models_versions_and_classes(folder):
    """The newest version first, its number as text: JavaScript would round a long one."""
    newest = 2**60 + 1
    write_version(folder, newest)
    write_extra(folder, newest, labels='["ham", "sp\\u00e4m"]', adapters='{"acme": ["a"]}')
    models = (ModelConfig("half", str(folder), "all"), ModelConfig("again", str(folder)))
    with Running(folder, models=models) as running:
        status, headers, body = get(running, MODELS)
        assert (status, headers.get_content_type()) == (200, "application/json")
        assert headers["Cache-Control"] == "no-cache"
    new = {
        "version": str(newest),
        "task": "",
        "classes": ["ham", "späm"],
        "adapters": {"acme": ["a"]},
    }
    old = {"version": "1", "task": "", "classes": [], "adapters": None}
    assert json.loads(body) == {
        "models": [{"name": "half", "versions": [new, old]}, {"name": "again", "versions": [new]}]
    }


@pytest.mark.parametrize("text", ["", "[", "3", '["a", 3]', '{"a": "b"}', "null", "[" * 9999])
def test_damaged_class_names_are_no_class_names(folder, text):
    write_extra(folder, 1, labels=text, adapters=text)
    with Running(folder) as running:
        status, _, body = get(running, MODELS)
    (version,) = json.loads(body)["models"][0]["versions"]
    assert (status, version["classes"]) == (200, [])
    # The names of adapters stand; what has no list of classes has none.
    assert version["adapters"] == ({"a": []} if text == '{"a": "b"}' else None)


def test_a_new_version_is_told_without_a_restart(folder):
    with Running(folder) as running:
        write_version(folder, 2)
        running.call(running.core.models.poll())
        (model,) = json.loads(get(running, MODELS)[2])["models"]
    assert [one["version"] for one in model["versions"]] == ["2"]


@dataclass(frozen=True)
class Alone:
    """A loaded version without a server."""

    version: int
    signatures: dict
    folder: str = "nowhere"


def signatures(taken, given, name="serving_default"):
    text = Spec("string", (None,))
    taken, given = (dict.fromkeys(names.split(), text) for names in (taken, given))
    return {name: Signature("tensorflow/serving/predict", taken, given)}


@pytest.mark.parametrize(
    ("taken", "given", "task"),
    [
        ("text", "label probabilities logits", "text-classification"),
        ("text text_pair adapter", "label probabilities logits", "text-classification"),
        ("text", "labels probabilities logits", "text-classification"),
        ("text", "score", "text-classification"),
        ("text", "text label start end score", "token-classification"),
        ("question context", "answer start end score", "question-answering"),
        ("text head_start head_end tail_start tail_end", "label probabilities", "relation-extra"),
        ("text labels", "label probabilities", "zero-shot-classification"),
        ("prompt", "completion tokens", "causal-lm"),
        ("x", "y", ""),
        ("x", "score", ""),  # of somebody else's form
        ("text", "score more", ""),
    ],
)
def test_the_task_is_known_by_the_names_of_a_signature(taken, given, task):
    task += "ction" if task == "relation-extra" else ""
    assert task_of(signatures(taken, given)) == task
    assert task_of(signatures(taken, given, "other")) == ""
    told = models_json({"m": [Alone(3, signatures(taken, given))]})
    (version,) = told["models"][0]["versions"]
    assert version == {"version": "3", "task": task, "classes": [], "adapters": None}
