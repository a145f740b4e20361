"""What the page shows of answers that are known: models made up for this, one of each task.

tests/export/test_page_of_exports.py asks exports. Chromium is needed, of the machine's own.
"""

import re
import threading
import time

import numpy as np
import pytest
from half_plus_two import Refused, Running, Signature, Spec

from kerasft.serving import ModelConfig

HTML = '<img src=x onerror="document.title=1"><script>document.title=2</script>&amp;'
CLASSES = ["ham", "<b>spam</b>", "news"]
BEGAN, GATE = threading.Event(), threading.Event()  # of a model that is slow
KINDS = {"s": "string", "i": "int32", "f": "float32", "b": "bool"}


def spec(kind):
    """ "s1" is a string [batch], "f2" a float32 [batch, any]."""
    return Spec(KINDS[kind[0]], (None,) * int(kind[1]))


def strings(*values):
    return np.array([[v.encode() for v in values]], object)


def texts_of(value):
    return [v.decode() for v in value.reshape(-1).tolist()]


def numbers(*values):
    return np.array([values], np.float32)


def places(*values):
    return np.array([values], np.int32)


def shares(found, *values, key="label"):
    return {key: found, "probabilities": numbers(*values), "logits": numbers(*values)}


def classified(text):
    if text[0] == b"refuse":
        raise Refused("INVALID_ARGUMENT", f"this is {HTML}")
    if text[0] == b"fail":
        raise ValueError("a failure of its own")
    if text[0] == b"slow":
        BEGAN.set()
        assert GATE.wait(10)
        return shares(strings("news")[0], 0.0, 0.0, 1.0)
    if text[0] == b"nan":
        return shares(strings("ham")[0], np.nan, 0.5, np.inf)
    return shares(strings("<b>spam</b>")[0], 0.125, 0.75, 0.125)


def several(text):
    if text[0]:
        return shares(strings("ham", "news"), 0.9, 0.1, 0.6, key="labels")
    return shares(np.empty((1, 0), object), 0.1, 0.2, 0.3, key="labels")


def entities(text):
    """Where "Paris" and "Ann" are, as Python counts: code points. Padded, the last first."""
    (text,) = texts_of(text)
    found = [(m.start(), m.end()) for m in re.finditer("Paris|Ann", text)][::-1]
    start, end = zip(*found, (-1, -1))
    return {
        "text": strings(*(text[a:b] for a, b in found), ""),
        "label": strings(*("<i>LOC</i>" for _ in found), ""),
        "start": places(*start),
        "end": places(*end),
        "score": numbers(*(0.987 for _ in found), 0.0),
    }


def answers(question, context):
    (question,), (context,) = texts_of(question), texts_of(context)
    start = context.find(question)
    first = (question, start, start + len(question)) if start >= 0 else ("", -1, -1)
    other = ("", -1, -1) if start >= 0 else (context[:1], 0, 1)
    answer, start, end = zip(first, other, ("", -1, -1))
    return {
        "answer": strings(*answer),
        "start": places(*start),
        "end": places(*end),
        "score": numbers(0.75, 0.25, 0.0),
    }


def asked(text, labels):
    probabilities = [1.0, *[0.0] * (labels.shape[1] - 1)]
    return {"label": labels[:, 0], "probabilities": numbers(*probabilities)}


def by_adapter(text, adapter):
    (name,) = texts_of(adapter)
    label = {"acme": "yes", "": "ham"}.get(name, "")
    return shares(strings(label)[0], 0.5, 0.5, 0.0)


def embedded(text):
    return {"embedding": numbers(3.0, 4.0, *[0.0] * 10)}


def completed(prompt, **_):
    return {"completion": strings(f"{texts_of(prompt)[0]} {HTML}")[0], "tokens": places(5, 0, -1)}


def between(head_start, head_end, text, tail_start, tail_end):
    place = head_start[0] * 1000 + head_end[0] * 100 + tail_start[0] * 10 + tail_end[0]
    return {"label": strings(str(place))[0], "probabilities": numbers(0.5, 0.3, 0.2)}


NOTED = {}


def foreign(x, on, grid):
    NOTED.update(x=x, on=on, grid=grid)
    return {"y": x * 2}


