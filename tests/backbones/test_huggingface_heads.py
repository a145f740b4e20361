"""Heads for tags and for answers: read, mapped to a task's own order, and written back."""

import dataclasses
import json

import numpy as np
import pytest
from golden_folders import GOLDEN, golden_of
from safetensors.numpy import load_file, save_file

import kerasft
from kerasft._core.errors import InputError
from kerasft.backbones.huggingface import Head, read_head, write_folder
from kerasft.backbones.huggingface.layouts import layout_of_model_type
from kerasft.pipeline import Pipeline
from kerasft.tasks import QuestionAnswering, RelationExtraction, TokenClassification
from kerasft.tasks._tagging import Tags, of_names
from kerasft.testing import tiny
from kerasft.training.prepare import build_model, prepare_data

LIMIT = 1e-5
TAGS, ANSWERS = "bert_tags", "roberta_answers"
# What Transformers' classes call the layer of the tags, and what stands before the backbone's
# weights in those for tags and for answers (None: there is no such class).
CLASSES = {
    "bert": ("classifier", "bert.", "bert."),
    "roberta": ("classifier", "roberta.", "roberta."),
    "xlm-roberta": ("classifier", "roberta.", "roberta."),
    "distilbert": ("classifier", "distilbert.", "distilbert."),
    "albert": ("classifier", "albert.", "albert."),
    "deberta-v2": ("classifier", "deberta.", "deberta."),
    "electra": ("classifier", "electra.", "electra."),
    "gpt2": ("classifier", "transformer.", "transformer."),
    "llama": ("score", "model.", "transformer."),
    "qwen2": ("score", "model.", "transformer."),
    "qwen3": ("score", "model.", "transformer."),
    "mistral": ("score", "model.", "model."),
    "gemma": ("score", "model.", None),
    "gemma2": ("score", "model.", None),
}
SENTENCES = [
    {"tokens": ["The", "film", "was", "good"], "tags": ["O", "B-LOC", "O", "B-PER"]},
    {"tokens": ["The", "story", "was", "ugly"], "tags": ["B-PER", "I-PER", "O", "O"]},
    {"tokens": ["a", "bad", "movie"], "tags": ["O", "B-LOC", "I-LOC"]},
]
QUESTIONS = [
    {"question": "Is the film good?", "context": "The film was very good.", "answer": "good"},
    {"question": "Was the end ugly?", "context": "The end was ugly.", "answer": "ugly"},
]


def recipe(folder, tmp_path, rows, name, **task):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return kerasft.Recipe(
        preset=str(folder),
        task={"name": name, **task},
        data={"train": str(path), "validation": None, "test": None, "max_length": 40},
    )


def started(plan):
    """The pipeline of a recipe before its first step."""
    prepared = prepare_data(plan)
    return Pipeline(*build_model(prepared, "float32"), prepared.task)


def outputs(pipe, expected, prefix=""):
    """The model's logits on the golden ids, and which of them are real."""
    ids, mask = expected[prefix + "input_ids"], expected[prefix + "attention_mask"]
    segments = expected.get(prefix + "token_type_ids", np.zeros_like(ids))
    every = {"token_ids": ids, "padding_mask": mask, "segment_ids": segments}
    return np.asarray(pipe.model({name: every[name] for name in pipe.inputs})), mask == 1


def config_of(folder):
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def rename(folder, names):
    """Give the tags of a folder other names."""
    config = config_of(folder)
    config["id2label"] = {str(index): name for index, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


# --- tags -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "tags", "places"),
    [
        ("I-PER O B-PER", Tags(("PER",)), [1, 2, 0]),
        ("O B-LOC I-LOC B-geo-loc I-geo-loc", Tags(("LOC", "geo-loc")), [0, 1, 2, 3, 4]),
        ("S-A E-A I-A B-A O", Tags(("A",), "iobes"), [4, 3, 2, 1, 0]),
        ("O B-A I-A L-A U-A", Tags(("A",), "iobes"), [0, 1, 2, 3, 4]),
        ("O B-A M-A E-A S-A", Tags(("A",), "iobes"), [0, 1, 2, 3, 4]),
        ("O PER LOC", None, None),
        ("NOUN VERB X", None, None),
        ("O I-PER I-LOC", None, None),
        ("O B-PER I-PER B-LOC", None, None),
        ("B-PER I-PER", None, None),
        ("O B-A I-A I-A", None, None),
        ("O B-A I-A E-A", None, None),
        ("O B-A I-A E-A S-A B-B I-B", None, None),
        ("O B-A I-A PAD", None, None),
        ("O B-A I-A L-A E-A U-A", None, None),
    ],
)
def test_tags_are_known_by_their_names(names, tags, places):
    found = of_names(names.split())
    if tags is None:
        assert found is None
        return
    assert found[0] == tags
    assert [found[1][name] for name in tags.names] == places


