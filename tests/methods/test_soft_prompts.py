"""Prompt tuning: virtual tokens are tokens, in front of every text, and nothing else changes."""

import numpy as np
import pytest
from keras import ops

from kerasft._core.errors import InputError
from kerasft.backbones import FAMILIES, run_packed, sites
from kerasft.backbones.prompts import virtual_tokens
from kerasft.backbones.vocabulary import token_table
from kerasft.generation import beam_search, generate, step_model
from kerasft.methods import Chain, PromptTuning, PTuning, adapt, adapter_weights, registry
from kerasft.tasks._models import language_model
from kerasft.testing import _rig, tiny
from kerasft.training import prepare

EVERY = [f.name for f in FAMILIES if f.kind != "encoder-decoder"]
OTHERS = sorted(set(EVERY) - {"bert", "roberta", "gpt2", "llama"})
IDS = (7, 5, 9)


def slow(*families):
    return [pytest.param(name, marks=pytest.mark.slow) for name in families]


def with_ids(**options):
    """Vectors that are the embeddings of IDS, so that the text has them in front as tokens."""
    return PromptTuning(len(IDS), start="text", start_ids=IDS, **options)


def in_front(x, ids=IDS):
    """A backbone's inputs with the ids as the first tokens of each text."""
    fill = {"token_ids": ids, "padding_mask": (1,) * len(ids), "segment_ids": (0,) * len(ids)}
    rows = len(x["token_ids"])
    return {n: np.concatenate([np.tile(fill[n], (rows, 1)), v], 1) for n, v in x.items()}


def answers(model, x):
    out = model(x, training=False)
    return {k: np.asarray(v) for k, v in (out if isinstance(out, dict) else {"": out}).items()}


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "llama", *slow(*OTHERS)])
def test_virtual_tokens_are_tokens(family):
    """With the embeddings of real ids as vectors, texts are answered as behind those ids."""
    plain, x = tiny.backbone(family), tiny.features(tiny.backbone(family))
    whole, other = answers(plain, in_front(x)), answers(plain, in_front(x, (7, 5, 8)))
    got = answers(adapt(tiny.backbone(family), with_ids()), x)
    real = x.get("padding_mask", np.ones_like(x["token_ids"])) == 1
    for name, value in got.items():
        if name == "pooled_output":
            first = whole["sequence_output"][:, len(IDS)]
            np.testing.assert_allclose(value, np.asarray(plain.pooled_dense(first)), atol=1e-5)
            assert np.abs(value - whole[name]).max() > 1e-3, "of [CLS], not of the first vector"
            continue
        expected, wrong = (found[name][:, len(IDS) :] for found in (whole, other))
        np.testing.assert_allclose(value[real], expected[real], atol=1e-5)
        assert np.abs(wrong - expected)[real].max() > 1e-3, "one other id is seen"


def test_ordinary_ids_are_embedded_as_before():
    backbone = tiny.backbone("llama")
    table, ids = backbone.token_embedding, np.array([[4, 0, 9]])
    before, hidden = np.asarray(table(ids)), np.ones((1, 2, 16), np.float32)
    logits = np.asarray(table(hidden, reverse=True))
    PromptTuning(2).apply(backbone)
    layer = backbone.token_embedding
    assert layer is not table and token_table(backbone) is table and virtual_tokens(backbone) == 2
    np.testing.assert_array_equal(layer(ids), before)
    np.testing.assert_array_equal(layer(hidden, reverse=True), logits)
    size = table.input_dim
    np.testing.assert_array_equal(
        layer(np.array([[size + 1, size]]))[0], layer.prompt.numpy()[::-1]
    )


def beams(*given, **options):
    return beam_search(*given, beams=2, **options)


