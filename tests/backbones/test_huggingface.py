"""Every model type: loaded as Transformers computes it, and written so that it comes back."""

import json

import numpy as np
import pytest
from golden_folders import GOLDEN
from safetensors.numpy import load_file

from kerasft.backbones import FAMILIES, family_of, template_of
from kerasft.backbones.huggingface import Head, load_folder, read_head, write_folder
from kerasft.backbones.huggingface.heads import style_of
from kerasft.backbones.huggingface.layouts import LAYOUTS

NAMES = sorted(path.parent.name for path in GOLDEN.glob("*/texts.json"))
# Encoder-decoders have no head, and a test of their own.
MODEL_TYPES = sorted({t for f in FAMILIES if f.kind != "encoder-decoder" for t in f.model_types})
LIMIT = 1e-5
# A pooler that KerasHub's class has and Transformers' has not: ELECTRA's, and that of tags.
NOT_IN_CHECKPOINTS = dict.fromkeys(
    ("electra", "bert_tags"), {"pooled_dense/kernel", "pooled_dense/bias"}
)
# What a written file holds otherwise than the one that was read, with no answer changed: RoBERTa's
# one segment lies in its positions (whose first two rows are never read), and KerasHub's Mistral
# always has a language model head.
OTHERWISE = {
    "roberta": {"embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"},
    "mistral": {"lm_head.weight"},
}
OTHERWISE["xlm-roberta"] = OTHERWISE["roberta_answers"] = OTHERWISE["roberta"]


def model_type(name: str) -> str:
    return json.loads((GOLDEN / name / "config.json").read_text(encoding="utf-8"))["model_type"]


def inputs_of(backbone, expected, prefix=""):
    ids = expected[prefix + "input_ids"]
    every = {
        "token_ids": ids,
        "padding_mask": expected[prefix + "attention_mask"],
        "segment_ids": expected.get(prefix + "token_type_ids", np.zeros_like(ids)),
    }
    return {i.name: every[i.name] for i in backbone.inputs}


def sequence_of(outputs):
    return np.asarray(outputs["sequence_output"] if isinstance(outputs, dict) else outputs)


def logits_of(head, backbone, outputs, mask):
    """The head by hand: pool, hidden layer, logits."""
    from kerasft._core import stack

    stack.ensure()
    import keras

    style, sequence = style_of(family_of(backbone), head.problem), sequence_of(outputs)
    if style.pooling == "all":
        x = sequence
    elif style.pooler:
        x = np.asarray(outputs["pooled_output"])
    elif style.pooling == "last":
        x = sequence[np.arange(len(mask)), mask.sum(1) - 1]
    else:
        x = sequence[:, 0]
    if head.hidden_kernel is not None:
        x = x @ head.hidden_kernel + head.hidden_bias
        x = np.asarray(keras.activations.get(style.hidden)(x))
    return x @ head.logits_kernel + (0 if head.logits_bias is None else head.logits_bias)


def test_every_model_type_has_a_golden_folder(record_property):
    covered = {model_type(name) for name in NAMES}
    found = ["model types", len(covered & set(MODEL_TYPES)), len(MODEL_TYPES)]
    record_property("covered", found)
    assert covered == set(MODEL_TYPES) == {row.model_type for row in LAYOUTS} - {"bart"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prefix", ["", "pair_"])
def test_answers_are_those_of_transformers(golden, name, prefix):
    case = golden(name)
    if prefix and not case.texts["pairs"]:
        return
    backbone, _ = case.loaded
    mask, expected = case.expected[prefix + "attention_mask"], case.expected
    outputs = backbone(inputs_of(backbone, expected, prefix))
    wanted = expected[prefix + "last_hidden_state"]
    # Transformers gives padded places other positions in RoBERTa; nothing reads them.
    difference = np.abs(sequence_of(outputs) - wanted)[mask == 1].max()
    assert difference <= LIMIT * np.abs(wanted).max()
    logits = logits_of(case.head, backbone, outputs, mask)
    difference = np.abs(logits - expected[prefix + "logits"])
    # Logits of a text are [rows, classes], those of tokens [rows, length, tags].
    assert (difference if logits.ndim == 2 else difference[mask == 1]).max() <= LIMIT


@pytest.mark.parametrize("name", NAMES)
def test_a_written_folder_comes_back_the_same(golden, name):
    case = golden(name)
    (backbone, tokenizer), (again, tokenizer_again) = case.loaded, case.again
    for one, other in zip(backbone.weights, again.weights, strict=True):
        assert one.path == other.path
        if one.path not in NOT_IN_CHECKPOINTS.get(name, ()):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other), err_msg=one.path)
    for key, value in vars(case.head).items():
        np.testing.assert_array_equal(
            getattr(read_head(str(case.written)), key), value, err_msg=key
        )
    assert template_of(tokenizer_again) == template_of(tokenizer)
    inputs = inputs_of(backbone, case.expected)
    one, other = sequence_of(backbone(inputs)), sequence_of(again(inputs))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "bert_h5"])
