"""Exported SavedModels: strings in, the pipeline's answers out, and nothing left when it fails."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from asking import expected, fields_of, load, served_form
from tensorflow.core.protobuf import saved_model_pb2

import kerasft
from kerasft import InputError
from kerasft._core.errors import KerasftError
from kerasft.export import compare, export_saved_model, saved_model
from kerasft.export.deploy.write import Description
from kerasft.export.examples import examples
from kerasft.export.golden import read_golden, write_golden
from kerasft.export.in_c_runtime import check_in_c_runtime
from kerasft.preprocessing import by_row
from kerasft.testing import tiny

TEXTS = [*tiny.ODD_TEXTS, "good " * 300, "\x00", "不好看", "a" * 5000, "😀" * 50]
KINDS = [
    "one text",
    "a pair",
    "several labels",
    "a score, lora",
    "decoder of byte pairs",
    "fixed length",
    "windows",
    "entities",
]
MORE = [
    "answers",
    "embeddings",
    "frozen",
    "mean of a sentencepiece encoder",
    "decoder of sentencepieces",
]
MORE += ["fixed length, a pair", "relations", "completions", "chats", "translations", "masks"]
MORE += ["asked labels", "labels by likelihood", "embeddings of histories"]
MORE += ["windows of a fixed length", "both ends"]


def rows_of(pipe):
    """Lists of odd texts for each text field of the task."""
    return fields_of(pipe.task, TEXTS)


def served(folder, fields):
    serve = load(folder).signatures["serving_default"]
    texts = {name: tf.constant(values) for name, values in served_form(fields).items()}
    return {name: value.numpy() for name, value in serve(**texts).items()}


def same(pipe, got, fields):
    meant = expected(pipe, fields)
    assert set(got) == set(meant)
    for name, value in meant.items():
        assert got[name].shape == value.shape
        if value.dtype.kind == "f":
            np.testing.assert_allclose(got[name], value, atol=1e-5)
        else:
            np.testing.assert_array_equal(got[name], value)


@pytest.mark.parametrize(
    "name", [*KINDS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]
)
def test_strings_are_answered_as_by_the_pipeline(kind, exported, name):
    pipe, folder = kind(name), exported(name)
    fields = rows_of(pipe)
    same(pipe, served(folder, fields), fields)
    one = {key: values[:1] for key, values in fields.items()}
    same(pipe, served(folder, one), one)
    ids = np.asarray(pipe.encode(fields)["token_ids"])
    assert len(np.unique(ids, axis=0)) > 5  # the texts are not all one to the model


def test_the_signatures_and_their_names(exported):
    loaded = load(exported("a pair"))
    assert set(loaded.signatures) == {"serving_default", "token_ids", "tokenize", "classify"}
    _, inputs = loaded.signatures["serving_default"].structured_input_signature
    assert {n: (s.dtype, s.shape.as_list()) for n, s in inputs.items()} == {
        "text": (tf.string, [None]),
        "text_pair": (tf.string, [None]),
    }
    outputs = loaded.signatures["serving_default"].structured_outputs
    assert {n: s.shape.rank for n, s in outputs.items()} == {
        "label": 1,
        "probabilities": 2,
        "logits": 2,
    }
    _, inputs = loaded.signatures["token_ids"].structured_input_signature
    assert {n: s.dtype for n, s in inputs.items()} == {
        "token_ids": tf.int32,
        "segment_ids": tf.int32,
        "padding_mask": tf.bool,
    }


def test_the_outputs_of_several_labels_and_of_scores(exported):
    several = served(exported("several labels"), {"text": TEXTS})
    assert set(several) == {"labels", "probabilities", "logits"}
    assert several["labels"].shape[0] == len(TEXTS) and b"" in several["labels"]
    assert set(served(exported("a score, lora"), {"text": TEXTS})) == {"score"}


@pytest.mark.parametrize("name", ["one text", "decoder of byte pairs", "fixed length"])
def test_ids_are_answered_like_strings(kind, exported, name):
    pipe = kind(name)
    folder, fields = exported(name), rows_of(pipe)
    width = pipe.fixed_length or 0
    features = pipe.encode(fields)
    features = {n: np.pad(features[n], [(0, 0), (0, max(0, width - 24))]) for n in pipe.inputs}
    features = {
        n: tf.cast(v, tf.bool) if n == "padding_mask" else tf.constant(v)
        for n, v in features.items()
    }
    got = load(folder).signatures["token_ids"](**features)["logits"]
    np.testing.assert_allclose(got, pipe.logits(fields), atol=1e-5)


def test_windows_of_a_text_are_asked_side_by_side(kind, exported):
    pipe, fields = kind("windows"), rows_of(kind("windows"))
    features = pipe.encode(fields)
    given = {n: by_row(features[n], features["row"]) for n in pipe.inputs}
    given["padding_mask"] = tf.cast(given["padding_mask"], tf.bool)
    ask = load(exported("windows")).signatures["token_ids"]
    assert {s.shape.rank for s in ask.structured_input_signature[1].values()} == {3}
    assert given["token_ids"].shape == (len(TEXTS), 3, 8)
    np.testing.assert_allclose(ask(**given)["logits"], pipe.logits(fields), atol=1e-5)


def test_padding_of_a_fixed_length_is_the_tokenizers_own(kind, tmp_path):
    """FNet mixes the padding in, so another pad id would be another answer."""
    from kerasft.backbones import set_template, template_of
    from kerasft.pipeline import Pipeline

    pipe = kind("fixed length")
    tokenizer = tiny.tokenizer("f_net")
    template = template_of(tokenizer)
    set_template(tokenizer, type(template)(**(vars(template) | {"pad": 5})))
    other = Pipeline(pipe.model, tokenizer, pipe.task)
    fields = rows_of(pipe)
    assert np.abs(other.logits(fields) - pipe.logits(fields)).max() > 1e-3
    same(other, served(other.export(tmp_path / "m"), fields), fields)


def test_weights_are_stored_once(tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "compare", lambda *_: 0.0)
    task = kerasft.tasks.TextClassification(labels=("a", "b"), max_length=16)
    backbone, tokenizer = kerasft.backbones.load("bert_tiny")
    pipe = kerasft.Pipeline(kerasft.build(backbone, task), tokenizer, task)
    folder = pipe.export(tmp_path / "m")
    size = sum(path.stat().st_size for path in Path(folder, "variables").iterdir())
    assert size < 1.01 * sum(4 * int(np.prod(v.shape)) for v in pipe.model.weights)


def test_beside_it_lie_labels_and_versions(kind, exported):
    extra = Path(exported("one text"), "assets.extra")
    labels = json.loads((extra / "labels.json").read_text(encoding="utf-8"))
    assert labels == list(kind("one text").task.labels)
    versions = json.loads((extra / "versions.json").read_text(encoding="utf-8"))
    assert versions["tensorflow"] == tf.__version__


# Versions


@pytest.fixture
def quick(monkeypatch, kind):
    """A pipeline whose export writes next to nothing, for tests of folders."""

    def write(pipe, folder, *_):
        Path(folder, "saved_model.pb").write_bytes(b"x")

    monkeypatch.setattr(saved_model, "write_saved_model", write)
    monkeypatch.setattr(saved_model, "prove", lambda *_: ([], None))
    description = Description("name", {"serving_default": ("predict", {"text": "string"})}, {}, {})
    monkeypatch.setattr(saved_model, "describe", lambda *_: description)
    return kind("one text")


def test_versions_count_up_and_are_never_overwritten(quick, tmp_path):
    folder = str(tmp_path / "deep" / "name")
    assert export_saved_model(quick, folder) == f"{folder}/1"
    assert export_saved_model(quick, folder, version=7) == f"{folder}/7"
    for name in ("latest", "9.bak", "²", "٣"):
        os.mkdir(os.path.join(folder, name))
    assert export_saved_model(quick, folder) == f"{folder}/8"
    before = os.stat(f"{folder}/7/saved_model.pb")
    with pytest.raises(InputError, match="7 exists, and a version is never overwritten.*free.* 9"):
        export_saved_model(quick, folder, version=7)
    assert os.stat(f"{folder}/7/saved_model.pb") == before


@pytest.mark.parametrize("name", ["my model", "50%", "a?b"])
def test_a_name_that_no_request_can_have_is_refused(quick, tmp_path, name):
    with pytest.raises(InputError, match="stands in the path of a request"):
        export_saved_model(quick, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", [0, -1, 1.5, "1", True])
def test_a_version_is_a_whole_number(quick, tmp_path, version):
    with pytest.raises(InputError, match="version"):
        export_saved_model(quick, str(tmp_path / "m"), version)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scheme", ["ram://", "file://"])
def test_exports_go_to_other_file_systems(quick, tmp_path, scheme):
    folder = f"{scheme}{tmp_path}/models/name"
    assert export_saved_model(quick, folder) == f"{folder}/1"
    assert export_saved_model(quick, folder) == f"{folder}/2"
    assert sorted(tf.io.gfile.listdir(f"{folder}/2")) == ["assets.extra", "saved_model.pb"]


def test_a_whole_export_is_served_from_another_file_system(kind, tmp_path):
    pipe = kind("one text")
    folder = pipe.export(f"ram://{tmp_path}/name")
    same(pipe, served(folder, rows_of(pipe)), rows_of(pipe))


# When it fails


@pytest.mark.parametrize("step", ["write_saved_model", "prove"])
@pytest.mark.parametrize("scheme", ["", "ram://"])
def test_a_failure_leaves_nothing(quick, tmp_path, monkeypatch, step, scheme):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(saved_model, step, fail)
    folder = f"{scheme}{tmp_path}/deep/name"
    with pytest.raises(KeyboardInterrupt):
        export_saved_model(quick, folder)
    assert not tf.io.gfile.exists(f"{scheme}{tmp_path}/deep")


def test_a_failure_leaves_the_versions_that_were_there(quick, tmp_path, monkeypatch):
    folder = str(tmp_path / "name")
    export_saved_model(quick, folder)
    monkeypatch.setattr(saved_model, "prove", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_saved_model(quick, folder)
    assert sorted(os.listdir(folder)) == ["1", "deploy"]


def test_a_copy_that_breaks_off_is_taken_away(quick, tmp_path, monkeypatch):
    folder = f"ram://{tmp_path}/name"
    copy = tf.io.gfile.copy

    def fail(source, target, overwrite=False):
        if "versions.json" in source:
            raise OSError("the network has gone")
        copy(source, target, overwrite)

    monkeypatch.setattr(tf.io.gfile, "copy", fail)
    with pytest.raises(OSError, match="network"):
        export_saved_model(quick, folder)
    assert not tf.io.gfile.exists(f"{folder}/1")


def test_other_answers_are_found(kind, exported):
    """`compare` fails for other weights, for NaN, and for other labels."""
    signatures, pipe = load(exported("one text")).signatures, kind("one text")
    assert compare.compare(pipe, signatures) < 1e-6
    bias = pipe.model.get_layer("logits").bias
    value = bias.numpy()
    for wrong in (value + [1e-3, 0, 0], value * np.nan):
        bias.assign(wrong)
        with pytest.raises(KerasftError, match="does not answer as the trained one"):
            compare.compare(pipe, signatures)
    bias.assign(value)
    task, pipe.task = pipe.task, dataclasses.replace(pipe.task, labels=("x", "y", "z"))
    with pytest.raises(KerasftError, match="does not answer"):
        compare.compare(pipe, signatures)
    pipe.task = task


def test_nan_in_the_served_model_is_found():
    zero = np.zeros((1, 2), np.float32)
    assert compare.distance(zero * np.nan, None, zero) == np.inf
    assert compare.distance(zero, None, zero * np.nan) != 0
    assert compare.distance(zero, None, zero[:, :1]) == np.inf
    assert compare.distance(np.array([b"a"]), np.array([b"b"]), None) == np.inf
    assert compare.distance(zero, None, zero) == 0


def test_sixteen_bits_are_exported(tmp_path):
    from kerasft.methods import adapt

    task = kerasft.tasks.TextClassification(labels=("a", "b"), max_length=16)
    backbone = tiny.backbone("bert", dtype="mixed_bfloat16")
    pipe = kerasft.Pipeline(task.build(adapt(backbone)), tiny.tokenizer("bert"), task)
    folder = pipe.export(tmp_path / "m")
    got = served(folder, {"text": TEXTS})["logits"]
    np.testing.assert_allclose(got, pipe.logits({"text": TEXTS}), atol=0.05)


def test_lists_of_texts_come_padded(kind, exported):
    name = "embeddings of histories"
    pipe, rows = kind(name), [("good", "", "bad"), ("free prize",), ("不好看", "film")]
    padded = {"text": [[*row, *[""] * (3 - len(row))] for row in rows]}
    got = served(exported(name), padded)["embedding"]
    np.testing.assert_allclose(got, pipe.logits({"text": rows}), atol=1e-5)
    swapped = pipe.logits({"text": [row[::-1] for row in rows]})
    assert np.abs(swapped[[0, 2]] - got[[0, 2]]).max(axis=1).min() > 1e-3


BY_EXAMPLE = {
    "one text": "classify",
    "a pair": "classify",
    "several labels": "classify",
    "windows": "classify",
    "a score, lora": "regress",
}


@pytest.mark.parametrize("name", BY_EXAMPLE)
def test_examples_are_answered_like_strings(kind, exported, name):
    pipe, folder = kind(name), exported(name)
    fields = rows_of(pipe)
    got = load(folder).signatures[BY_EXAMPLE[name]](inputs=tf.constant(examples(fields)))
    meant = expected(pipe, fields)
    if BY_EXAMPLE[name] == "regress":
        assert set(got) == {"outputs"} and got["outputs"].shape == [len(fields["text"])]
        np.testing.assert_allclose(got["outputs"], meant["score"], atol=1e-5)
        return
    assert set(got) == {"classes", "scores"}
    # The classes stand in the order of the scores: turned round, labels would be wrong.
    rows = [[c.decode() for c in row] for row in got["classes"].numpy().tolist()]
    assert rows == [list(pipe.task.labels)] * len(fields["text"])
    np.testing.assert_allclose(got["scores"], meant["probabilities"], atol=1e-5)


def test_each_signature_has_the_name_of_its_method(exported):
    def methods(name):
        data = (Path(exported(name)) / "saved_model.pb").read_bytes()
        graph = saved_model_pb2.SavedModel.FromString(data).meta_graphs[0]
        return {n: s.method_name for n, s in graph.signature_def.items() if n[0] != "_"}

    predict = dict.fromkeys(
        ("serving_default", "token_ids", "tokenize"), "tensorflow/serving/predict"
    )
    assert methods("a pair") == predict | {"classify": "tensorflow/serving/classify"}
    assert methods("a score, lora") == predict | {"regress": "tensorflow/serving/regress"}
    assert methods("entities") == predict


def test_an_example_without_a_feature_is_refused(exported):
    classify = load(exported("a pair")).signatures["classify"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="text_pair"):
        classify(inputs=tf.constant(examples({"text": ["good"]})))


def test_golden_records_are_the_answers_of_the_pipeline(kind, exported):
    """Not those of the export: a pipeline with other weights would have written others."""
    pipe, folder = kind("a pair"), exported("a pair")
    records = read_golden(folder)
    assert {r["signature"] for r in records} == set(load(folder).signatures)
    strings = [r for r in records if r["signature"] == "serving_default"]
    notes = json.loads((Path(folder) / "assets.extra/c_runtime.json").read_text(encoding="utf-8"))
    assert (len(strings), notes["checked"]) == (8, len(records))
    for record in strings:
        fields = {n: [v.decode() for v in values] for n, values in record["inputs"].items()}
        meant = expected(pipe, fields)
        assert record["outputs"]["label"] == meant["label"].tolist()
        np.testing.assert_allclose(record["outputs"]["probabilities"], meant["probabilities"])


def test_an_export_that_answers_otherwise_in_the_c_runtime_is_refused(exported, tmp_path):
    """What it answers there is compared: one number that is changed is found, and so is a record of
    another signature; the process that checks goes on."""
    folder = tmp_path / "1"
    shutil.copytree(exported("one text"), folder)
    records = read_golden(str(folder))
    assert check_in_c_runtime(str(folder))["difference"] < 1e-5
    for change in ({"probabilities": [[0.1, 0.2, 0.3]]}, {"label": [b"none"]}):
        first = records[0] | {"outputs": records[0]["outputs"] | change}
        write_golden(str(folder), [first, *records[1:]])
        with pytest.raises(KerasftError, match=f"output {[*change][0]}"):
            check_in_c_runtime(str(folder))
    (folder / "saved_model.pb").write_bytes(b"\x00")
    with pytest.raises(KerasftError, match="C runtime"):
        check_in_c_runtime(str(folder))
    assert check_in_c_runtime(exported("one text"))["checked"] == len(records)


def test_a_process_that_dies_is_told_and_replaced(exported):
    from kerasft.export import in_c_runtime

    checker = in_c_runtime._checker()
    checker._process.kill()
    with pytest.raises(KerasftError, match="ended with code -9"):
        check_in_c_runtime(exported("one text"))
    assert check_in_c_runtime(exported("one text"))["difference"] < 1e-5


def test_the_process_began_in_another_folder(exported, monkeypatch):
    """An export has a relative path, and who exports has gone elsewhere since the first one."""
    folder = Path(exported("one text"))
    check_in_c_runtime(str(folder))
    monkeypatch.chdir(folder.parent)
    assert check_in_c_runtime(folder.name)["difference"] < 1e-5
