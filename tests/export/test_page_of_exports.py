"""The page of `kerasft serve` in a browser, on exports: it shows what the pipeline answers.

tests/serving/test_page_in_browser.py has answers that are made up, and no need of TensorFlow.
"""

import json
import urllib.request
from pathlib import Path

import pytest
from asking import expected
from model_servers import serving

KINDS = {
    "classes": "one text",
    "several": "several labels",
    "score": "a score, lora",
    "spans": "entities",
    "answers": "answers",
    "vectors": "embeddings",
    "texts": "completions",
    "masks": "masks",
    "relations": "relations",
    "asked": "asked labels",
}
HTML = "<img src=x onerror=alert(1)> the good film"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port(exported, tmp_path_factory):
    """REST's port of one server with an export of each kind."""
    entry = 'config {{ name: "{}" base_path: "{}" model_platform: "tensorflow" }}'
    models = [entry.format(name, Path(exported(kind)).parent) for name, kind in KINDS.items()]
    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(f"model_config_list {{ {' '.join(models)} }}", encoding="utf-8")
    with serving("--model-config-file", str(config), "--timeout", "60") as asked:
        yield int(asked.rest.rpartition(":")[2])


@pytest.fixture
def page(browser, port):
    browser.screen(1000)
    browser.open(port)
    browser.complaints()
    yield browser
    assert browser.complaints() == []


def answer(pipe, **fields):
    """The pipeline's answer to one row, as plain values."""
    found = expected(pipe, {name: [value] for name, value in fields.items()})
    plain = {name: value.tolist()[0] for name, value in found.items()}

    def text(value):
        if isinstance(value, list):
            return [text(one) for one in value]
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    return {name: text(value) for name, value in plain.items()}


def close(shown, share):
    """A share as it is shown, but for its last digit: two runtimes round float32 differently."""
    return abs(float(shown.rstrip("%")) - 100 * share) < 0.11


def test_every_export_is_known_by_its_task_and_its_classes(kind, port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/page/models.json") as found:
        models = json.load(found)["models"]
    told = {m["name"]: (m["versions"][0]["task"], m["versions"][0]["classes"]) for m in models}
    tasks = {name: kind(of).task for name, of in KINDS.items()}
    assert told == {n: (t.name, list(getattr(t, "labels", ()))) for n, t in tasks.items()}


@pytest.mark.parametrize("text", ["free prize", HTML, "", "😀 good"])
def test_classes(kind, page, text):
    found = answer(kind("one text"), text=text)
    page.choose("classes")
    assert page.ask(text=text).startswith("Answered")
    assert page.texts("#answer .result") == [found["label"]]
    shares = dict(zip(kind("one text").task.labels, found["probabilities"]))
    assert [n for n, *_ in page.bars()] == sorted(shares, key=shares.get, reverse=True)
    assert all(close(shown, shares[name]) for name, shown, _ in page.bars())
    page.choose("several")
    page.ask()  # the text stays as it was
    labels = [label for label in answer(kind("several labels"), text=text)["labels"] if label]
    assert sorted(page.texts(".chosen .name")) == sorted(labels)
    page.choose("score")
    page.ask()
    score = answer(kind("a score, lora"), text=text)["score"]
    assert float(page.text("#answer .result")) == pytest.approx(score, rel=1e-4, abs=1e-4)


def test_entities_behind_an_emoji(kind, page):
    text = f"😀 the good film was 👩‍💻 bad, {HTML}"
    found = answer(kind("entities"), text=text)
    places = [(a, b) for a, b in zip(found["start"], found["end"]) if a >= 0]
    meant = [text[a:b] for a, b in places]
    # Where JavaScript's own indices, which count UTF-16, would have put the marks.
    wide = text.encode("utf-16-le")
    assert meant and meant != [
        wide[2 * a : 2 * b].decode("utf-16-le", errors="replace") for a, b in places
    ]
    page.choose("spans")
    page.ask(text=text)
    assert page.texts("mark .span") == meant == [t for t in found["text"] if t]
    tags = [tag.rpartition(" ") for tag in page.texts("mark .tag")]
    assert [label for label, *_ in tags] == [label for label in found["label"] if label]
    assert all(close(shown, score) for (*_, shown), score in zip(tags, found["score"]))
    assert page.js("return document.querySelectorAll('img').length") == 0


def test_an_answer_behind_an_emoji(kind, page):
    fields = {"question": "was it good", "context": f"😀😀 a bad story. the film was good {HTML}"}
    found = answer(kind("answers"), **fields)
    page.choose("answers")
    page.ask(**fields)
    best = found["answer"][0]
    assert page.text("#answer .result") == (best or "No answer in the context")
    span = fields["context"][found["start"][0] : found["end"][0]]
    assert page.texts("mark .span") == ([span] if best else [])
    real = [score for score in found["score"] if score > 0]
    assert len(page.bars()) == len(real) - 1
    assert page.js("return document.querySelectorAll('img').length") == 0


def test_vectors_texts_masks_and_labels_that_are_asked(kind, page):
    page.choose("vectors")
    page.ask(text="the film")
    vector = answer(kind("embeddings"), text="the film")["embedding"]
    assert page.text("#answer .result").startswith(f"{len(vector)} numbers, norm ")
    page.choose("texts")
    page.ask(prompt="the film")
    found = answer(kind("completions"), prompt="the film")
    assert page.text(".completion") == found["completion"]
    page.one("#signature option[value=generate]").click()
    page.ask(max_new_tokens="2", top_k="1")
    assert page.text("#answer .faint") in ("0 tokens", "1 token", "2 tokens")
    page.choose("masks")
    hidden = f"the {kind('masks').tokenizer.mask_token} was good"
    page.ask(text=hidden)
    found = answer(kind("masks"), text=hidden)
    assert [name for name, *_ in page.bars()] == [token for token in found["token"] if token]
    page.choose("asked")
    page.ask(text="good", labels="bad\nso so")
    assert {name for name, *_ in page.bars()} == {"bad", "so so"}


def test_places_that_are_no_places(kind, page):
    fields = {"text": "the film was good", "head_start": 0, "head_end": 3}
    fields |= {"tail_start": 4, "tail_end": 8}
    page.choose("relations")
    assert page.ask(**fields).startswith("Answered")
    assert page.text("#answer .result") == answer(kind("relations"), **fields)["label"]
    said = page.ask(tail_end="eight")
    assert said == "tail_end is a whole number. Received: eight."