def test_a_run_starts_from_the_tags_of_the_folder(golden, tmp_path):
    pipe = started(recipe(GOLDEN / TAGS, tmp_path, SENTENCES, "token-classification"))
    assert pipe.task.labels == ("PER", "LOC")
    assert pipe.task.tags.names == ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    order, expected = [2, 4, 0, 1, 3], golden(TAGS).expected
    for prefix in ("", "pair_"):
        logits, real = outputs(pipe, expected, prefix)
        wanted = expected[prefix + "logits"]
        assert np.abs(logits - wanted[..., order])[real].max() <= LIMIT
        assert np.abs(logits - wanted)[real].max() > 0.1, "in the folder's order they differ"


def test_tags_are_written_in_their_own_order(golden, tmp_path):
    pipe = started(recipe(GOLDEN / TAGS, tmp_path, SENTENCES, "token-classification"))
    folder = tmp_path / "written"
    pipe.save_hf(folder)
    config, source = config_of(folder), load_file(GOLDEN / TAGS / "model.safetensors")
    assert config["architectures"] == ["BertForTokenClassification"]
    assert list(config["id2label"].values()) == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    assert config["label2id"]["B-LOC"] == 3 and "problem_type" not in config
    written = load_file(folder / "model.safetensors")
    assert set(written) == set(source), "no pooler among them"
    order = [2, 4, 0, 1, 3]
    np.testing.assert_array_equal(written["classifier.weight"], source["classifier.weight"][order])
    np.testing.assert_array_equal(written["classifier.bias"], source["classifier.bias"][order])
    again = started(recipe(folder, tmp_path, SENTENCES, "token-classification"))
    assert again.task == pipe.task
    one, other = (outputs(p, golden(TAGS).expected)[0] for p in (pipe, again))
    np.testing.assert_array_equal(one, other)


def test_labels_of_ones_own_have_any_order(golden, tmp_path):
    plan = recipe(GOLDEN / TAGS, tmp_path, SENTENCES, "token-classification")
    pipe = started(plan.replace("task.labels=[LOC, PER]"))
    assert pipe.task.tags.names == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    logits, real = outputs(pipe, golden(TAGS).expected)
    wanted = golden(TAGS).expected["logits"][..., [2, 1, 3, 4, 0]]
    assert np.abs(logits - wanted)[real].max() <= LIMIT


def test_other_labels_start_from_a_new_head(golden, tmp_path):
    rows = [*SENTENCES, {"tokens": ["ok"], "tags": ["B-ORG"]}]
    pipe = started(recipe(GOLDEN / TAGS, tmp_path, rows, "token-classification"))
    assert pipe.task.labels == ("LOC", "ORG", "PER")
    assert np.abs(np.asarray(pipe.model.get_layer("logits").kernel)).max() < 0.1
    assert np.abs(golden(TAGS).head.logits_kernel).max() > 0.3


