"""LoRA adapters in PEFT's folders: its own are read, and ours come back the same."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import kerasft as kf
from kerasft._core.errors import InputError
from kerasft.backbones import FAMILIES, build_backbone, describe_backbone
from kerasft.backbones.huggingface import load_folder, read_head
from kerasft.backbones.huggingface.layouts import LAYOUTS
from kerasft.methods import LoRA, adapt, read_peft, set_adapter_weights, write_peft
from kerasft.pipeline import Pipeline
from kerasft.tasks import TextClassification
from kerasft.testing import tiny

GOLDEN = Path(__file__).parents[1] / "golden"
WRITTEN = {row.backbone for row in LAYOUTS}
FOUND = [f for f in FAMILIES if f.backbone in WRITTEN]


def answers(adapted, x):
    out = adapted(x, training=False)
    return np.asarray(out["sequence_output"] if isinstance(out, dict) else out)


def moved(backbone, seed=3):
    """A backbone whose every weight is random, an adapter's B too."""
    tiny.randomize(backbone, seed=seed, scale=0.15)
    return backbone


def plain_copy(backbone):
    copy = build_backbone(describe_backbone(backbone))
    for mine, theirs in zip(copy.weights, backbone.weights, strict=True):
        mine.assign(theirs)
    return copy


@pytest.mark.contract("PEFT folders", of=len(FOUND))
@pytest.mark.parametrize("family", FOUND, ids=lambda f: f.name)
def test_a_folder_comes_back_the_same(family, tmp_path):
    backbone = moved(tiny.backbone(family))
    plain, other = plain_copy(backbone), plain_copy(backbone)
    method = LoRA(rank=3, alpha=5.0, targets=("query", "value", "up"))
    adapted = moved(adapt(backbone, method), seed=4)
    kept = {v.path: np.asarray(v) for v in adapted.weights if not v.trainable}
    for variable in other.weights:
        variable.assign(kept[variable.path])
    silent = adapt(plain_copy(other), "full")
    write_peft(str(tmp_path / "peft"), adapted, plain, {})
    method_again, state, others = read_peft(tmp_path / "peft", other)
    again = adapt(other, method_again)
    set_adapter_weights(again.backbone, state, "the folder")
    x = {n.removeprefix("encoder_"): v for n, v in tiny.features(backbone).items()}
    want = answers(adapted, x)
    np.testing.assert_allclose(answers(again, x), want, atol=2e-6 * np.abs(want).max())
    without = answers(silent, x)
    assert np.abs(without - want).max() > 1e-3, "the adapter does something"
    assert not others


def test_ranks_and_scales_by_module(tmp_path):
    """`rank_pattern` and `alpha_pattern`: y = x (W + alpha_m / r_m B_m A_m) for each module."""
    folder = tmp_path / "peft"
    shutil.copytree(GOLDEN / "steps" / "lora", folder)
    path = folder / "adapter_config.json"
    patterns = {"rank_pattern": {"bert.encoder.layer.1.attention.self.query": 2}, "lora_alpha": 6}
    patterns |= {"alpha_pattern": {r"layer\.1\.attention\.self\.query": 7}}
    path.write_text(json.dumps(json.loads(path.read_text()) | patterns))
    arrays = load_file(folder / "adapter_model.safetensors")
    name = next(n for n in arrays if "layer.1.attention.self.query.lora_A" in n)
    other = name.replace("lora_A", "lora_B")
    arrays[name], arrays[other] = arrays[name][:2].copy(), arrays[other][:, :2].copy()
    arrays[other] += 1.0
    save_file(arrays, folder / "adapter_model.safetensors")
    backbone = load_folder(str(GOLDEN / "bert"), dtype="float32", dropout=0.0)[0]
    method, state, _ = read_peft(folder, backbone)
    assert method.rank == 4
    scale = method.alpha / method.rank
    delta = state["blocks.1.query.lora_a"] @ state["blocks.1.query.lora_b"] * scale
    np.testing.assert_allclose(delta.T, 7 / 2 * arrays[other] @ arrays[name], rtol=1e-5, atol=1e-6)
    name = next(n for n in arrays if "layer.0.attention.self.value.lora_A" in n)
    delta = state["blocks.0.value.lora_a"] @ state["blocks.0.value.lora_b"] * scale
    expected = 6 / 4 * arrays[name.replace("lora_A", "lora_B")] @ arrays[name]
    np.testing.assert_allclose(delta.T, expected, rtol=1e-5, atol=1e-6)


def bert_with(folder, **changes):
    head = read_head(str(GOLDEN / "bert"))
    backbone, tokenizer = load_folder(str(GOLDEN / "bert"), dtype="float32", dropout=0.0)
    task = TextClassification(labels=head.labels, head_dropout=0.0, max_length=40)
    return kf.from_peft(backbone, tokenizer, folder, task, head), task, head


def test_the_folder_that_peft_wrote():
    """Its adapter on the golden BERT gives the logits that Transformers with PEFT gave."""
    about = json.loads((GOLDEN / "steps" / "about.json").read_text(encoding="utf-8"))
    pipe, task, head = bert_with(GOLDEN / "steps" / "lora")
    task.load_head(pipe.model, head)
    expected = np.load(GOLDEN / "steps" / "lora.npz")["logits_before"]
    np.testing.assert_allclose(pipe.logits({"text": about["texts"]}), expected, atol=1e-5)
    assert pipe.adapted.method_config["rank"] == 4


DORA = GOLDEN / "methods" / "lora" / "dora"


