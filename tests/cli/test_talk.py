"""Commands that talk to a language model, and that are asked labels: what comes out of them."""

import io
import json

import pytest
from small_files import written

from kerasft.pipeline import Pipeline
from kerasft.tasks import CausalLM, ZeroShotClassification
from kerasft.testing import _rig

LABELS = ["good", "bad"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`folder(task, family)`: where a tiny pipeline of a task was saved."""
    place = tmp_path_factory.mktemp("talk")

    def make(name, task, family):
        path = place / name
        if not path.exists():
            _rig.pipeline(family, "full", task).save(path)
        return path

    return make


@pytest.fixture
def chats(folder):
    task = CausalLM(format="chat", max_length=128, max_new_tokens=4)
    return folder("chats", task, "llama3")


def said(kerasft, monkeypatch, lines, *words):
    data = lines if isinstance(lines, bytes) else "".join(f"{x}\n" for x in lines).encode()
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="surrogateescape")
    monkeypatch.setattr("sys.stdin", text)
    return kerasft("chat", *words)


def test_each_line_is_answered_with_what_was_said_before(kerasft, monkeypatch, chats):
    chat = Pipeline.load(chats).chat("the film")
    first, second = ("".join(chat.say(text)) for text in ("good", "bad"))
    asked = ["good", "", "bad", "/new", "good"]
    done = said(kerasft, monkeypatch, asked, chats, "--system", "the film")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{first}\n{second}\n{first}\n"


def test_options_are_those_of_the_stream(kerasft, monkeypatch, chats):
    options = {"temperature": 1.5, "max_new_tokens": 9, "seed": 3}
    meant = "".join(Pipeline.load(chats).stream([{"role": "user", "content": "you"}], **options))
    words = [word for name, v in options.items() for word in (f"--{name.replace('_', '-')}", v)]
    assert said(kerasft, monkeypatch, ["you"], chats, *words).out == meant + "\n"
    assert said(kerasft, monkeypatch, ["you"], chats).out != meant + "\n"


@pytest.mark.parametrize(
    ("lines", "words", "message"),
    [
        (b"a\xff\n", [], "UTF-8"),
        (["a"], ["--temperature", "-1"], "--temperature"),
        (["a"], ["--max-new-tokens", "0"], "--max-new-tokens"),
    ],
)
def test_what_cannot_be_said(kerasft, monkeypatch, chats, lines, words, message):
    done = said(kerasft, monkeypatch, lines, chats, *words)
    (line,) = done.err.splitlines()
    assert (done.code, done.out) == (2, "") and message in line


def test_only_a_language_model_talks(kerasft, monkeypatch, trained):
    done = said(kerasft, monkeypatch, ["a"], trained)
    assert done.code == 2 and "A chat needs a language model" in done.err


def rows_of(out):
    return [json.loads(line) for line in out.splitlines()]


def test_labels_are_asked_of_a_run_and_of_a_preset(kerasft, folder, tmp_path):
    """The command line prints what Python answers; to a file the same."""
    data = written(tmp_path / "new.jsonl", [{"text": "the film was good"}, {"text": "a"}])
    task = ZeroShotClassification(labels=("x", "y"), through="likelihood", max_length=32)
    run = folder("labels", task, "gpt2")
    texts = ["the film was good", "a"]
    meant = Pipeline.load(run).predict(texts, given={"labels": LABELS})
    done = kerasft("predict", run, data, "--labels", " good, bad ,")
    assert (done.code, rows_of(done.out)) == (0, meant)
    words = (data, "--labels", "good,bad", "--through", "likelihood")
    alone = kerasft("zero-shot", run, *words)
    assert (alone.code, rows_of(alone.out)) == (0, meant)
    other = kerasft("zero-shot", run, *words, "--hypothesis", "a {label} film")
    assert rows_of(other.out) != meant
    path = tmp_path / "answers.jsonl"
    assert kerasft("zero-shot", run, *words, "--out", path).out == ""
    assert rows_of(path.read_text("utf-8")) == meant
