"""The pipeline: what it takes and gives, and that a saved one comes back as it was."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import kerasft
from kerasft import InputError
from kerasft._core import weights
from kerasft.methods import adapt
from kerasft.pipeline import Pipeline
from kerasft.pipeline.forward import Forward
from kerasft.tasks import TextClassification, TokenClassification
from kerasft.testing import tiny

# KerasHub leaves closing the SentencePiece file it reads to Python.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*vocabulary.spm:ResourceWarning")

TEXTS = ["the film was good", "bad!", *tiny.ODD_TEXTS]
TOP = {"name": "freeze", "train_top_blocks": 1}


def pipeline(family="bert", method="full", **task):
    """A pipeline on tiny random weights."""
    labels = () if task.get("problem") == "regression" else ("bad", "good", "ugly")
    task = TextClassification(**({"labels": labels, "max_length": 16} | task))
    model = task.build(adapt(tiny.backbone(family), method))
    tiny.randomize(model, seed=1)
    return Pipeline(model, tiny.tokenizer(family), task)


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


@pytest.fixture(scope="module")
def saved(pipe, tmp_path_factory):
    return pipe.save(tmp_path_factory.mktemp("saved") / "model")


def one_line(error):
    """The message of an error for users: one line, not too long to be read."""
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    return text


# What it answers


def test_answers_have_the_names_of_the_exported_outputs(pipe):
    (answer,) = pipe.predict(["the film was good"])
    assert list(answer) == ["label", "probabilities", "logits"]
    assert answer["label"] == ("bad", "good", "ugly")[int(np.argmax(answer["logits"]))]
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-6)
    json.dumps(answer)


def test_answers_depend_on_the_text_alone(pipe):
    together = pipe.logits({"text": TEXTS})
    alone = np.concatenate([pipe.logits({"text": [text]}) for text in TEXTS])
    backwards = pipe.logits({"text": TEXTS[::-1]})[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, backwards, atol=1e-5)
    assert np.ptp(together, axis=0).max() > 0.1


def test_no_texts_have_no_answers(pipe):
    assert pipe.predict([]) == []


def test_batches_and_chunks_change_nothing(pipe, monkeypatch):
    before = pipe.predict(TEXTS)
    monkeypatch.setattr("kerasft.pipeline.pipeline._CHUNK", 3)
    monkeypatch.setattr(pipe, "batch_size", 2)
    for one, other in zip(before, pipe.predict(TEXTS), strict=True):
        np.testing.assert_allclose(one["logits"], other["logits"], atol=1e-5)


@pytest.mark.parametrize("texts", ["a text", b"bytes", {"text": "a text"}, [1], [None], [["a"]]])
def test_other_than_a_list_of_strings_is_refused(pipe, texts):
    with pytest.raises(InputError) as error:
        pipe.predict(texts)
    assert "Received" in one_line(error)


def test_pairs_are_tuples_or_mappings_and_their_order_counts():
    pipe = pipeline(pair=True)
    pair = ("the film was good", "a bad story")
    as_tuple, as_dict, turned = pipe.predict(
        [pair, {"text": pair[0], "text_pair": pair[1]}, pair[::-1]]
    )
    np.testing.assert_allclose(as_tuple["logits"], as_dict["logits"], atol=1e-6)
    assert np.abs(np.subtract(as_tuple["logits"], turned["logits"])).max() > 1e-3
    for wrong in ("one text", ("a", "b", "c"), {"text": "a"}, ("a", None)):
        with pytest.raises(InputError, match="text_pair"):
            pipe.predict([wrong])


def test_several_labels_are_those_over_their_thresholds():
    pipe = pipeline(problem="multi-label", thresholds=(0.0, 1.0, 0.5))
    for answer in pipe.predict(TEXTS):
        over = answer["probabilities"][2] >= 0.5
        assert answer["labels"] == (["bad", "ugly"] if over else ["bad"])


def test_a_score_is_a_number():
    (answer,) = pipeline(problem="regression").predict(["the film"])
    assert list(answer) == ["score"] and isinstance(answer["score"], float)


def test_a_family_without_a_mask_has_a_fixed_length():
    pipe = pipeline("f_net")
    assert pipe.fixed_length == 16
    together = pipe.logits({"text": TEXTS})
    alone = np.concatenate([pipe.logits({"text": [text]}) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert pipeline("bert").fixed_length is None


def test_padding_is_the_tokenizers_own():
    pipe = pipeline("roberta")
    features = pipe.encode({"text": ["the film was good", "bad"]})
    assert features["token_ids"][1][-1] == pipe.tokenizer.pad_token_id == 1
    seen, forward = [], Forward(pipe.model, length=12, pad=1)
    forward.run = lambda x: seen.append(x) or pipe.model(x)
    forward(features, batch_size=32)
    assert set(seen[0]["token_ids"][:, -4:].reshape(-1)) == {1}, "also up to a fixed width"


@pytest.mark.graph
def test_outputs_of_tokens_are_reduced_batch_by_batch():
    task = TokenClassification(labels=("LOC", "PER"), max_length=12, overlap=0)
    model = task.build(adapt(tiny.backbone("bert"), "full"))
    tiny.randomize(model, seed=1)
    features = Pipeline(model, tiny.tokenizer("bert"), task).encode({"text": TEXTS})
    features["targets"] = np.where(features["padding_mask"] == 1, features["token_ids"] % 3, -1)
    seen = []

    def reduce(outputs, targets):
        """The sum of the learned tokens' logits, and how many there are."""
        seen.append(outputs.shape)
        real = tf.cast(targets >= 0, tf.float32)
        chosen = tf.gather(outputs, tf.maximum(targets, 0), batch_dims=2)
        return tf.stack([tf.reduce_sum(chosen * real, 1), tf.reduce_sum(real, 1)], axis=1)

    found = Forward(model, None, 0, reduce)(features, batch_size=3)
    whole, y = Forward(model, None, 0)(features, batch_size=3), features["targets"]
    wanted = [
        sum(out[t, goal[t]] for t in np.flatnonzero(goal >= 0))
        for out, goal in zip(whole, y, strict=True)
    ]
    assert found.dtype == np.float32 and found.shape == (len(y), 2)
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found[:, 1], (y >= 0).sum(axis=1))
    assert len(set(found[:, 1])) > 1 and len(seen) == 1, "one graph, and rows of unlike length"
    nothing = {name: value[:0] for name, value in features.items()}
    assert Forward(model, None, 0, reduce)(nothing, batch_size=3).shape == (0, 2)