def test_the_dora_that_peft_wrote(tmp_path):
    """PEFT's logits, and the numbers of its file in the one that is written of it."""
    about = json.loads((GOLDEN / "steps" / "about.json").read_text(encoding="utf-8"))
    pipe, task, head = bert_with(DORA)
    task.load_head(pipe.model, head)
    assert pipe.adapted.method_config["dora"] is True
    texts = {"text": about["texts"]}
    expected = np.load(GOLDEN / "methods" / "lora" / "dora.npz")["logits_before"]
    np.testing.assert_allclose(pipe.logits(texts), expected, atol=1e-5)
    kf.save_peft(pipe, tmp_path / "peft")
    wanted = load_file(DORA / "adapter_model.safetensors")
    found = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    assert set(found) - set(wanted) == {
        f"base_model.model.classifier.{part}" for part in ("weight", "bias")
    }
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    for site in pipe.backbone.layers:  # what makes it fail: lengths as they were before
        for variable in site.trainable_variables:
            if variable.name == "lora_magnitude":
                variable.assign(np.asarray(variable) * 1.2)
    assert np.abs(pipe.logits(texts) - expected).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: None, "DoRA has a vector of 32 lengths, .*query.lora_magnitude.*nothing"),
        (lambda v: v[:5].copy(), "DoRA has a vector of 32 lengths.*Received: shape \\(5,\\)"),
    ],
)
def test_a_dora_without_its_lengths(change, message, tmp_path):
    folder = tmp_path / "peft"
    shutil.copytree(DORA, folder)
    arrays = load_file(folder / "adapter_model.safetensors")
    name = next(n for n in arrays if "magnitude" in n)
    arrays[name] = change(arrays[name])
    kept = {n: v for n, v in arrays.items() if v is not None}
    save_file(kept, folder / "adapter_model.safetensors")
    with pytest.raises(InputError, match=message):
        bert_with(folder)


def test_lengths_in_a_folder_that_says_no_dora(tmp_path):
    """They would be left out without a word, and the answers be others than PEFT's."""
    folder = tmp_path / "peft"
    shutil.copytree(DORA, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_dora": False}))
    with pytest.raises(InputError, match="Received: the weight .*lora_magnitude_vector"):
        bert_with(folder)


def test_a_folder_without_a_head_needs_one():
    """Else the head would be drawn anew with every reading."""
    backbone, tokenizer = load_folder(str(GOLDEN / "bert"), dtype="float32", dropout=0.0)
    task = TextClassification(labels=("a", "b", "c"), max_length=40)
    with pytest.raises(InputError, match="holds no head, and text-classification needs one"):
        kf.from_peft(backbone, tokenizer, GOLDEN / "steps" / "lora", task)


def test_the_head_lies_with_the_adapter(tmp_path):
    pipe, task, head = bert_with(GOLDEN / "steps" / "lora")
    task.load_head(pipe.model, head)
    kf.save_peft(pipe, tmp_path / "peft")
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_CLS"
    assert config["target_modules"] == sorted(
        f"encoder.layer.{i}.attention.self.{r}" for i in range(2) for r in ("query", "value")
    )
    assert config["modules_to_save"] == ["classifier"]
    again, _, _ = bert_with(tmp_path / "peft")
    texts = {"text": ["good film", "bad"]}
    np.testing.assert_array_equal(again.logits(texts), pipe.logits(texts))


def test_gpt2_holds_three_projections_in_one_module(tmp_path):
    backbone = moved(tiny.backbone("gpt2"))
    plain = plain_copy(backbone)
    adapted = moved(adapt(backbone, LoRA(rank=2, alpha=4.0, targets=("query", "output"))), 4)
    write_peft(str(tmp_path / "peft"), adapted, plain, {})
    arrays = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    name = "base_model.model.transformer.h.0.attn.c_attn"
    width = backbone.hidden_dim
    a, b = arrays[f"{name}.lora_A.weight"], arrays[f"{name}.lora_B.weight"]
    assert (a.shape, b.shape) == ((2, width), (3 * width, 2))
    assert not b[width:].any(), "the key and the value get no update"


BROKEN = {
    "another kind": ({"peft_type": "IA3"}, None, "plain LoRA adapters, peft_type 'LORA'"),
    "with biases": ({"bias": "all"}, None, "bias 'none'. Received: bias='all'"),
    "another rank": ({"r": 9}, None, "matrices of rank 9 are expected for"),
    "one matrix": ({}, "lora_A", "one of the two matrices"),
    "nothing of it": ({}, "query|value", "must be an adapter of a BertBackbone"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_foreign_folders(what, tmp_path):
    changes, lost, message = BROKEN[what]
    folder = tmp_path / "peft"
    shutil.copytree(GOLDEN / "steps" / "lora", folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    arrays = load_file(folder / "adapter_model.safetensors")
    gone = lost.split("|") if lost else []
    kept = {n: v for n, v in arrays.items() if not any(g in n for g in gone)}
    save_file(kept or {"x": np.zeros(1, np.float32)}, folder / "adapter_model.safetensors")
    with pytest.raises(InputError, match=message):
        bert_with(folder)


def test_another_base(tmp_path):
    with pytest.raises(InputError, match="must be an adapter of a GPT2Backbone"):
        read_peft(GOLDEN / "steps" / "lora", tiny.backbone("gpt2"))


def test_another_method_is_no_peft_folder(tmp_path):
    pipe, _, _ = bert_with(GOLDEN / "steps" / "lora")
    task = pipe.task
    backbone = load_folder(str(GOLDEN / "bert"), dtype="float32", dropout=0.0)[0]
    frozen = Pipeline(task.build(adapt(backbone, "bitfit")), pipe.tokenizer, task)
    with pytest.raises(InputError, match="method='bitfit'"):
        kf.save_peft(frozen, tmp_path / "peft")
    assert not list(tmp_path.iterdir())
