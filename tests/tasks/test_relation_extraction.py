"""Relation extraction: markers, windows around the pair, pooling, offsets that are wrong."""

import numpy as np
import pytest
import tensorflow as tf

from kerasft import InputError
from kerasft.data import open_source
from kerasft.evaluation import Collector
from kerasft.preprocessing import ragged_ids
from kerasft.tasks import RelationExtraction, _pairs
from kerasft.testing import _rig, tiny

LABELS = ("none", "near", "far")
ROW = ("the film was good", 4, 8, 13, 17)


def marked(text, *borders):
    texts, places = _pairs.marked(tf.constant([text]), [tf.constant([b]) for b in borders])
    return texts.numpy()[0].decode(), places.numpy()[0].tolist()


@pytest.mark.parametrize(
    ("text", "borders", "expected"),
    [
        ("Ann met Bo.", (0, 3, 8, 10), "@ Ann @ met # Bo # ."),
        ("Ann met Bo.", (8, 10, 0, 3), "# Ann # met @ Bo @ ."),
        ("在北京工作", (1, 3, 3, 5), "在 @ 北京 @ # 工作 #"),
        ("😀e\u0301 b", (0, 1, 4, 5), "@ 😀 @ e\u0301 # b #"),
        ("a b", (2, 3, 0, 3), "# a @ b @ #"),
        ("a b", (-5, 1, 2, 99), "@ a @ # b #"),
        ("a b", (3, 1, 0, 1), "# a # b @ @"),
        ("", (0, 1, 4, 2), "@ @ # #"),
    ],
)
def test_markers_stand_around_both_whichever_comes_first(text, borders, expected):
    found, places = marked(text, *borders)
    assert found == expected
    assert [found[i] for i in places] == ["@", "@", "#", "#"]
    assert places[0] < places[1] and places[2] < places[3]


def test_bytes_that_are_no_text_fail_no_batch():
    texts, _ = _pairs.marked(tf.constant([b"\xff\x80a", b"a b"]), [[0, 0], [1, 1], [2, 2], [9, 3]])
    assert texts.numpy()[1] == b"@ a @ # b #"


def test_a_window_holds_both_pairs_of_markers():
    """Against the plain definition, for near and far pairs at the ends and in the middle."""
    for places, length in (((3, 5, 8, 9), 30), ((0, 2, 28, 29), 30), ((20, 22, 9, 11), 30)):
        kept = _pairs.around(tf.constant([places]), tf.constant([length]), 12).numpy()[0]
        assert kept.sum() == 12 and kept[list(places)].all()
        if max(places) - min(places) < 12:
            at = np.flatnonzero(kept)
            assert (np.diff(at) == 1).all()
    assert _pairs.around(tf.constant([[0, 1, 2, 3]]), tf.constant([5]), 12).numpy().all()


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_ids_are_those_of_the_marked_text(family):
    task = RelationExtraction(labels=LABELS, max_length=64)
    tokenizer = tiny.tokenizer(family)
    fields = dict(zip(task.inputs, ([value] for value in ROW), strict=True))
    ids = task.encode(tokenizer, {n: tf.constant(v) for n, v in fields.items()})["token_ids"]
    own = ragged_ids(tokenizer(tf.constant(["the @ film @ was # good #"]))).to_list()[0]
    kept = [i for i in ids.numpy()[0].tolist() if i in own]
    assert [i for i in own if i in kept] == own and kept[-len(own) :] == own


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_marker_pooling_reads_the_markers(family):
    task = RelationExtraction(labels=LABELS, max_length=16, pooling="markers", head_dropout=0.0)
    pipe = _rig.pipeline(tiny.family(family), "full", task)
    rows = [ROW, ("good " * 40 + "film", 0, 4, 200, 204), ("", 0, 1, 5, 2), ROW[:1] + (0, 3, 4, 8)]
    features = pipe.encode({n: list(v) for n, v in zip(task.inputs, zip(*rows, strict=True))})
    marks = features["marks"]
    assert marks.shape == features["token_ids"].shape and marks.shape[1] <= 16
    assert all(sorted(row[row > 0]) == [1, 2, 3, 4] for row in marks)
    together = pipe.outputs(features)
    for i, row in enumerate(rows):
        alone = pipe.logits({n: [v] for n, v in zip(task.inputs, row, strict=True)})
        np.testing.assert_allclose(alone[0], together[i], atol=2e-6)
    sequence = pipe.adapted({n: features[n] for n in pipe.inputs if n != "marks"})
    sequence = np.asarray(sequence["sequence_output"] if family == "bert" else sequence)
    codes = (1, 2) if family == "bert" else (3, 4)
    vectors = np.concatenate([sequence[marks == c] for c in codes], axis=1)
    dense = pipe.model.get_layer("logits")
    np.testing.assert_allclose(vectors @ dense.kernel + dense.bias, together, atol=1e-5)
    # Without the right place it is another answer.
    moved = features | {"marks": np.roll(marks, 1, axis=1)}
    assert np.abs(pipe.outputs(moved) - together).max() > 1e-3


def test_folder_and_export_answer_alike(tmp_path):
    task = RelationExtraction(labels=LABELS, max_length=24, pooling="markers")
    pipe = _rig.pipeline(tiny.family("bert"), "full", task)
    again = type(pipe).load(pipe.save(tmp_path / "model"))
    assert again.task == task and again.predict([ROW]) == pipe.predict([ROW])
    assert set(pipe.predict([ROW])[0]) == {"label", "probabilities"}
    assert pipe.export(tmp_path / "saved").endswith("1")


@pytest.mark.parametrize("places", [(0, 3, 3, 3), (0, 3, 3, 18), (-1, 3, 3, 5), (5, 2, 0, 1)])
def test_wrong_offsets_are_refused_with_their_row(places):
    fields = RelationExtraction().fields()
    rows = [ROW + ("near",), (ROW[0], *places, "near")]
    rows = [dict(zip(fields, row, strict=True)) for row in rows]
    assert next(open_source(rows[:1], fields).chunks())["tail_end"] == [17]
    with pytest.raises(InputError, match=r"row 2.*_start < (head|tail)_end <= 17"):
        list(open_source(rows, fields).chunks())


def test_macro_f1_is_without_the_none_class():
    from sklearn.metrics import f1_score

    y, best = [0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 0]
    p = 0.8 * np.eye(3)[best] + 0.2 / 3
    scored = {}
    for none in ("", "none"):
        task = RelationExtraction(labels=LABELS, none_label=none)
        collector = Collector(task.name, task.kind, task.labels, **task.scoring())
        collector.add({"text": list("abcdef")}, y, p)
        scored[none] = collector.report().after
    assert scored[""]["macro_f1"] == pytest.approx(f1_score(y, best, average="macro"))
    wanted = f1_score(y, best, labels=[1, 2], average="macro")
    assert scored["none"]["macro_f1"] == pytest.approx(wanted) != scored[""]["macro_f1"]
    assert scored["none"]["per_class"] == scored[""]["per_class"]
    assert scored["none"]["accuracy"] == scored[""]["accuracy"]


def test_none_label_is_one_of_the_labels():
    with pytest.raises(InputError, match="none_label.*Received: none_label='non'.*'none'"):
        RelationExtraction(labels=LABELS, none_label="non")
