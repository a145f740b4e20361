"""Several documents in one row answer, and learn, as each alone."""

from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from packed_documents import (
    DOCUMENTS,
    ORDER,
    alone,
    close_gradients,
    factors,
    packed,
    pieces,
    sequence,
)

from kerasft._core.errors import InputError
from kerasft.backbones import FAMILIES, _surgery_packing, packing, run_packed
from kerasft.backbones._surgery import LAYOUTS
from kerasft.methods import LoRA, adapt
from kerasft.testing import tiny
from kerasft.testing._compare import close, difference, same

PACKABLE = tuple(family.name for family in FAMILIES if family.packable)
# Options of a family that change how it attends, in blocks that differ where there are two; windows
# are narrower than the documents.
VARIANTS = {
    "mistral window": ("mistral", {"sliding_window": 2}),
    "qwen window": ("qwen", {"use_sliding_window_attention": True, "sliding_window_size": 2}),
    "qwen3 window": ("qwen3", {"sliding_window_size": 2}),
    "gemma2": (
        "gemma",
        {
            "query_head_dim_normalize": False,
            "use_post_ffw_norm": True,
            "use_post_attention_norm": True,
            "attention_logit_soft_cap": 2.0,
            "use_sliding_window_attention": True,
            "sliding_window_size": 2,
        },
    ),
    "llama3 stretched": (
        "llama3",
        {
            "rope_frequency_adjustment_factor": 8.0,
            "rope_low_freq_factor": 1.0,
            "rope_high_freq_factor": 4.0,
            "rope_pretraining_sequence_length": 16,
        },
    ),
    "albert groups": ("albert", {"num_groups": 2, "num_inner_repetitions": 2}),
}


def slow(*cases):
    return [pytest.param(case, marks=pytest.mark.slow) for case in cases]


CASES = (
    *PACKABLE,
    "mistral window",
    "gemma2",
    *slow("qwen window", "qwen3 window", "llama3 stretched", "albert groups"),
)
# One family for each kind of block.
KINDS = ("gpt2", *slow("bert", "albert", "deberta_v3", "llama", "mistral", "qwen3", "gemma2"))
LEARNED = ("bert", "roberta", "distil_bert", "albert", "electra", "gpt2", "opt")


def make(case, **options):
    """A backbone with one block, or two where they differ."""
    name, extra = VARIANTS.get(case, (case, {}))
    layers = 2 if case in ("gemma2", "albert groups") else 1
    return tiny.backbone(name, **({"num_layers": layers} | extra | options))


# One backbone for all tests that leave it as it is, and what it gives.
made = cache(make)


# Rows 0 and 1, and the same documents in another order in rows 2 and 3.
TWICE = (*ORDER, (2, 1), (0,))


@cache
def packed_of(case):
    """Document -> its outputs in packed rows, in either order."""
    out = sequence(run_packed(made(case), packed(order=TWICE)))
    return pieces(out[:2]), pieces(out[2:], TWICE[2:])


def with_lora(case):
    """A backbone with updates that are not zero."""
    backbone = LoRA(rank=2, alpha=2, targets=("query", "value", "down")).apply(make(case))
    tiny.randomize(backbone, seed=5)
    return backbone


def check_outputs(got, want):
    """The outputs of each document are what the backbone itself gives for it alone."""
    for number, output in want.items():
        close(got[number], output, 1e-5, f"document {number}")


def check(backbone):
    """Outputs as alone; and a loss over all real tokens has the gradients of each alone, summed."""
    weights = list(backbone.trainable_variables)
    with tf.GradientTape() as tape:
        got = pieces(sequence(run_packed(backbone, packed()), tensor=True))
        loss = sum(tf.reduce_sum(output * factors(n)) for n, output in got.items())
    together = tape.gradient(loss, weights)
    with tf.GradientTape() as tape:
        want = {n: alone(backbone, one, tensor=True) for n, one in enumerate(DOCUMENTS)}
        loss = sum(tf.reduce_sum(output * factors(n)) for n, output in want.items())
    check_outputs(got, want)
    close_gradients(weights, together, tape.gradient(loss, weights))
    return {n: np.asarray(output) for n, output in want.items()}


@cache
def checked(case):
    """Check the backbone that the tests share, once; document -> its outputs alone."""
    return check(made(case))


@pytest.mark.contract("packing", of=len(PACKABLE))
@pytest.mark.parametrize("case", PACKABLE)
def test_packed_is_as_alone(case):
    checked(case)


