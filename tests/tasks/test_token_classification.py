"""Named entities: tags and spans both ways, windows that agree, offsets into the raw text."""

import dataclasses
import random

import numpy as np
import pytest
import tensorflow as tf

from kerasft import InputError
from kerasft.pipeline import Pipeline
from kerasft.tasks import TokenClassification
from kerasft.tasks._losses import TokenLoss
from kerasft.tasks._metrics import TokenAccuracy
from kerasft.tasks._tagging import Tags, best_tags, entities, of_words
from kerasft.testing import _rig, tiny

LABELS = ("LOC", "PER")


def spelled(tags, names, words):
    """The entities that tags of words give, as (label, start, end)."""
    place = {name: i for i, name in enumerate(tags.names)}
    rows = [[place[name] for name in names]]
    best = tf.ragged.constant(rows, dtype=tf.int32, ragged_rank=1)
    start = tf.ragged.constant([[a for a, _ in words]], dtype=tf.int32)
    end = tf.ragged.constant([[b for _, b in words]], dtype=tf.int32)
    p = tf.ragged.constant([[0.5] * len(words)], dtype=tf.float32)
    found = {n: v.to_list()[0] for n, v in entities(best, p, start, end, tags).items()}
    labels = [tags.labels[i] for i in found["label"]]
    return list(zip(labels, found["start"], found["end"], strict=True))


@pytest.mark.parametrize("scheme", ["bio", "iobes"])
def test_tags_of_spans_spell_the_spans(scheme):
    """Both ways, on random spans of words: what is spelled is what was tagged."""
    tags, draw = Tags(LABELS, scheme), random.Random(0)
    for _ in range(60):
        words = [(3 * i, 3 * i + 2) for i in range(draw.randint(1, 8))]
        spans, at = [], 0
        while at < len(words):
            last = min(at + draw.randint(0, 2), len(words) - 1)
            if draw.random() < 0.5:
                spans.append((words[at][0], words[last][1], draw.choice(LABELS)))
            at = last + 1
        names = [tags.names[i] for i in tags.spell(words, spans)]
        assert spelled(tags, names, words) == [(label, a, b) for a, b, label in spans]
        allowed, before = tags.allowed(), len(tags.names)
        for tag in [tags.names.index(name) for name in names]:
            assert allowed[before, tag], names
            before = tag
        assert allowed[before, -1], names


def test_tags_that_break_the_scheme():
    words = [(0, 1), (2, 3), (4, 5)]
    bio = Tags(LABELS)
    assert spelled(bio, ["I-PER", "I-PER", "O"], words) == [("PER", 0, 3)]
    assert spelled(bio, ["B-PER", "I-LOC", "I-LOC"], words) == [("PER", 0, 1), ("LOC", 2, 5)]
    assert spelled(bio, ["B-PER", "B-PER", "O"], words) == [("PER", 0, 1), ("PER", 2, 3)]
    ends = Tags(LABELS, "iobes")
    assert spelled(ends, ["S-PER", "I-PER", "O"], words) == [("PER", 0, 1), ("PER", 2, 3)]


def test_constrained_tags_are_the_best_that_are_allowed():
    """Against all sequences of four words, tried one by one."""
    tags = Tags(("X",), "iobes")
    allowed, count = tags.allowed(), len(tags.names)
    generator = np.random.default_rng(0)
    for _ in range(5):
        logits = generator.normal(size=(1, 4, count)).astype(np.float32)
        log_p = logits[0] - np.log(np.exp(logits[0]).sum(-1, keepdims=True))
        scores = {}
        for sequence in np.ndindex(*[count] * 4):
            steps = zip((count, *sequence), (*sequence, count), strict=True)
            if all(allowed[a, b] for a, b in steps):
                scores[sequence] = sum(log_p[i, t] for i, t in enumerate(sequence))
        ragged = tf.RaggedTensor.from_tensor(logits)
        best, p = best_tags(ragged, tags, constrained=True)
        assert tuple(best.to_list()[0]) == max(scores, key=scores.get)
        np.testing.assert_allclose(p.to_list()[0], np.exp(log_p)[range(4), best.to_list()[0]], 1e-5)


def test_a_word_is_read_where_most_around_it_is_shown():
    outputs = np.arange(2 * 6, dtype=np.float32).reshape(2, 6, 1)
    features = {
        "row": np.array([0, 0], np.int32),
        "padding_mask": np.ones((2, 6), np.int32),
        "word": np.array([[-1, 0, 1, 2, 3, -1], [-1, 2, 3, 4, 5, -1]], np.int32),
        "start": np.array([[-1, 0, 2, 4, 6, -1], [-1, 4, 6, 8, 10, -1]], np.int32),
    }
    features["end"] = features["start"] + 1
    values, start, _ = of_words(outputs, features, 1)
    # Word 2 stands at place 3 of the first window (2 from its end) and at place 1 of the second.
    assert values.to_list() == [[[1.0], [2.0], [3.0], [8.0], [9.0], [10.0]]]
    assert start.to_list() == [[0, 2, 4, 6, 8, 10]]