# Rows of files


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(
        "body,class\nthe film was good,good\na bad story,bad\nbad bad,bad\n", encoding="utf-8"
    )
    return str(path)


COLUMNS = {"text": "body", "label": "class"}


def test_rows_are_answered_in_order_without_labels(pipe, table):
    answers = list(pipe.predict_rows(table, COLUMNS))
    texts = ["the film was good", "a bad story", "bad bad"]
    for one, other in zip(answers, pipe.predict(texts), strict=True):
        np.testing.assert_allclose(one["logits"], other["logits"], atol=1e-6)
    assert len(list(pipe.predict_rows([{"text": "no label here"}]))) == 1


def test_evaluation_scores_the_answers(pipe, table):
    report = pipe.evaluate(table, COLUMNS)
    right = [a["label"] for a in pipe.predict_rows(table, COLUMNS)]
    expected = np.mean([r == w for r, w in zip(right, ["good", "bad", "bad"], strict=True)])
    assert report.after["accuracy"] == pytest.approx(expected)
    assert (report.rows, report.split) == (3, table)


def test_evaluation_remembers_the_columns_of_training(pipe, table):
    again = Pipeline(pipe.model, pipe.tokenizer, pipe.task, {"columns": COLUMNS})
    assert again.evaluate(table).rows == 3


def test_an_unknown_label_is_named_with_its_line(pipe, table):
    with open(table, "a", encoding="utf-8") as file:
        file.write("so so,goood\n")
    with pytest.raises(InputError) as error:
        pipe.evaluate(table, COLUMNS)
    assert "line 5" in one_line(error)
    assert "Did you mean 'good'" in str(error.value)