@pytest.mark.parametrize("case", [c for c in CASES if c not in PACKABLE])
def test_variants_are_as_alone(case):
    checked(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", PACKABLE)
def test_deeper_backbones_are_as_alone(case):
    check(make(case, num_layers=3))


@pytest.mark.parametrize("case", CASES)
def test_neighbours_do_not_see_each_other(case):
    """Another document beside them moves no bit of the others; nor does the order matter."""
    before, turned = packed_of(case)
    other = packed({1: np.array([9, 30, 31])}, TWICE)
    after = pieces(sequence(run_packed(made(case), other))[:2])
    same(after[0], before[0], "the document in the same row")
    same(after[2], before[2], "the document in the other row")
    assert difference(after[1], before[1]) > 1e-3, "the changed one itself moves"
    check_outputs(turned, before)


@pytest.mark.parametrize("case", KINDS)
def test_with_lora(case):
    backbone = with_lora(case)
    assert {w.path.rsplit("/", 1)[-1] for w in backbone.trainable_weights} == {"lora_a", "lora_b"}
    moved = difference(alone(backbone, DOCUMENTS[0]), checked(case)[0])
    assert moved > 1e-3, "the updates count"
    check(backbone)


@pytest.mark.parametrize("case", KINDS)
def test_in_a_graph_and_in_mixed_precision(case):
    """With free sizes; the numbers are finite, on padding and in the gradients too."""
    backbone = make(case, dtype="mixed_bfloat16")
    weights = backbone.trainable_variables

    @tf.function(input_signature=[{n: tf.TensorSpec([None, None], tf.int32) for n in packed()}])
    def step(x):
        with tf.GradientTape() as tape:
            out = sequence(run_packed(backbone, x), tensor=True)
            loss = tf.reduce_sum(tf.cast(out, tf.float32) ** 2)
        return out, [g for g in tape.gradient(loss, weights) if g is not None]

    for x in (packed(), {name: value[:1, :8] for name, value in packed().items()}):
        out, gradients = step(x)
        assert out.dtype == tf.bfloat16
        assert np.isfinite(sequence(out)).all()
        assert all(np.isfinite(np.asarray(tf.convert_to_tensor(g))).all() for g in gradients)
        for number, piece in pieces(sequence(out), ((0, 1),)).items():
            exact = packed_of(case)[0][number]
            assert difference(piece, exact) < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize("case", ["bert", "gemma2"])
def test_in_a_graph_as_outside(case):
    backbone = made(case)
    graph = tf.function(lambda x: run_packed(backbone, x))
    check_outputs(pieces(sequence(graph(packed()))), packed_of(case)[0])


@pytest.mark.parametrize("case", ["bert", "gemma", *slow("deberta_v3", "gpt2", "llama")])
def test_dropout_follows_training(case):
    """With no layer around it that says so, also in blocks that take no such argument."""
    backbone = make(case, dropout=0.5)
    plain = sequence(run_packed(backbone, packed()))
    same(sequence(run_packed(backbone, packed(), training=False)), plain, "without training")
    first, second = (sequence(run_packed(backbone, packed(), training=True)) for _ in range(2))
    assert min(difference(first, plain), difference(first, second)) > 1e-2


@pytest.mark.parametrize("case", ["gpt2", *slow("bert", "roberta", "opt")])
def test_a_row_may_be_longer_than_the_longest_text(case):
    check(make(case, max_sequence_length=5))


# --- each mutation breaks packing in one place, and the checks see it ----------------------------


def no_document_mask(document_ids):
    real = tf.cast(document_ids > 0, tf.int32)
    return real[:, None, :] * tf.ones_like(real)[:, :, None]


def positions_that_run_on(document_ids):
    return tf.ones_like(document_ids) * tf.range(tf.shape(document_ids)[1])[None]


def true_positions(document_ids):
    """Positions that do not go through the mask that a mutation has changed."""
    numbers = np.asarray(document_ids)
    begins = [[row.tolist().index(n) for n in row] for row in numbers]
    return tf.constant((np.arange(numbers.shape[1]) - begins) * (numbers > 0), tf.int32)


@pytest.mark.parametrize("case", CASES)
def test_mutation_no_document_mask(case, monkeypatch):
    before, _ = packed_of(case)
    check_outputs(before, checked(case))
    monkeypatch.setattr(packing, "document_mask", no_document_mask)
    monkeypatch.setattr(packing, "document_positions", true_positions)
    other = packed({0: DOCUMENTS[0] + 1}, TWICE)
    after = pieces(sequence(run_packed(made(case), other))[:2])
    with pytest.raises(AssertionError, match="document 1 differs by"):
        check_outputs({1: after[1]}, {1: checked(case)[1]})
    with pytest.raises(AssertionError, match="the document in the same row differs"):
        same(after[1], before[1], "the document in the same row")


@pytest.mark.parametrize("case", LEARNED)
def test_mutation_positions_that_run_on(case, monkeypatch):
    check_outputs(packed_of(case)[0], checked(case))
    monkeypatch.setattr(packing, "document_positions", positions_that_run_on)
    after = pieces(sequence(run_packed(made(case), packed())))
    check_outputs({0: after[0]}, {0: checked(case)[0]})
    with pytest.raises(AssertionError, match="document 1 differs by"):
        check_outputs(after, checked(case))


@pytest.mark.parametrize("name", ["document_mask", "document_positions"])
def test_mutations_show_in_the_gradients(name, monkeypatch):
    changed = {"document_mask": no_document_mask, "document_positions": positions_that_run_on}
    monkeypatch.setattr(packing, name, changed[name])
    monkeypatch.setattr("test_packing.check_outputs", lambda got, want: None)
    with pytest.raises(AssertionError, match="gradient of .* differs by"):
        check(made("gpt2"))


# --- what is written down, and what is refused ---------------------------------------------------


def test_mask_and_positions():
    numbers = np.array([[1, 1, 2, 2, 2, 0, 0], [1, 2, 3, 0, 0, 0, 0]])
    positions = np.asarray(packing.document_positions(numbers))
    assert positions.tolist() == [[0, 1, 0, 1, 2, 0, 0], [0] * 7]
    np.testing.assert_array_equal(positions, true_positions(numbers))
    mask = np.asarray(packing.document_mask(numbers))
    np.testing.assert_array_equal(mask[0], np.equal.outer(numbers[0], numbers[0]))
    assert mask.sum(-1).min() == 1, "no token is left with nothing to see"


def test_every_block_of_the_table_has_its_mask():
    assert set(LAYOUTS) - set(_surgery_packing.MASKS) == {"FNetEncoder", "T5TransformerLayer"}


def test_gemma_is_left_as_it_was_for_plain_rows():
    """Its blocks take masks of both kinds afterwards."""
    backbone, x = make("gemma2"), tiny.features(made("gemma2"))
    before = sequence(backbone(x))
    for _ in range(2):
        run_packed(backbone, packed())
        same(sequence(backbone(x)), before, "a plain row after a packed one")


def test_a_recomputed_gemma_block_keeps_its_mask():
    """A block that is run again for its gradient gets the mask as an argument again."""
    backbone = make("gemma")
    for block in backbone.transformer_layers:
        block.call = tf.recompute_grad(block.call)
    check(backbone)


def test_pooled_vectors_are_left_out():
    assert set(run_packed(made("bert"), packed())) == {"sequence_output"}
    assert tf.is_tensor(run_packed(made("gpt2"), packed()))


def test_what_cannot_be_packed_is_refused():
    x = packed() | tiny.features(tiny.backbone("f_net"), rows=2)
    with pytest.raises(InputError, match="FNetBackbone cannot: a Fourier transform mixes all"):
        run_packed(tiny.backbone("f_net"), x)
    x = {name: value for name, value in packed().items() if name != "segment_ids"}
    with pytest.raises(InputError, match=r"Received: .* Add segment_ids\."):
        run_packed(made("bert"), x)
    with pytest.raises(InputError, match=r"Add document_ids\."):
        run_packed(made("gpt2"), tiny.features(made("gpt2")))


# --- as the layer that models are built of -------------------------------------------------------


def model_of(case, method):
    """A functional model with an input `document_ids`."""
    layer = adapt(make(case), method)
    names = [tensor.name for tensor in layer.backbone.inputs]
    inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in (*names, "document_ids")}
    outputs = layer(inputs)
    outputs = outputs["sequence_output"] if isinstance(outputs, dict) else outputs
    return keras.Model(inputs, outputs)