def test_a_head_for_another_task_is_left_alone(tmp_path):
    plan = recipe(GOLDEN / TAGS, tmp_path, QUESTIONS, "question-answering", overlap=8)
    assert prepare_data(plan).head is None
    task = TokenClassification(labels=("PER", "LOC"))
    for name in ("bert", ANSWERS):
        assert not task.fits_head(golden_of(name).head, None)
    assert task.fits_head(golden_of(TAGS).head, None)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("O S-A B-A I-A E-A", ["tags of bio", "Received: iobes", "Set task.scheme=iobes"]),
        ("O NOUN VERB ADJ X", ["plain tags", "O, NOUN, VERB", "Set task.labels"]),
        ("O I-PER I-LOC I-ORG I-MISC", ["O, I-PER", "Set task.labels"]),
    ],
)
def test_tags_of_another_scheme(copy_of, tmp_path, names, words):
    folder = copy_of(TAGS)
    rename(folder, names.split())
    plan = recipe(folder, tmp_path, SENTENCES, "token-classification")
    with pytest.raises(InputError) as error:
        prepare_data(plan)
    assert all(word in str(error.value) for word in words), str(error.value)
    pipe = started(plan.replace("task.labels=[LOC, PER]"))
    assert np.abs(np.asarray(pipe.model.get_layer("logits").kernel)).max() < 0.1


def test_a_folder_with_ends_starts_a_task_with_ends(copy_of, tmp_path):
    folder = copy_of(TAGS)
    rename(folder, ["L-PER", "O", "U-PER", "B-PER", "I-PER"])
    rows = [row for row in SENTENCES if "B-LOC" not in row["tags"]]
    pipe = started(recipe(folder, tmp_path, rows, "token-classification", scheme="iobes"))
    assert pipe.task.tags.names == ("O", "B-PER", "I-PER", "E-PER", "S-PER")
    logits, real = outputs(pipe, golden_of(TAGS).expected)
    wanted = golden_of(TAGS).expected["logits"][..., [1, 3, 4, 0, 2]]
    assert np.abs(logits - wanted)[real].max() <= LIMIT


# --- answers --------------------------------------------------------------------------------------


def test_a_run_starts_from_the_answers_of_the_folder(golden, tmp_path):
    plan = recipe(GOLDEN / ANSWERS, tmp_path, QUESTIONS, "question-answering", overlap=8)
    pipe, expected = started(plan), golden(ANSWERS).expected
    for prefix in ("", "pair_"):
        logits, real = outputs(pipe, expected, prefix)
        assert np.abs(logits - expected[prefix + "logits"])[real].max() <= LIMIT
        assert np.abs(logits - expected[prefix + "logits"][..., ::-1])[real].max() > 0.1
        assert (logits[~real] < -1e8).all(), "no answer lies on padding"


def test_answers_are_written(golden, tmp_path):
    plan = recipe(GOLDEN / ANSWERS, tmp_path, QUESTIONS, "question-answering", overlap=8)
    pipe, folder = started(plan), tmp_path / "written"
    kernel = pipe.model.get_layer("logits").kernel
    kernel.assign(np.asarray(kernel)[:, ::-1] * 2)
    pipe.save_hf(folder)
    config = config_of(folder)
    assert config["architectures"] == ["RobertaForQuestionAnswering"]
    assert not {"id2label", "label2id", "problem_type"} & set(config)
    source = load_file(GOLDEN / ANSWERS / "model.safetensors")["qa_outputs.weight"]
    written = load_file(folder / "model.safetensors")["qa_outputs.weight"]
    np.testing.assert_array_equal(written, 2 * source[::-1])
    again = started(plan.replace(f"preset={folder}"))
    one, other = (outputs(p, golden(ANSWERS).expected)[0] for p in (pipe, again))
    np.testing.assert_array_equal(one, other)