# Save and load


@pytest.mark.parametrize("method", ["full", TOP, {"name": "lora", "rank": 2}], ids=str)
def test_a_saved_pipeline_comes_back(tmp_path, method):
    pipe = pipeline(method=method, thresholds=(), head_dropout=0.2)
    pipe.info["preset"] = "tiny"
    again = kerasft.load(pipe.save(tmp_path / "model"))
    np.testing.assert_array_equal(pipe.logits({"text": TEXTS}), again.logits({"text": TEXTS}))
    paths = [v.path for v in pipe.model.trainable_variables]
    assert [v.path for v in again.model.trainable_variables] == paths
    assert (again.task, again.info["preset"]) == (pipe.task, "tiny")
    assert again.adapted.method_config == pipe.adapted.method_config


@pytest.mark.parametrize("family", ["roberta", "xlm_roberta", "f_net", "llama3"])
def test_other_tokenizers_come_back(tmp_path, family):
    pipe = pipeline(family)
    again = kerasft.load(pipe.save(tmp_path / "model"))
    np.testing.assert_array_equal(pipe.logits({"text": TEXTS}), again.logits({"text": TEXTS}))


def test_a_saved_pipeline_is_json_numbers_and_vocabulary(saved):
    files = sorted(path.name for path in Path(saved).rglob("*.*"))
    assert files == ["kerasft.json", "model.safetensors", "tokenizer.json", "vocabulary.txt"]


def test_a_folder_is_never_overwritten(pipe, saved):
    with pytest.raises(InputError, match="never overwritten"):
        pipe.save(saved)


