"""A foreign folder is not trusted: what is wrong with it is said in one line."""

import json

import numpy as np
import pytest
from golden_folders import GOLDEN
from safetensors.numpy import load_file, save_file

from kerasft._core.errors import InputError
from kerasft.backbones.huggingface import Head, load_folder, read_head, write_folder
from kerasft.backbones.huggingface.store import open_store, torch_name


def change(folder, **keys):
    """Change keys of config.json; None takes a key away."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | keys
    config = {key: value for key, value in config.items() if value is not None}
    path.write_text(json.dumps(config), encoding="utf-8")


def refused(folder, *words, call=load_folder):
    with pytest.raises(InputError) as caught:
        call(str(folder))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("bert", {"model_type": "t5"}, ["bert", "model_type='t5'"]),
        ("bert", {"model_type": 3}, ["model_type"]),
        ("bert", {"hidden_size": None}, ["lacks the key `hidden_size`"]),
        ("bert", {"hidden_size": "32"}, ["whole number", "hidden_size='32'"]),
        ("bert", {"num_hidden_layers": 0}, ["at least 1", "num_hidden_layers=0"]),
        ("bert", {"num_hidden_layers": 1.5}, ["num_hidden_layers=1.5"]),
        ("bert", {"num_hidden_layers": 999}, ["asks for at least", "holds"]),
        ("bert", {"num_hidden_layers": 10**9}, ["at most 1000 layers"]),
        ("bert", {"type_vocab_size": 10**9}, ["asks for at least"]),
        ("albert", {"num_hidden_layers": 10**6}, ["at most 1000 layers"]),
        ("albert", {"inner_group_num": 10**7}, ["asks for at least"]),
        ("deberta-v2", {"position_buckets": 10**9}, ["asks for at least"]),
        ("gemma", {"head_dim": 10**9}, ["asks for at least"]),
        ("bert", {"vocab_size": 10**11}, ["asks for at least"]),
        ("bert", {"num_attention_heads": 5}, ["multiple of `num_attention_heads`"]),
        ("bert", {"hidden_act": "relu6"}, ["hidden_act", "gelu"]),
        ("bert", {"hidden_act": ["gelu"]}, ["hidden_act"]),
        ("bert", {"layer_norm_eps": -1}, ["layer_norm_eps=-1"]),
        ("bert", {"hidden_dropout_prob": "much"}, ["hidden_dropout_prob='much'"]),
        ("bert", {"hidden_dropout_prob": 7}, ["BertBackbone"]),
        ("bert", {"position_embedding_type": "relative_key"}, ["position_embedding_type"]),
        ("bert", {"num_hidden_layers": 3}, ["lacks the weight", "encoder.layer.2"]),
        ("bert", {"intermediate_size": 40}, ["must be of shape (40, 32)", "shape=(48, 32)"]),
        ("roberta", {"pad_token_id": 0}, ["pad_token_id=1", "pad_token_id=0"]),
        ("deberta-v2", {"share_att_key": False}, ["share_att_key=True"]),
        ("deberta-v2", {"pos_att_type": ["c2p"]}, ["pos_att_type"]),
        ("deberta-v2", {"position_biased_input": True}, ["position_biased_input"]),
        ("deberta-v2", {"conv_kernel_size": 3}, ["conv_kernel_size"]),
        ("deberta-v2", {"embedding_size": 16}, ["embedding_size"]),
        ("deberta-v2", {"max_relative_positions": 17}, ["max_relative_positions"]),
        ("deberta-v2", {"norm_rel_ebd": "none"}, ["norm_rel_ebd"]),
        ("gpt2", {"scale_attn_weights": False}, ["scale_attn_weights"]),
        ("llama", {"attention_bias": True}, ["attention_bias"]),
        ("llama", {"hidden_act": "gelu"}, ["hidden_act"]),
        ("llama", {"head_dim": 5}, ["head_dim"]),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, ["rope_type='yarn'"]),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, ["rope_type='linear'"]),
        ("llama", {"rope_scaling": {"rope_type": "llama3"}}, ["factor"]),
        ("llama", {"rope_scaling": "yes"}, ["rope_scaling"]),
        ("llama", {"num_key_value_heads": 3}, ["num_key_value_heads"]),
        ("qwen2", {"use_sliding_window": True}, ["use_sliding_window"]),
        ("gemma2", {"query_pre_attn_scalar": 7}, ["query_pre_attn_scalar"]),
        ("gemma", {"rope_theta": 5e5}, ["rope_theta"]),
    ],
)
def test_a_config_that_cannot_be_loaded(copy_of, name, keys, words):
    folder = copy_of(name)
    change(folder, **keys)
    refused(folder, *words)


def test_a_config_that_is_no_object(copy_of):
    folder = copy_of("bert")
    for text in ("[1, 2]", "3", "{"):
        (folder / "config.json").write_text(text, encoding="utf-8")
        refused(folder, "config.json")


@pytest.mark.parametrize(
    ("name", "file", "words"),
    [
        ("bert", "config.json", ["There is no file", "config.json"]),
        ("bert", "model.safetensors", ["model.safetensors", "tf_model.h5"]),
        ("bert", "vocab.txt", ["vocab.txt", "tokenizer.json"]),
        ("roberta", "merges.txt", ["merges.txt"]),
        ("roberta", "vocab.json", ["vocab.json"]),
        ("xlm-roberta", "sentencepiece.bpe.model", ["SentencePiece"]),
        ("llama", "tokenizer.json", ["tokenizer.json"]),
    ],
)
def test_a_missing_file_is_named(copy_of, name, file, words):
    folder = copy_of(name)
    (folder / file).unlink()
    refused(folder, *words)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("bert", "model.safetensors"),
        ("bert_h5", "tf_model.h5"),
        ("albert", "spiece.model"),
        ("llama", "tokenizer.json"),
        ("bert", "tokenizer_config.json"),
    ],
)
def test_a_damaged_file_is_named(copy_of, name, file):
    folder = copy_of(name)
    (folder / file).write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00not this\xff")
    refused(folder, file)


@pytest.mark.parametrize(
    "state",
    [
        {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}},
        {"model": {"type": "BPE", "vocab": [], "merges": 3}},
        {"model": {"type": "WordLevel"}},
        {"model": 7},
        {"model": {"type": "Unigram", "vocab": [["a"]], "unk_id": 9}},
    ],
)
def test_a_tokenizer_json_that_makes_no_sense(copy_of, state):
    folder = copy_of("llama")
    (folder / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    refused(folder, "tokenizer")


def test_a_tokenizer_that_tensorflow_cannot_run(copy_of):
    folder = copy_of("llama")
    state = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    steps = state["pre_tokenizer"]["pretokenizers"]
    steps[0]["pattern"]["Regex"] = r"a(?=b)"
    (folder / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    refused(folder, "cannot split")
    steps[0] = {"type": "UnicodeScripts"}
    (folder / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    refused(folder, "UnicodeScripts")


def test_a_tokenizer_that_is_too_large_for_the_model(copy_of):
    folder = copy_of("bert")
    with open(folder / "vocab.txt", "a", encoding="utf-8") as file:
        file.write("".join(f"more{i}\n" for i in range(9)))
    refused(folder, "vocab_size")


def test_a_pickle_is_never_opened(copy_of):
    folder = copy_of("bert")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "pytorch_model.bin", "pickle", "safe_serialization")


def test_a_quantised_checkpoint_is_refused(copy_of):
    folder = copy_of("bert")
    weights = load_file(folder / "model.safetensors")
    save_file({k: v.astype("int8") for k, v in weights.items()}, folder / "model.safetensors")
    refused(folder, "quantised", "int8")


def test_weights_of_another_family(copy_of):
    folder = copy_of("bert")
    (folder / "model.safetensors").unlink()
    save_file({"other": np.zeros((9999, 99), "float32")}, folder / "model.safetensors")
    refused(folder, "embeddings.word_embeddings.weight", "other")


def sharded(folder, names=("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    keys = sorted(weights)
    parts = keys[::2], keys[1::2]
    index = {key: name for name, part in zip(names, parts) for key in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    for name, part in zip(names, parts):
        if "/" not in name:
            save_file({key: weights[key] for key in part}, folder / name)


def test_shards_are_read(golden, copy_of):
    folder = copy_of("bert")
    sharded(folder)
    backbone, _ = load_folder(str(folder) + "/")
    for one, other in zip(backbone.weights, golden("bert").loaded[0].weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_an_index_that_leads_out_of_the_folder(copy_of):
    folder = copy_of("bert")
    sharded(folder, ("../../secret.safetensors", "b.safetensors"))
    refused(folder, "leads out of the folder")


def test_a_shard_that_is_missing(copy_of):
    folder = copy_of("bert")
    sharded(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(folder, "model-00002-of-00002.safetensors")


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_read(golden, copy_of, kind):
    import ml_dtypes

    dtype = ml_dtypes.bfloat16 if kind == "bfloat16" else np.float16
    folder = copy_of("bert")
    weights = load_file(folder / "model.safetensors")
    save_file({k: v.astype(dtype) for k, v in weights.items()}, folder / "model.safetensors")
    backbone, _ = load_folder(str(folder))
    found = np.asarray(backbone.get_layer("pooled_dense").kernel)
    exact = np.asarray(golden("bert").loaded[0].get_layer("pooled_dense").kernel)
    np.testing.assert_array_equal(found, exact.astype(dtype).astype("float32"))


def test_old_names_of_norms_and_bare_backbones_are_read(golden, copy_of):
    folder = copy_of("bert")
    weights = load_file(folder / "model.safetensors")
    old = {k.removeprefix("bert."): v for k, v in weights.items() if k.startswith("bert.")}
    for name in [k for k in old if "LayerNorm" in k]:
        new = name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta")
        old[new] = old.pop(name)
    save_file(old, folder / "model.safetensors")
    change(folder, architectures=["BertModel"])
    backbone, _ = load_folder(str(folder))
    for one, other in zip(backbone.weights, golden("bert").loaded[0].weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_a_backbone_without_a_pooler_keeps_its_initial_one(golden, copy_of):
    folder = copy_of("bert")
    weights = load_file(folder / "model.safetensors")
    weights = {k: v for k, v in weights.items() if "pooler" not in k}
    save_file(weights, folder / "model.safetensors")
    kernel = np.asarray(load_folder(str(folder))[0].get_layer("pooled_dense").kernel)
    assert kernel.any()
    assert not np.array_equal(kernel, golden("bert").loaded[0].get_layer("pooled_dense").kernel)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"id2label": {"0": "a", "1": "b"}}, ["id2label", "0 to 2"]),
        ({"id2label": {"0": "a", "1": "b", "2": "a"}}, ["id2label", "twice"]),
        ({"id2label": ["a", "b", "c"]}, ["id2label"]),
        ({"problem_type": "ranking"}, ["problem_type", "regression"]),
    ],
)
def test_a_head_that_makes_no_sense(copy_of, keys, words):
    folder = copy_of("bert")
    change(folder, **keys)
    refused(folder, *words, call=read_head)


def test_a_head_that_config_promises_and_the_weights_lack(copy_of):
    folder = copy_of("bert")
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, folder / "model.safetensors")
    refused(folder, "classifier.weight", call=read_head)


def test_a_deberta_head_with_another_activation(copy_of):
    folder = copy_of("deberta-v2")
    change(folder, pooler_hidden_act="tanh")
    refused(folder, "pooler_hidden_act", call=read_head)


@pytest.mark.parametrize("name", ["FNetBackbone", "OPTBackbone"])
def test_families_that_transformers_computes_otherwise(golden, tmp_path, name):
    import keras_hub

    sizes = {"vocabulary_size": 9, "num_layers": 1, "hidden_dim": 4, "intermediate_dim": 4}
    if name == "OPTBackbone":
        sizes["num_heads"] = 2
    backbone = getattr(keras_hub.models, name)(**sizes)
    with pytest.raises(InputError, match=name):
        write_folder(str(tmp_path), backbone, golden("bert").loaded[1], golden("bert").head, 40)
    assert list(tmp_path.iterdir()) == []


def test_a_head_of_another_family_is_not_written(golden, tmp_path):
    roberta, bert = golden("roberta"), golden("bert")
    with pytest.raises(InputError, match="dense layer"):
        write_folder(str(tmp_path), *roberta.loaded, bert.head, 40)
    head = Head(**{**vars(golden("gpt2").head), "logits_bias": np.ones(3, "float32")})
    with pytest.raises(InputError, match="no bias"):
        write_folder(str(tmp_path), *golden("gpt2").loaded, head, 40)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "expected", "turned"),
    [
        (
            "roberta/tf_roberta_for_sequence_classification/roberta/embeddings/"
            "word_embeddings/weight:0",
            "roberta.embeddings.word_embeddings.weight",
            False,
        ),
        (
            "classifier/tf_roberta_for_sequence_classification/classifier/out_proj/kernel:0",
            "classifier.out_proj.weight",
            True,
        ),
        (
            "transformer/tfgpt2_for_sequence_classification/transformer/h_._11/attn/c_attn/weight:0",
            "transformer.h.11.attn.c_attn.weight",
            False,
        ),
        (
            "albert/tf_albert_model/albert/encoder/albert_layer_groups_._0/albert_layers_._0/"
            "full_layer_layer_norm/gamma:0",
            "albert.encoder.albert_layer_groups.0.albert_layers.0.full_layer_layer_norm.weight",
            False,
        ),
    ],
)
def test_names_of_tensorflow_checkpoints(name, expected, turned):
    assert torch_name(name) == (expected, turned)


def test_an_h5_file_that_leads_to_another_file(copy_of, tmp_path):
    import h5py

    folder = copy_of("bert_h5")
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(64))
    with h5py.File(folder / "tf_model.h5", "a") as file:
        file.create_dataset("a/b/c", (16,), "float32", external=[(str(secret), 0, 64)])
    with pytest.raises(InputError, match="another file"):
        open_store(str(folder))


def test_golden_folders_are_not_changed_by_reading():
    assert not list(GOLDEN.rglob("*.tmp"))