# --- every family ---------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", ["tags", "answers"])
@pytest.mark.parametrize("model_type", CLASSES)
def test_weights_have_the_names_of_transformers(golden, tmp_path, model_type, problem):
    case = golden(model_type)
    backbone, tokenizer = case.loaded
    layer, *prefixes = CLASSES[model_type]
    layer = layer if problem == "tags" else "qa_outputs"
    prefix = prefixes[problem == "answers"]
    labels = ("O", "B-A", "I-A") if problem == "tags" else ("start", "end")
    rng = np.random.default_rng(0)
    kernel, bias = rng.standard_normal((backbone.hidden_dim + 1, len(labels))).astype("f4"), None
    kernel, bias = kernel[1:], kernel[0]
    head = Head(labels, problem, None, None, kernel, bias)
    if prefix is None:
        with pytest.raises(InputError, match=r"no `\.\.\.ForQuestionAnswering`"):
            write_folder(str(tmp_path), backbone, tokenizer, head, 40)
        return
    write_folder(str(tmp_path), backbone, tokenizer, head, 40)
    ending = {"tags": "ForTokenClassification", "answers": "ForQuestionAnswering"}[problem]
    architecture = layout_of_model_type(model_type).architecture
    assert config_of(tmp_path)["architectures"] == [architecture + ending]
    written = load_file(tmp_path / "model.safetensors")
    own = {name for name in written if not name.startswith(prefix)} - {"lm_head.weight"}
    assert own == {f"{layer}.weight", f"{layer}.bias"}
    pooler = {name for name in written if "pooler" in name}
    assert not pooler, "Transformers' class has none and would warn"
    source = load_file(case.folder / "model.safetensors")
    had = layout_of_model_type(model_type).prefix
    body = {prefix + name.removeprefix(had) for name in source if name.startswith(had)}
    assert {name for name in body if "pooler" not in name} == set(written) - own - {
        "lm_head.weight"
    }
    for key, value in vars(read_head(str(tmp_path))).items():
        np.testing.assert_array_equal(value, getattr(head, key), err_msg=key)


def test_a_task_without_such_a_class_is_not_written(tmp_path):
    task = RelationExtraction(labels=("a", "b"), max_length=16)
    row = tiny.family("bert")
    pipe = Pipeline(task.build(tiny.backbone(row)), tiny.tokenizer(row), task)
    with pytest.raises(InputError, match="Received: task 'relation-extraction'"):
        pipe.save_hf(tmp_path / "hf")
    assert list(tmp_path.iterdir()) == []


# --- folders that make no sense, or say little ----------------------------------------------------


def test_a_folder_that_names_no_class_is_known_by_its_weights(copy_of):
    for name in (ANSWERS, "roberta", "bert", "gpt2"):
        folder = copy_of(name)
        config = config_of(folder)
        del config["architectures"]
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        found, wanted = read_head(str(folder)), golden_of(name).head
        assert (found.problem, found.labels) == (wanted.problem, wanted.labels)
        np.testing.assert_array_equal(found.logits_kernel, wanted.logits_kernel)


@pytest.mark.parametrize("name", [TAGS, ANSWERS])
def test_a_promised_head_that_is_not_there(copy_of, name):
    folder = copy_of(name)
    weights = load_file(folder / "model.safetensors")
    layer = {TAGS: "classifier", ANSWERS: "qa_outputs"}[name]
    bias = weights.pop(f"{layer}.bias")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(InputError, match=f"{layer}.bias"):
        read_head(str(folder))
    del weights[f"{layer}.weight"]
    save_file(weights | {f"{layer}.bias": bias}, folder / "model.safetensors")
    with pytest.raises(InputError, match=f"{layer}.weight"):
        read_head(str(folder))


def test_answers_have_a_start_and_an_end(copy_of):
    folder = copy_of(ANSWERS)
    weights = load_file(folder / "model.safetensors")
    weights["qa_outputs.weight"] = np.zeros((3, 16), "float32")
    weights["qa_outputs.bias"] = np.zeros(3, "float32")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"2 rows.*Received: shape=\(3, 16\)"):
        read_head(str(folder))


def test_the_pooler_of_deberta_is_of_no_matter_to_tags(golden, copy_of, tmp_path):
    backbone, tokenizer = golden("deberta-v2").loaded
    kernel = np.ones((backbone.hidden_dim, 3), "float32")
    head = Head(("O", "B-A", "I-A"), "tags", None, None, kernel, np.zeros(3, "float32"))
    write_folder(str(tmp_path), backbone, tokenizer, head, 40)
    config = config_of(tmp_path) | {"pooler_hidden_act": "tanh"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert read_head(str(tmp_path)).labels == head.labels
    hidden = dataclasses.replace(head, hidden_kernel=kernel, hidden_bias=kernel[0])
    with pytest.raises(InputError, match="no dense layer"):
        write_folder(str(tmp_path), backbone, tokenizer, hidden, 40)


def test_a_task_says_what_its_head_is():
    task = QuestionAnswering()
    assert task.with_head(golden_of(ANSWERS).head) is task
    assert task.fits_head(golden_of(ANSWERS).head, None)
    assert not task.fits_head(golden_of(TAGS).head, None)