def inputs_of(model):
    return {tensor.name: packed()[tensor.name] for tensor in model.inputs}


@pytest.mark.parametrize("case", ["bert", *slow("gpt2", "gemma")])
def test_a_functional_model_with_document_ids(case, tmp_path):
    model = model_of(case, LoRA(rank=2))
    tiny.randomize(model, seed=5)
    layer = next(layer for layer in model.layers if layer.name == "backbone")
    before = np.asarray(model(inputs_of(model)))
    for number, piece in pieces(before).items():
        close(piece, alone(layer.backbone, DOCUMENTS[number]), 1e-5, f"document {number}")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert {tensor.name for tensor in again.inputs} == set(inputs_of(model))
    assert [w.path for w in again.trainable_weights] == [w.path for w in model.trainable_weights]
    same(np.asarray(again(inputs_of(model))), before, "the loaded model's output")


def test_fit_trains_on_packed_rows():
    model = model_of("gpt2", LoRA(rank=2))
    frozen = {w.path: np.asarray(w) for w in model.non_trainable_weights}
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x, y = inputs_of(model), np.zeros((2, 10, 16), np.float32)
    losses = model.fit(x, y, batch_size=2, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert len(frozen) > 15
    for weight in model.non_trainable_weights:
        same(np.asarray(weight), frozen[weight.path], f"frozen {weight.path}")