OF_CLASSES = {"label": "s1", "probabilities": "f2", "logits": "f2"}
RELATED = {"label": "s1", "probabilities": "f2"}
SPANS = {"start": "i2", "end": "i2", "score": "f2"}
WRITTEN = {"completion": "s1", "tokens": "i2"}
SIGNATURES = {  # model -> signature -> (function, inputs, outputs)
    "classes": {"serving_default": (classified, {"text": "s1"}, OF_CLASSES)},
    "several": {
        "serving_default": (
            several,
            {"text": "s1"},
            {"labels": "s2", "probabilities": "f2", "logits": "f2"},
        )
    },
    "score": {
        "serving_default": (
            lambda text: {"score": numbers(-1.5)[0]},
            {"text": "s1"},
            {"score": "f1"},
        )
    },
    "entities": {
        "serving_default": (entities, {"text": "s1"}, {"text": "s2", "label": "s2", **SPANS})
    },
    "answers": {
        "serving_default": (answers, {"context": "s1", "question": "s1"}, {"answer": "s2", **SPANS})
    },
    "asked": {"serving_default": (asked, {"text": "s1", "labels": "s2"}, RELATED)},
    "adapters": {"serving_default": (by_adapter, {"text": "s1", "adapter": "s1"}, OF_CLASSES)},
    "embedded": {"serving_default": (embedded, {"text": "s1"}, {"embedding": "f2"})},
    "completed": {
        "serving_default": (completed, {"prompt": "s1"}, WRITTEN),
        "generate": (completed, {"prompt": "s1", "seed": "i1", "top_p": "f1"}, WRITTEN),
        "tokenize": (completed, {"text": "s1"}, {"start": "i2"}),
    },
    "related": {
        "serving_default": (
            between,
            {
                "tail_end": "i1",
                "tail_start": "i1",
                "head_end": "i1",
                "head_start": "i1",
                "text": "s1",
            },
            RELATED,
        )
    },
    "masks": {
        "serving_default": (
            lambda text: {"token": strings("the", ""), "score": numbers(0.5, 0)},
            {"text": "s1"},
            {"token": "s2", "score": "f2"},
        )
    },
    "foreign": {"f": (foreign, {"x": "f1", "on": "b1", "grid": "f3"}, {"y": "f1"})},
}


class Model:
    """What a server loads: one of SIGNATURES, by its folder."""

    made = {}  # Running opens the gates of what is in here

    def __init__(self, folder):
        self.functions = SIGNATURES[folder.split("/")[-2]]
        self.signatures = {
            name: Signature(
                "tensorflow/serving/predict",
                {n: spec(kind) for n, kind in taken.items()},
                {n: spec(kind) for n, kind in given.items()},
            )
            for name, (_, taken, given) in self.functions.items()
        }

    def run(self, name, inputs):
        return self.functions[name][0](**inputs)

    def close(self):
        pass


def write_models(folder, names=SIGNATURES, versions=(1,)):
    for name in names:
        for version in versions:
            extra = folder / name / str(version) / "assets.extra"
            extra.mkdir(parents=True)
            quoted = ", ".join(f'"{one}"' for one in CLASSES)
            (extra / "labels.json").write_text(f"[{quoted}]", encoding="utf-8")
            if name == "adapters":
                (extra / "adapters.json").write_text('{"acme": ["no", "yes"]}', encoding="utf-8")
    return tuple(ModelConfig(name, str(folder / name)) for name in names)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    models = write_models(tmp_path_factory.mktemp("models"))
    with Running(None, models=models, load=Model) as running:
        yield running


@pytest.fixture
def page(browser, running):
    """The page, which has nothing to complain about before and after."""
    browser.screen(1000)
    browser.open(running.server.rest_port)
    browser.complaints()
    yield browser
    assert browser.complaints() == []


def test_classes_are_bars_under_their_names_the_likeliest_first(page):
    page.choose("classes")
    said = page.ask(text="free")
    assert re.fullmatch(r"Answered in [0-9.]+ ms, from this page to the server and back\.", said)
    assert page.texts("#answer .result") == ["<b>spam</b>"]
    assert page.bars() == [
        ("<b>spam</b>", "75.0%", "75%"),
        ("ham", "12.5%", "12.5%"),
        ("news", "12.5%", "12.5%"),
    ]
    assert page.texts(".chosen .name") == ["<b>spam</b>"]
    # The policy would refuse a width that stands in an attribute of the page.
    widths = page.js("return [...document.querySelectorAll('.fill')].map(f => f.offsetWidth)")
    assert widths[0] > 5 * widths[1] > 0


def test_the_last_question_is_answered(page):
    page.choose("classes")
    page.fill(text="slow")
    page.one("#send").click()
    assert BEGAN.wait(10)
    assert page.text("#status") == "Asking …"
    page.ask(text="free")
    GATE.set()
    time.sleep(0.1)  # an answer to the first question would stand here by now
    assert page.texts("#answer .result") == ["<b>spam</b>"]


def test_numbers_that_json_lacks_are_shown(page):
    page.choose("classes")
    page.ask(text="nan")
    assert {share for _, share, _ in page.bars()} == {"NaN%", "50.0%", "Infinity%"}


