"""Real decoders in a traced loop: KerasHub's tokens, the ops, and a SavedModel."""

import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from toys import rows_of, some_slow

from kerasft.backbones import FAMILIES
from kerasft.export.gate import check_saved_model
from kerasft.generation import beam_search, detokenizer, generate, step_model
from kerasft.testing import tiny

DECODERS = [family.name for family in FAMILIES if family.kind == "decoder"]
NEW = 4
BAD = ("Xla", "PyFunc", "EagerPyFunc")


def served(backbone, tokenizer):
    """A module whose one signature generates, each row with its own parameters."""
    cached, module = step_model(backbone), tf.Module()
    module.weights, module.tokenizer = [v.value for v in backbone.variables], tokenizer
    detokenize = detokenizer(tokenizer)
    wide, count = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)
    share = tf.TensorSpec([None], tf.float32)

    @tf.function(input_signature=[wide, wide, count, share, count, share, count])
    def call(token_ids, padding_mask, max_new_tokens, temperature, top_k, top_p, seed):
        return generate(
            cached,
            token_ids,
            padding_mask,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            detokenize=detokenize,
            stop=["qqq"],
        )

    module.call = call
    return module


def asked(x, heat=0.0, most=NEW):
    rows = len(x["token_ids"])
    row = [np.full(rows, v, d) for v, d in ((most, "int32"), (heat, "float32"), (30, "int32"))]
    more = [np.full(rows, 0.9, np.float32), np.arange(rows, dtype=np.int32)]
    return [tf.constant(v) for v in (x["token_ids"], x["padding_mask"], *row, *more)]


def kerashub(backbone, x):
    """What KerasHub's own greedy search writes behind each prompt."""
    name = type(backbone).__name__.replace("Backbone", "CausalLM")
    model = getattr(keras_hub.models, name)(backbone, preprocessor=None)
    model.compile(sampler="greedy", run_eagerly=True)
    room = {n: np.pad(v, [(0, 0), (0, NEW)]) for n, v in x.items()}
    rows = model.generate(room, stop_token_ids=None)["token_ids"]
    lengths = x["padding_mask"].sum(axis=1)
    return [row[n : n + NEW].tolist() for row, n in zip(rows, lengths, strict=True)]


@pytest.mark.contract("decode loop", of=len(DECODERS))
@pytest.mark.parametrize("name", some_slow(DECODERS))
def test_a_decoder(name, tmp_path):
    backbone, tokenizer = tiny.backbone(name), tiny.tokenizer(name)
    x = tiny.features(backbone, length=6)
    module = served(backbone, tokenizer)
    found = module.call(*asked(x))
    assert rows_of(found) == kerashub(backbone, x)

    drawn = module.call(*asked(x, heat=1.0))
    assert rows_of(drawn) != rows_of(found)
    for i in range(len(x["token_ids"])):
        length = int(x["padding_mask"][i].sum())
        alone = [v[i : i + 1] for v in asked(x, heat=1.0)]
        alone = module.call(alone[0][:, :length], alone[1][:, :length], *alone[2:])
        assert rows_of(alone) == [rows_of(drawn)[i]]
        assert alone["text"][0] == drawn["text"][i]

    ops = ops_of(module.call.get_concrete_function().graph)
    assert any(op.endswith("While") for op in ops)
    assert not any(op.startswith(BAD) for op in ops)
    tf.saved_model.save(module, str(tmp_path), signatures={"generate": module.call})
    check_saved_model(str(tmp_path), 4 * backbone.count_params())
    loaded = tf.saved_model.load(str(tmp_path))
    again = loaded.call(*asked(x, heat=1.0))
    for key, value in drawn.items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)


def ops_of(graph):
    definition = graph.as_graph_def()
    functions = definition.library.function
    return {n.op for n in (*definition.node, *(n for f in functions for n in f.node_def))}


def test_kerashubs_own_step_is_not_plain():
    """What the check of ops is there for: the op that KerasHub's step holds."""
    backbone = tiny.backbone("gpt2")
    model = keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)
    cache = step_model(backbone).empty(1, 4)
    step = tf.function(model.call_with_cache, autograph=False)
    graph = step.get_concrete_function(
        tf.constant([[5]]), tf.stack(cache, axis=1), tf.constant(0)
    ).graph
    assert any(op.startswith(BAD) for op in ops_of(graph))


def test_beams_in_the_graph():
    backbone = tiny.backbone("llama")
    x, cached = tiny.features(backbone, length=6), step_model(backbone)
    wide = tf.TensorSpec([None, None], tf.int32)

    @tf.function(input_signature=[wide, wide])
    def call(token_ids, padding_mask):
        return beam_search(
            cached, token_ids, padding_mask, max_new_tokens=NEW, beams=3, end_ids=(12,)
        )

    found = call(x["token_ids"], x["padding_mask"])
    for i in range(3):
        length = int(x["padding_mask"][i].sum())
        alone = call(x["token_ids"][i : i + 1, :length], x["padding_mask"][i : i + 1, :length])
        assert rows_of(alone) == [rows_of(found)[i]]
        np.testing.assert_allclose(alone["scores"][0], found["scores"][i], rtol=1e-4)
    assert not any(op.startswith(BAD) for op in ops_of(call.get_concrete_function().graph))