@pytest.fixture(scope="module")
def pipe():
    task = TokenClassification(labels=LABELS, max_length=64, head_dropout=0.0)
    return _rig.pipeline(tiny.family("bert"), "full", task)


def with_task(pipe, **options):
    return Pipeline(pipe.model, pipe.tokenizer, dataclasses.replace(pipe.task, **options))


def test_targets_stand_on_first_pieces(pipe):
    text = "the film was xylo good"
    features = pipe.encode({"text": [text]})
    spans = ((4, 8, "PER"), (13, 22, "LOC"))
    found = pipe.task.targets({"spans": [spans]}, features)[0]
    names = [pipe.task.tags.names[i] for i in found[found >= 0]]
    assert names == ["O", "B-PER", "O", "B-LOC", "I-LOC"]
    assert (found >= 0).sum() < features["padding_mask"].sum() - 2, "xylo has several pieces"
    assert ((found >= 0) == (features["word"][0] >= 0)).all()


def test_offsets_count_code_points_of_the_raw_text(pipe):
    """k spaces in front shift every offset by k, and nothing else changes."""
    text = "caf\u00e9 the film\u2028\ufb01 \U0001f600 was good"
    plain, moved = pipe.predict([text, "    " + text])
    assert moved["label"] == plain["label"] and moved["text"] == plain["text"]
    assert moved["start"] == [a + 4 for a in plain["start"]]
    for part, a, b in zip(plain["text"], plain["start"], plain["end"], strict=True):
        assert text[a:b] == part


def test_windows_cover_a_long_text(pipe):
    text = " ".join(["the film was good"] * 12)
    small = with_task(pipe, max_length=16, overlap=6)
    features = small.encode({"text": [text]})
    assert len(features["row"]) > 1
    logits, start, end = of_words(small.outputs(features), features, 1)
    assert start.row_lengths().numpy().tolist() == [48]
    spans = [(m, m + 3) for m in range(0, len(text), 18)]
    words = list(zip(start.to_list()[0], end.to_list()[0], strict=True))
    assert set(spans) <= set(words) and logits.shape[-1] == len(pipe.task.tags.names)


def test_an_overlap_changes_no_target(pipe):
    text = " ".join(["the film was good"] * 6)
    spans = tuple((a, a + 8, "PER") for a in range(0, len(text), 18))
    seen = {}
    for overlap in (0, 5):
        task = with_task(pipe, max_length=16, overlap=overlap)
        features = task.encode({"text": [text]})
        tags = task.task.targets({"spans": [spans]}, features)
        at = tags >= 0
        seen[overlap] = dict(zip(features["word"][at].tolist(), tags[at].tolist(), strict=True))
    assert seen[0] == seen[5] and len(seen[0]) == 24


def test_it_learns_to_find_entities():
    task = TokenClassification(labels=LABELS, max_length=24, head_dropout=0.0)
    pipe = _rig.pipeline(tiny.family("bert"), "full", task)
    rows = {
        "text": ["the film was good", "bad story", "call now the film", "good"],
        "spans": [((4, 8, "LOC"),), ((0, 9, "PER"),), ((0, 4, "PER"), (13, 17, "LOC")), ()],
    }
    features = pipe.encode({"text": rows["text"]})
    y = task.targets(rows, features)
    x = {name: features[name] for name in pipe.inputs}
    losses = _rig.stepped(pipe, 40, batch=(x, y, (y >= 0).sum(1).astype(np.float32)))
    assert losses[-1] < 0.1 * losses[0]
    found = task.scores(pipe.outputs(features), features)
    assert found == task.truth(rows)


def test_loss_is_the_mean_over_learned_tokens():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(2, 4, 3)).astype(np.float32)
    y = np.array([[0, -1, 2, 1], [-1, -1, -1, -1]], np.int32)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    by_hand = -np.mean([log_p[0, 0, 0], log_p[0, 2, 2], log_p[0, 3, 1]])
    np.testing.assert_allclose(TokenLoss().call(y, logits), [by_hand, 0.0], rtol=1e-5)
    moved = logits.copy()
    moved[0, 1] += 5.0
    np.testing.assert_array_equal(TokenLoss().call(y, moved), TokenLoss().call(y, logits))
    metric = TokenAccuracy()
    metric.update_state(y, logits)
    right = [logits[0, t].argmax() == y[0, t] for t in (0, 2, 3)]
    np.testing.assert_allclose(float(metric.result()), np.mean(right), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ("A", "A")}, "holds a label twice"),
        ({"scheme": "bilou"}, "must be one of: bio, iobes"),
        ({"decoding": "crf"}, "must be one of: viterbi, argmax"),
        ({"max_length": 4}, "max_length"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        TokenClassification(**options)


def test_a_tagger_needs_a_label():
    with pytest.raises(InputError, match="at least one label"):
        TokenClassification().build(tiny.backbone("bert"))