def test_several_labels_or_none(page):
    page.choose("several")
    page.ask(text="x")
    assert page.texts("#answer .result") == ["ham, news"]
    assert page.texts(".chosen .name") == ["ham", "news"]
    page.ask(text="")
    assert page.texts("#answer .result") == ["No label reaches its threshold"]
    assert page.texts(".chosen .name") == []
    assert [name for name, *_ in page.bars()] == ["news", "<b>spam</b>", "ham"]


def test_a_score_is_a_number(page):
    page.choose("score")
    page.ask(text="x")
    assert page.texts("#answer .result") == ["-1.5"]


def test_marks_count_code_points_and_texts_are_no_html(page):
    text = f"😀👩‍💻 Ann\n{HTML} e\u0301 𝒳 in Paris."
    page.choose("entities")
    page.ask(text=text)
    assert page.texts("mark .span") == ["Ann", "Paris"]
    # Where JavaScript's own indices would have marked, counted as UTF-16.
    wide, start = text.encode("utf-16-le"), text.index("Paris")
    assert wide[2 * start : 2 * start + 10].decode("utf-16-le") != "Paris"
    assert page.texts("mark .tag") == ["<i>LOC</i> 98.7%"] * 2
    whole = page.js(
        "const copy = document.querySelector('#answer .text').cloneNode(true);"
        "copy.querySelectorAll('.tag').forEach(tag => tag.remove()); return copy.textContent"
    )
    assert whole == text
    assert page.js("return document.querySelectorAll('img, b, i, #answer script').length") == 0
    assert page.driver.title not in ("1", "2")
    page.ask(text="nobody")
    assert page.texts("#answer > p") == ["No entities found.", "nobody"]


def test_an_answer_is_marked_in_its_context(page):
    page.choose("answers")
    labels = page.texts("#fields label")
    assert labels == ["question", "context"]  # in the order in which they are read
    page.ask(question="😀 blue", context="😀😀 the sky is 😀 blue <b>now</b>")
    assert page.texts("#answer .result") == ["😀 blue"]
    assert page.texts("mark .span") == ["😀 blue"]
    assert page.texts("#answer .faint") == ["Score 75.0%"]
    assert [bar[:2] for bar in page.bars()] == [("No answer in the context", "25.0%")]
    page.ask(question="green", context="😀 blue")
    assert page.texts("#answer .result") == ["No answer in the context"]
    assert page.texts("mark") == []
    assert [bar[:2] for bar in page.bars()] == [("😀", "25.0%")]


def test_asked_labels_are_lines_and_name_the_bars(page):
    page.choose("asked")
    page.ask(text="x", labels="a b\n\n c \n")
    assert [bar[:2] for bar in page.bars()] == [("a b", "100.0%"), ("c", "0.0%")]


def test_an_adapter_is_chosen_and_brings_its_classes(page):
    page.choose("adapters")
    options = page.texts("#fields select[name=adapter] option")
    assert options == ["(none: the base)", "acme"]
    page.ask(adapter="acme", text="x")
    # Filled up to the most classes of all adapters: the third is nobody's.
    assert [name for name, *_ in page.bars()] == ["no", "yes"]
    assert page.texts(".chosen .name") == ["yes"]
    page.ask(adapter="", text="x")
    assert [name for name, *_ in page.bars()] == CLASSES


def test_an_embedding_is_its_width_its_norm_and_some_numbers(page):
    page.choose("embedded")
    page.ask(text="x")
    assert page.texts("#answer .result") == ["12 numbers, norm 5"]
    assert page.texts("#answer pre") == ["[3, 4, 0, 0, 0, 0, 0, 0, …]"]


def test_a_completion_is_text_and_generate_has_its_fields(page):
    page.choose("completed")
    assert page.texts("#signature option") == ["generate", "serving_default"]
    page.ask(prompt="once")
    assert page.texts(".completion") == [f"once {HTML}"]
    assert page.texts("#answer .faint") == ["2 tokens"]
    page.one("#signature option[value=generate]").click()
    assert page.texts("#fields label") == ["prompt", "top_p", "seed"]
    assert page.texts(".completion") == []  # an answer to another question
    page.ask(prompt="twice")
    assert page.texts(".completion") == [f"twice {HTML}"]
    assert '"signature_name":"generate"' in page.text("#request-body")


def test_masks(page):
    page.choose("masks")
    page.ask(text="x")
    assert page.bars() == [("the", "50.0%", "50%")]