@pytest.mark.parametrize("write", [generate, pytest.param(beams, marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", ["gpt2", "llama", *slow("opt", "gemma")])
def test_what_follows_virtual_tokens_follows_tokens(family, write):
    """Greedy and with beams, in a batch of unlike lengths."""
    plain, prompted = tiny.backbone(family), with_ids().apply(tiny.backbone(family))
    x = tiny.features(plain)
    long = in_front(x)
    got = write(step_model(prompted), x["token_ids"], x["padding_mask"], max_new_tokens=3)
    want = write(step_model(plain), long["token_ids"], long["padding_mask"], max_new_tokens=3)
    np.testing.assert_array_equal(got["token_ids"], want["token_ids"])
    np.testing.assert_allclose(got["scores"], want["scores"], rtol=1e-4, atol=1e-4)
    alone = write(step_model(plain), x["token_ids"], x["padding_mask"], max_new_tokens=3)
    assert np.abs(got["scores"] - alone["scores"]).max() > 1e-3, "the prompt matters"


@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("gpt2", PromptTuning(4, start="random")),
        ("llama", PTuning(4, hidden=3)),
        ("gpt2", PTuning(4, hidden=3, encoder="lstm")),
    ],
)
def test_cached_is_uncached(family, method):
    adapted = adapt(tiny.backbone(family), method)
    model, x = language_model(adapted, "lm"), tiny.features(adapted.backbone)
    ids = x["token_ids"][:1]
    got = generate(step_model(adapted.backbone), ids, np.ones_like(ids), max_new_tokens=4)
    for _ in range(4):
        logits = np.asarray(model({"token_ids": ids, "padding_mask": np.ones_like(ids)}))
        ids = np.concatenate([ids, logits[:, -1:].argmax(-1)], 1).astype(np.int32)
    np.testing.assert_array_equal(got["token_ids"], ids[:, -4:])


def test_starts():
    table = np.asarray(token_table(tiny.backbone("bert")).embeddings)

    def vectors(**options):
        return adapter_weights(PromptTuning(**options).apply(tiny.backbone("bert")))[
            "embedding.vectors"
        ]

    drawn = vectors(virtual_tokens=6)
    assert all((row == table).all(1).any() for row in drawn)
    assert len(np.unique(drawn, axis=0)) == 6
    np.testing.assert_array_equal(drawn, vectors(virtual_tokens=6))
    assert (drawn != vectors(virtual_tokens=6, seed=1)).any()
    np.testing.assert_array_equal(
        vectors(virtual_tokens=4, start="text", start_ids=(3, 8)), table[[3, 8, 3, 8]]
    )
    np.testing.assert_array_equal(
        vectors(virtual_tokens=1, start="text", start_ids=(3, 8)), table[[3]]
    )
    spread = vectors(virtual_tokens=50, start="random")
    assert abs(spread.std() / table.std() - 1) < 0.1 and not (spread[0] == table).all(1).any()


def test_the_gradient_of_a_vector_is_one_row():
    """A lookup's would be rows of each text, which plain Keras squares before it adds them."""
    import tensorflow as tf

    adapted = adapt(tiny.backbone("bert"), PromptTuning(3))
    with tf.GradientTape() as tape:
        loss = ops.sum(adapted(tiny.features(adapted.backbone))["sequence_output"] ** 2)
    (gradient,) = tape.gradient(loss, [v.value for v in adapted.trainable_variables])
    assert isinstance(gradient, tf.Tensor) and gradient.shape == (3, 16)


@pytest.mark.parametrize("method", [PromptTuning(8), PTuning(8, hidden=24)])
def test_training_lowers_the_loss(method):
    """The head stands still: what is learned, the prompt learned."""
    pipe = _rig.pipeline("bert", method)
    for variable in pipe.head_variables:
        variable.trainable = False
    losses = _rig.stepped(pipe, 8)
    assert (np.diff(losses) < 0).all() and losses[-1] < 0.96 * losses[0], losses


def test_the_encoder():
    """f(P) = relu(relu(P W_1 + b_1) W_2 + b_2) W_3 + b_3, and the same from the same seed."""
    first, again, other = (
        PTuning(4, hidden=5, seed=seed).apply(tiny.backbone("albert")) for seed in (3, 3, 4)
    )
    state = adapter_weights(first)
    assert {k: v.shape for k, v in state.items()} == {
        "embedding.vectors": (4, 12),
        "embedding.encoder_0.kernel": (12, 5),
        "embedding.encoder_0.bias": (5,),
        "embedding.encoder_1.kernel": (5, 5),
        "embedding.encoder_1.bias": (5,),
        "embedding.encoder_2.kernel": (5, 12),
        "embedding.encoder_2.bias": (12,),
    }
    for name, value in adapter_weights(again).items():
        np.testing.assert_array_equal(value, state[name])
    assert all((v != state[k]).any() for k, v in adapter_weights(other).items() if v.ndim > 1)
    layer, x = first.token_embedding, state["embedding.vectors"]
    for i in range(3):
        layer.encoder[i].bias.assign(np.linspace(-1, 1, layer.encoder[i].units))
        x = x @ state[f"embedding.encoder_{i}.kernel"] + np.asarray(layer.encoder[i].bias)
        x = np.maximum(x, 0) if i < 2 else x
    np.testing.assert_allclose(layer.vectors(), x, atol=1e-5)
    ids = np.arange(4)[None] + layer.vocabulary
    np.testing.assert_allclose(layer(ids)[0], x, atol=1e-5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, kernel, recurrent, bias):
    """What an LSTM gives at each step, [steps, units]."""
    h = c = np.zeros(recurrent.shape[0])
    found = []
    for row in x:
        i, f, g, o = np.split(row @ kernel + h @ recurrent + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        found.append(h)
    return np.stack(found)


def test_the_lstm():
    """f(P) = relu(r(P) W_1 + b_1) W_2 + b_2, r twice both ways; the same from the same seed."""
    first, again, other = (
        PTuning(4, hidden=5, seed=seed, encoder="lstm").apply(tiny.backbone("albert"))
        for seed in (3, 3, 4)
    )
    state = adapter_weights(first)
    for name, value in adapter_weights(again).items():
        np.testing.assert_array_equal(value, state[name])
    assert all((v != state[k]).any() for k, v in adapter_weights(other).items() if v.ndim > 1)
    cells = {
        (number, way): [
            state[f"embedding.lstm_{number}.{way}_lstm.lstm_cell.{w}"]
            for w in ("kernel", "recurrent_kernel", "bias")
        ]
        for number in (0, 1)
        for way in ("forward", "backward")
    }
    assert cells[0, "forward"][0].shape == (12, 20) and cells[1, "forward"][0].shape == (10, 20)
    assert (cells[0, "forward"][0] != cells[0, "backward"][0]).any(), "each is drawn"
    x = state["embedding.vectors"]
    for number in (0, 1):
        back = lstm(x[::-1], *cells[number, "backward"])[::-1]
        x = np.concatenate([lstm(x, *cells[number, "forward"]), back], 1)
    for number in (0, 1):
        x = x @ state[f"embedding.encoder_{number}.kernel"]
        x = np.maximum(x, 0) if number == 0 else x
    np.testing.assert_allclose(first.token_embedding.vectors(), x, atol=1e-5)
    ids = np.arange(4)[None] + first.token_embedding.vocabulary
    np.testing.assert_allclose(first.token_embedding(ids)[0], x, atol=1e-5)


@pytest.mark.parametrize("encoder", ["mlp", "lstm"])
def test_an_encoder_rests_where_no_virtual_token_is_read(encoder, monkeypatch):
    """It would run for every token that is written."""
    layer = PTuning(4, hidden=3, encoder=encoder).apply(tiny.backbone("gpt2")).token_embedding
    ids, ran = np.array([[3, layer.vocabulary + 1]]), []
    plain = type(layer).vectors
    monkeypatch.setattr(type(layer), "vectors", lambda *a: ran.append(1) or plain(*a))
    text = layer(ids[:, :1])
    assert not ran
    np.testing.assert_array_equal(layer(ids)[:, :1], text)
    assert ran


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"virtual_tokens": 0}, "`virtual_tokens` must be a whole number, at least 1"),
        ({"start": "texts"}, "`start` must be one of: vocabulary, random, text.*'text'"),
        ({"start": "text"}, "`start_ids` are the ids of a text"),
        ({"start_ids": (1,)}, "`start_ids` are the ids of a text"),
        ({"start": "text", "start_ids": (-1,)}, "`start_ids` are the ids of a text"),
        ({"start": "text", "start_ids": "free"}, "`start_ids` are the ids of a text"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        PromptTuning(**options)


def test_wrong_options_of_p_tuning():
    with pytest.raises(InputError, match="`hidden` must be a whole number"):
        PTuning(hidden=-1)
    with pytest.raises(InputError, match="`encoder` must be one of: mlp, lstm.*Received.*'lstn'"):
        PTuning(encoder="lstn")
    with pytest.raises(InputError, match="embedding carries a change of this kind already"):
        adapt(tiny.backbone("bert"), Chain((PTuning(2), PromptTuning(2))))


def test_a_recipe_whose_texts_do_not_fit_says_so():
    backbone = PromptTuning(20).apply(tiny.backbone("bert"))
    prepare._check_length(44, backbone)
    with pytest.raises(InputError, match="at most 44 tokens behind the 20 virtual .*max_length=45"):
        prepare._check_length(45, backbone)


def test_what_does_not_fit_is_refused():
    bert = tiny.backbone("bert")
    with pytest.raises(InputError, match="this BertBackbone has 64. Received: virtual_tokens=64"):
        PromptTuning(64).apply(bert)
    with pytest.raises(InputError, match="ids from 0 to .* Received: 4000"):
        PromptTuning(2, start="text", start_ids=(1, 4000)).apply(bert)
    with pytest.raises(InputError, match="an encoder-decoder. Use lora"):
        PromptTuning(2).apply(tiny.backbone("bart"))
    adapted = adapt(bert, PromptTuning(60))
    x = tiny.features(bert, length=4)
    assert adapted(x)["sequence_output"].shape == (3, 4, 16), "4 positions are left"
    with pytest.raises(InputError, match="64 positions, of which 60 .* texts of 5 tokens"):
        adapted(tiny.features(bert, length=5))


def test_packed_rows_are_refused():
    adapted = adapt(tiny.backbone("gpt2"), PromptTuning(2))
    with pytest.raises(InputError, match="cannot each have a soft prompt.*2 virtual tokens"):
        language_model(adapted, "lm", packed=True)
    x = tiny.features(adapted.backbone)
    with pytest.raises(InputError, match="cannot each have a soft prompt"):
        run_packed(adapted.backbone, x | {"document_ids": x["padding_mask"]})


def test_beside_low_rank_updates():
    method = Chain(("prompt-tuning", {"name": "lora", "rank": 2, "targets": ["query"]}))
    names = adapter_weights(adapt(tiny.backbone("bert"), method).backbone)
    assert set(names) == {"embedding.vectors"} | {
        f"blocks.{i}.query.lora_{m}" for i in (0, 1) for m in "ab"
    }
    assert registry.build(registry.config(method)) == method


def test_the_site_of_the_embedding():
    """A node of the graph, part of a layer, or both encoder's and decoder's."""
    for family in ("bert", "roberta", "opt", "bart"):
        backbone = tiny.backbone(family)
        site = sites(backbone).embedding
        assert site.path == "embedding" and site.layer is backbone.token_embedding