def test_what_fails_leaves_nothing(pipe, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "to_bytes", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pipe.save(tmp_path / "new" / "deep" / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_is_as_good_as_its_model(pipe, saved, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    text = {"text": ["the film"]}
    np.testing.assert_array_equal(kerasft.load(tmp_path).logits(text), pipe.logits(text))


@pytest.mark.parametrize("scheme", ["ram://", "file://"])
def test_a_pipeline_lies_on_other_file_systems(pipe, tmp_path, scheme):
    place = f"{scheme}{tmp_path}/model"
    pipe.save(place)
    text = {"text": ["the film"]}
    np.testing.assert_array_equal(kerasft.load(place).logits(text), pipe.logits(text))
    with pytest.raises(InputError, match="never overwritten"):
        pipe.save(place)


def test_loaded_in_another_precision(saved, pipe):
    half = kerasft.load(saved, dtype="mixed_bfloat16").logits({"text": TEXTS})
    whole = pipe.logits({"text": TEXTS})
    assert 0 < np.abs(half - whole).max() < 0.1 * np.abs(whole).max()


# Adapters


def test_a_merged_adapter_answers_the_same(tmp_path):
    pipe = pipeline(method={"name": "lora", "rank": 2})
    plain = pipe.merged()
    np.testing.assert_allclose(
        plain.logits({"text": TEXTS}), pipe.logits({"text": TEXTS}), atol=1e-5
    )
    assert plain.adapted.method_config["name"] == "full"
    with pytest.raises(InputError, match="no merge"):
        plain.merged()


def test_an_adapter_moves_between_pipelines_on_one_base(tmp_path):
    method = {"name": "lora", "rank": 2}
    pipe, other = pipeline(method=method), pipeline(method=method)
    for variable in other.model.trainable_variables:
        variable.assign(variable * 0 + 0.1)
    path = pipe.save_adapter(tmp_path / "adapter.safetensors")
    assert np.abs(pipe.logits({"text": TEXTS}) - other.logits({"text": TEXTS})).max() > 1e-3
    other.load_adapter(path)
    np.testing.assert_array_equal(pipe.logits({"text": TEXTS}), other.logits({"text": TEXTS}))


# Folders from elsewhere


EVIL = {"module": "evil_module", "class_name": "Evil", "config": {}, "registered_name": None}
RECORDS = {
    "a list": [],
    "no task": {"task": None},
    "another format": {"format": 99},
    "a class of no family": {"backbone.class": "os.system"},
    "a size beyond the weights": {"backbone.config.vocabulary_size": 10**12},
    "very many layers": {"backbone.config.num_layers": 10**9},
    "very many positions": {"backbone.config.max_sequence_length": 10**12},
    "a size that is no number": {"backbone.config.hidden_dim": "x"},
    "a negative size": {"backbone.config.num_heads": -1},
    "code as dtype": {"backbone.config.dtype": EVIL},
    "code as activation": {"backbone.fixes": {"activation": EVIL}},
    "code as an argument": {"backbone.config.evil": [EVIL]},
    "an unknown argument": {"backbone.config.evil": 1},
    "a name that climbs": {"method.name": "../../evil"},
    "a number for labels": {"task.labels": 5},
    "one label": {"task.labels": ["a"]},
    "other labels": {"task.labels": ["a", "b"]},
    "other weights trained": {"trainable": []},
    "columns that are none": {"info.columns": "text"},
}
TOKENIZERS = {
    "a list": [],
    "no config": {"config": None},
    "a path for the vocabulary": {"config.vocabulary": "/etc/passwd"},
    "code as dtype": {"config.dtype": EVIL},
    "a class with a module": {"class": "evil_module.Evil"},
    "an unknown option": {"config.evil": 1},
    "another template": {"template": {"evil": 1}},
}


def changed(path, change):
    """Set dotted keys of a JSON file, or replace the whole."""
    record = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(change, dict):
        for key, value in change.items():
            *above, last = key.split(".")
            inner = record
            for name in above:
                inner = inner[name]
            inner[last] = value
    else:
        record = change
    path.write_text(json.dumps(record), encoding="utf-8")


@pytest.fixture
def foreign(saved, tmp_path, monkeypatch):
    """A copy of a saved pipeline, beside a module that leaves a trace when it is imported."""
    trace = tmp_path / "code-was-run"
    (tmp_path / "evil_module.py").write_text(
        f"open({str(trace)!r}, 'w').close()\nclass Evil:\n    def __init__(self, *a, **k): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield shutil.copytree(saved, tmp_path / "foreign")
    assert not trace.exists()


@pytest.mark.parametrize("name", RECORDS)
def test_a_foreign_record_is_refused_in_one_line(foreign, name):
    changed(foreign / "kerasft.json", RECORDS[name])
    with pytest.raises(InputError) as error:
        kerasft.load(foreign)
    one_line(error)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_foreign_tokenizer_is_refused_in_one_line(foreign, name):
    changed(foreign / "tokenizer" / "tokenizer.json", TOKENIZERS[name])
    with pytest.raises(InputError) as error:
        kerasft.load(foreign)
    one_line(error)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("kerasft.json", b""),
        ("kerasft.json", b"\xff\x00"),
        ("kerasft.json", b"[" * 100_000),
        ("model.safetensors", None),
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 100),
        ("model.safetensors", "half"),
        ("tokenizer/vocabulary.txt", None),
        ("tokenizer/vocabulary.txt", b"\xff\xfe"),
        ("tokenizer/vocabulary.txt", b"a\nb\n"),
        ("tokenizer/tokenizer.json", None),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(foreign, name, content):
    path = foreign / name
    if content is None:
        path.unlink()
    else:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(InputError) as error:
        kerasft.load(foreign)
    assert str(foreign) in one_line(error)


def test_pickles_that_lie_around_are_left_alone(foreign, pipe):
    payload = b"cevil_module\nEvil\n(tR."
    for name in ("model.pkl", "pytorch_model.bin", "config.pkl", "tokenizer/tokenizer.pkl"):
        (foreign / name).write_bytes(payload)
    text = {"text": ["the film"]}
    np.testing.assert_array_equal(kerasft.load(foreign).logits(text), pipe.logits(text))


def test_the_payload_would_be_seen(foreign, tmp_path):
    import importlib

    importlib.import_module("evil_module")
    assert (tmp_path / "code-was-run").exists()
    (tmp_path / "code-was-run").unlink()


@pytest.mark.parametrize("folder", ["nowhere", "unknown://place"])
def test_no_model_there(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        kerasft.load(folder)
    assert folder in one_line(error)