def test_a_model_of_another_form_is_asked_in_json(page):
    page.choose("foreign")
    page.fill(grid="[[1, 2]]", x="0.5")
    page.one("#fields [name=on]").click()
    page.one("#send").click()
    assert page.said().startswith("Answered")
    assert page.texts("#answer pre") == ['{"predictions": [1.0]}']
    assert NOTED["grid"].tolist() == [[[1, 2]]] and NOTED["on"].tolist() == [True]
    assert "grid is a value in JSON" in page.ask(grid="[[1, 2", x="1")


@pytest.mark.parametrize(
    ("value", "received"),
    [("", "nothing"), ("two", "two"), ("1.5", "1.5"), ("9007199254740993", "9007199254740993")],
)
def test_a_wrong_number_is_said_and_not_sent(page, value, received):
    page.choose("related")
    fields = {"text": "x", "head_start": "1", "head_end": "2", "tail_start": value}
    said = page.ask(**fields, tail_end="4")
    assert said == f"tail_start is a whole number. Received: {received}."
    assert page.js("return document.activeElement.name") == "tail_start"
    assert page.ask(tail_start=" 3 ").startswith("Answered")
    assert page.texts("#answer .result") == ["1234"]
    assert not page.one("#problem").is_displayed()


def test_errors_of_the_server_are_said_in_words(page):
    page.choose("classes")
    page.ask(text="fine")
    assert page.ask(text="refuse") == f"The server refused this (400): this is {HTML}"
    assert page.bars() == []  # nothing of the last answer is left
    assert page.one("#problem").get_attribute("role") == "alert"
    said = page.ask(text="fail")
    assert said == "The server failed (500): ValueError: a failure of its own"
    assert "surrogate" in page.js(
        "const field = document.querySelector('[name=text]'); field.value = '\\ud83d';"
        "document.querySelector('#send').click();"
        "return new Promise(done => setInterval(() => {"
        "  const said = document.querySelector('#problem').textContent;"
        "  if (said.includes('(400)')) done(said) }, 5))"
    )
    assert len(page.complaints()) == 3  # the browser logs each status of its own accord
    assert page.ask(text="fine").startswith("Answered")


def test_a_server_that_has_gone_is_said(browser, tmp_path):
    with Running(None, models=write_models(tmp_path, ["classes"]), load=Model) as running:
        browser.open(running.server.rest_port)
        assert browser.ask(text="x").startswith("Answered")
        place = f"127.0.0.1:{running.server.rest_port}"
        running.stop()
        assert browser.ask(text="x") == (
            f"The server at {place} cannot be reached. Is it still running?"
        )
    browser.complaints()


def test_a_version_that_has_gone_is_followed_by_the_new_one(browser, tmp_path):
    models = write_models(tmp_path, ["classes"])
    with Running(None, models=models, load=Model) as running:
        browser.open(running.server.rest_port)
        browser.fill(text="kept")
        write_models(tmp_path, ["classes"], versions=(2,))
        running.call(running.core.models.poll())
        assert "the list of models was read again" in browser.ask()
        assert "version 2" in browser.text("#about")
        assert browser.js("return document.querySelector('[name=text]').value") == "kept"
        assert browser.ask().startswith("Answered")
    browser.complaints()


def test_every_field_has_a_label(page):
    for model in SIGNATURES:
        page.choose(model)
        labels = page.js(
            "return [...document.querySelectorAll('input, select, textarea')]"
            ".map(one => [...one.labels].map(label => label.textContent).join())"
        )
        assert labels[:3] == ["Model", "Version", "Signature"]
        signature = next(iter(SIGNATURES[model].values()))
        assert sorted(labels[3:]) == sorted(signature[1])


@pytest.mark.parametrize(
    ("model", "fields"),
    [("entities", ["text"]), ("answers", ["question", "context"]), ("completed", ["prompt"])],
)
def test_nothing_leaves_a_narrow_screen(page, model, fields):
    page.choose(model)
    page.screen(360)
    page.ask(**dict.fromkeys(fields, "a" * 300))
    assert "a" * 300 in page.text("#answer")
    too_wide = "const { scrollWidth, clientWidth } = document.documentElement; return %s"
    assert not page.js(too_wide % "scrollWidth > clientWidth || clientWidth > 360")
    page.js("document.body.style.overflowWrap = 'normal'")
    assert page.js(too_wide % "scrollWidth > clientWidth")  # long words are broken by this alone


def test_light_and_dark(page):
    def colours():
        return page.js(
            "const style = getComputedStyle(document.body);"
            "return [style.backgroundColor, style.color].map("
            "  colour => colour.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0))"
        )

    ground, ink = colours()
    assert ground > 600 > 200 > ink
    page.screen(1000, "dark")
    ground, ink = colours()
    assert ground < 200 < 600 < ink