def test_written_weights_are_those_of_the_checkpoint(golden, name):
    """Names, shapes and bytes, so that Transformers finds what it wrote itself."""
    case = golden(name)
    source = load_file(case.folder / "model.safetensors")
    written = load_file(case.written / "model.safetensors")
    allowed = {k for k in source | written if k.endswith(tuple(OTHERWISE.get(name, ("-",))))}
    assert set(source) - allowed == set(written) - allowed
    for key in set(source) - allowed:
        np.testing.assert_array_equal(written[key], source[key], err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_written_config_says_what_the_checkpoint_says(golden, name):
    case = golden(name)
    source = json.loads((case.folder / "config.json").read_text(encoding="utf-8"))
    written = json.loads((case.written / "config.json").read_text(encoding="utf-8"))
    rotary = {"rope_theta", "rope_scaling", "rope_parameters", "max_position_embeddings"}
    own = {"type_vocab_size", "architectures", "hidden_act", "problem_type", "tie_word_embeddings"}
    own |= {"pos_att_type", "bos_token_id", "eos_token_id", "attention_probs_dropout_prob"}
    for key in set(source) & set(written) - rotary - own:
        if source[key] is not None:
            assert written[key] == pytest.approx(source[key]), key
    assert written["architectures"] == [source["architectures"][0].removeprefix("TF")]


@pytest.mark.parametrize("problem", ["single-label", "multi-label", "regression"])
def test_kinds_of_problems_come_back(golden, tmp_path, problem):
    case = golden("bert")
    count = 1 if problem == "regression" else 2
    kernel = np.arange(32 * count, dtype="float32").reshape(32, count)
    labels = ("score",) if problem == "regression" else ("no", "yes")
    head = Head(labels, problem, None, None, kernel, np.ones(count, "float32"))
    write_folder(str(tmp_path), *case.loaded, head, max_length=40)
    found = read_head(str(tmp_path) + "/")
    assert (found.labels, found.problem) == (labels, problem)
    np.testing.assert_array_equal(found.logits_kernel, kernel)


def test_a_folder_without_a_head_has_none(copy_of):
    folder = copy_of("bert")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for architecture in ("BertModel", "BertForMaskedLM"):
        config["architectures"] = [architecture]
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        assert read_head(str(folder)) is None


def test_heads_have_the_labels_in_order(golden):
    for name in set(NAMES) - {"bert_tags", "roberta_answers"}:
        assert golden(name).head.labels == ("bad", "good", "ugly")
        assert golden(name).head.problem == "single-label"


def test_dropout_is_the_checkpoints_unless_given(golden, copy_of):
    assert golden("bert").loaded[0].dropout == 0.1
    assert golden("albert").loaded[0].dropout == 0.0
    assert load_folder(str(copy_of("bert")), dropout=0.25)[0].dropout == 0.25


def test_dtype_is_honoured_and_written_back(golden, copy_of, tmp_path):
    folder = copy_of("bert")
    backbone, tokenizer = load_folder(str(folder), dtype="mixed_bfloat16")
    assert backbone.compute_dtype == "bfloat16"
    write_folder(str(tmp_path / "out"), backbone, tokenizer, golden("bert").head, 40)
    source, written = (load_file(p / "model.safetensors") for p in (folder, tmp_path / "out"))
    for key, value in source.items():
        np.testing.assert_array_equal(written[key], value)


def test_a_config_that_leaves_out_what_is_usual(golden, copy_of):
    folder = copy_of("bert")
    keys = "model_type vocab_size hidden_size num_hidden_layers num_attention_heads"
    keys = [*keys.split(), "intermediate_size", "max_position_embeddings"]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({key: config[key] for key in keys}))
    backbone, _ = load_folder(str(folder))
    inputs = inputs_of(backbone, golden("bert").expected)
    wanted = sequence_of(golden("bert").loaded[0](inputs))
    np.testing.assert_array_equal(sequence_of(backbone(inputs)), wanted)
    assert read_head(str(folder)).labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_the_llama_of_keras_hub_is_written_too(golden, tmp_path):
    """`LlamaBackbone` comes from KerasHub presets only; `llama` folders become `Llama3Backbone`."""
    import keras_hub

    case = golden("llama")
    backbone, tokenizer = case.loaded
    config = {k: v for k, v in backbone.get_config().items() if k not in ("name", "trainable")}
    plain = keras_hub.models.LlamaBackbone(**config | {"tie_word_embeddings": True})
    plain.set_weights(backbone.get_weights())
    write_folder(str(tmp_path), plain, tokenizer, case.head, max_length=40)
    source = load_file(case.folder / "model.safetensors")
    written = load_file(tmp_path / "model.safetensors")
    assert set(source) == set(written)
    for key, value in source.items():
        np.testing.assert_array_equal(written[key], value, err_msg=key)


def test_a_merged_backbone_is_written_as_it_is_now(golden, copy_of, tmp_path):
    backbone, tokenizer = load_folder(str(copy_of("gpt2")))
    kernel = backbone.transformer_layers[1]._self_attention_layer.key_dense.kernel
    kernel.assign(np.asarray(kernel) + 1)
    write_folder(str(tmp_path / "out"), backbone, tokenizer, golden("gpt2").head, 40)
    key = "transformer.h.1.attn.c_attn.weight"
    before = load_file(GOLDEN / "gpt2" / "model.safetensors")[key]
    after = load_file(tmp_path / "out" / "model.safetensors")[key]
    moved = np.zeros_like(before)
    moved[:, 16:32] = 1
    np.testing.assert_allclose(after - before, moved, atol=1e-6)
