"""Text to text on encoder-decoders: ids, what is learned, texts, methods, wrong input."""

import functools

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

import kerasft
from kerasft import InputError
from kerasft.backbones import FAMILIES, load, sites
from kerasft.backbones.describe import decoder_start
from kerasft.data import encode_rows, encoder, feed_of
from kerasft.methods import Freeze, LoRA, adapt
from kerasft.tasks import CausalLM, MaskedLM, RelationExtraction, TextClassification, TextToText
from kerasft.testing import _rig, tiny
from kerasft.training.fitted import Fitted
from kerasft.training.recipe import Recipe
from kerasft.training.train import train

NAMES = [family.name for family in FAMILIES if family.kind == "encoder-decoder"]
ONE = [pytest.param(n, marks=pytest.mark.slow if n == "t5" else ()) for n in NAMES]
TASK = TextToText(max_length=24, max_new_tokens=5)
ROWS = {
    "text": ["the film was good", "you", "a free prize, call now!"],
    "target": ["good", "call you now", "bad"],
}
STARTS = {"bart": ("</s>", "<s>"), "t5": ("<pad>",)}

tokenizer_of = functools.cache(tiny.tokenizer)


@functools.cache
def features_of(name, task=TASK):
    return encoder(task, tokenizer_of(name), task.reads)(ROWS)


def keras_hubs(name, backbone=None, length=24):
    """KerasHub's own preprocessor, and its model if there is a backbone."""
    kind = tiny.family(name).backbone.removesuffix("Backbone") + "Seq2SeqLM"
    made = getattr(keras_hub.models, f"{kind}Preprocessor")(
        tiny.tokenizer(name), encoder_sequence_length=length, decoder_sequence_length=length
    )
    return made if backbone is None else getattr(keras_hub.models, kind)(backbone, made)


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_those_of_keras_hub(name):
    """Source, what the decoder reads, and what it learns; but that its start is not learned."""
    rows = {"encoder_text": ROWS["text"], "decoder_text": ROWS["target"]}
    x, y, weights = keras_hubs(name)(rows)
    x, y, weights = {n: np.asarray(v) for n, v in x.items()}, np.asarray(y), np.asarray(weights)
    found, tokenizer = features_of(name), tokenizer_of(name)
    starts = tuple(tokenizer.token_to_id(token) for token in STARTS[name])
    assert decoder_start(tokenizer) == starts
    for row in range(3):
        size = int(found["padding_mask"][row].sum())
        theirs = x["encoder_token_ids"][row][x["encoder_padding_mask"][row].astype(bool)]
        assert found["token_ids"][row][:size].tolist() == theirs.tolist()
        size = int(found["decoder_padding_mask"][row].sum())
        read, learned = (found[n][row] for n in ("decoder_token_ids", "targets"))
        assert read[:size].tolist() == x["decoder_token_ids"][row][:size].tolist()
        kept = len(starts) - 1
        assert learned[:kept].tolist() == [-1] * kept
        assert learned[kept:size].tolist() == y[row][kept:size].tolist()
        assert learned[size - 1] == tokenizer.end_token_id and (learned[size:] == -1).all()
        assert size == weights[row].sum()


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_reads_what_training_reads(name):
    task = TextToText(instruction="the {target}: {text} !", target_language="zh", max_length=24)
    asked = encoder(task, tokenizer_of(name))({"text": ROWS["text"]})
    learned = features_of(name, task)
    for part in ("token_ids", "padding_mask"):
        np.testing.assert_array_equal(asked[part], learned[part])
    starts = list(decoder_start(tokenizer_of(name)))
    assert asked["decoder_token_ids"].tolist() == [starts] * 3
    assert asked["decoder_padding_mask"].tolist() == [[1] * len(starts)] * 3
    plain = tokenizer_of(name)(["the Chinese: you !"])
    size = len(list(plain[0]))
    assert list(plain[0]) == [i for i in asked["token_ids"][1] if i in plain[0]][:size]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_too_long_loses_its_end(name):
    """A source keeps its special ids; a target that is cut does not end, or is an error."""
    rows = {"text": ["you " * 40], "target": ["the film " * 20]}
    tokenizer = tokenizer_of(name)
    encode = encoder(TASK, tokenizer, TASK.reads)
    with pytest.raises(InputError, match="has to fit into data.max_length=24 tokens"):
        TASK.targets(rows, encode(rows))
    found = encode(rows)
    assert found["token_ids"].shape == found["decoder_token_ids"].shape == (1, 24)
    assert found["token_ids"][0, -1] == tokenizer.end_token_id
    assert found["targets"][0, -1] not in (-1, tokenizer.end_token_id)
    cut = TextToText(max_length=24, overlong="cut")
    np.testing.assert_array_equal(cut.targets(rows, found), found["targets"])
    starts = len(decoder_start(tokenizer))
    whole = len(list(tokenizer(rows["target"])[0])) + 1
    assert found["lost"].tolist() == [whole - (24 - starts + 1)]


@pytest.mark.parametrize("name", NAMES)
def test_neither_side_is_padded_to_the_other(name):
    features = features_of(name)
    rows = encode_rows([ROWS], lambda _: features, TASK, pad=1)
    feed = feed_of(TASK, rows, ("token_ids", "padding_mask", *_decoder()), 1, shuffle=False)
    for row, (x, y, weights) in enumerate(feed.batches()):
        for before in ("", "decoder_"):
            size = int(features[f"{before}padding_mask"][row].sum())
            assert x[f"{before}token_ids"].shape == (1, size)
            assert x[f"{before}padding_mask"].all()
        assert y.shape == (1, size) and weights == (y >= 0).sum()
    widths = {name: spec.shape for name, spec in feed.once().element_spec[0].items()}
    assert set(widths.values()) == {tf.TensorShape([None, None])}


def _decoder():
    return "decoder_token_ids", "decoder_padding_mask"


@pytest.mark.parametrize("name", NAMES)
def test_only_the_target_is_learned(name):
    """The loss is the mean over all target tokens, by KerasHub's logits; a batch as its rows."""
    pipe = _rig.pipeline(name, "full", TASK)
    feed = _feed(pipe)
    x, y, weights = next(feed.batches())
    given = {n if n.startswith("decoder_") else f"encoder_{n}": v for n, v in x.items()}
    logits = keras_hubs(name, pipe.backbone)(given).numpy().astype(np.float64)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    at = np.maximum(y, 0)[:, :, None]
    expected = -np.take_along_axis(logits, at, 2)[:, :, 0][y >= 0].mean()
    fitted = Fitted(pipe.model, TASK.loss())
    x = {n: tf.constant(v) for n, v in x.items()}
    found = fitted.compute_loss(x, tf.constant(y), fitted(x), tf.constant(weights), training=False)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def _feed(pipe, size=3):
    encode = encoder(TASK, pipe.tokenizer, TASK.reads)
    rows = encode_rows([ROWS], encode, TASK, keep=pipe.inputs, pad=1)
    return feed_of(TASK, rows, pipe.inputs, size, shuffle=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_no_rows(name):
    """A replica is given one where the last batch has fewer rows than there are replicas."""
    model = TASK.build(tiny.backbone(name))
    x = {n: tf.constant(features_of(name)[n][:0]) for n in ("token_ids", "padding_mask")}
    x |= {n: tf.constant(features_of(name)[n][:0]) for n in _decoder()}
    assert model(x).shape == (0, x["decoder_token_ids"].shape[1], model.output_shape[-1])


@pytest.mark.parametrize("name", ONE)
def test_texts_are_those_of_keras_hub(name):
    """From strings to tokens, one by one, up to the end token."""
    backbone = tiny.backbone(name)
    pipe = _rig.assemble(adapt(backbone), name, TASK)
    model, starts = keras_hubs(name, backbone), len(STARTS[name])
    model.compile(sampler="greedy", run_eagerly=True)
    texts = ["the film was", "you", "bad", "a good story now"]
    asked = model.preprocessor.generate_preprocess(texts, sequence_length=5 + starts)
    model.preprocessor, end = None, pipe.tokenizer.end_token_id
    found = model.generate(asked, stop_token_ids=(end,))["decoder_token_ids"][:, starts:]
    expected = [row[: row.index(end)] if end in row else row for row in found.tolist()]
    assert [a["tokens"] for a in pipe.predict(texts)] == expected
    assert len({tuple(row) for row in expected}) > 2


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_exported_model_writes_the_same(tmp_path, name):
    """`export` compares odd strings itself, and reads the file for ops that a server lacks."""
    pipe = _rig.pipeline(name, LoRA(rank=2), TASK)
    served = tf.saved_model.load(pipe.export(tmp_path / name)).signatures
    texts = tf.constant(ROWS["text"])
    said = [a["completion"].encode() for a in pipe.predict(ROWS["text"])]
    assert served["serving_default"](text=texts)["completion"].numpy().tolist() == said
    row = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "seed": 0, "max_new_tokens": 5}
    asked = {n: tf.constant([v] * 3) for n, v in row.items()}
    assert served["generate"](text=texts, **asked)["completion"].numpy().tolist() == said
    inputs = served["token_ids"].structured_input_signature[1]
    kinds = {n: spec.dtype.name for n, spec in inputs.items()}
    assert kinds == {
        "token_ids": "int32",
        "padding_mask": "bool",
        "decoder_token_ids": "int32",
        "decoder_padding_mask": "bool",
    }


@pytest.mark.slow
def test_a_run_from_a_keras_hub_folder(tmp_path):
    """Trained, scored, stored; its folder is a pipeline, and a preset for the next run."""
    preset, data = tmp_path / "preset", tmp_path / "rows.csv"
    tiny.backbone("bart").save_to_preset(str(preset))
    tiny.tokenizer("bart").save_to_preset(str(preset))
    lines = [f"{text},{text.split()[-1]}" for text in ("the film", "a prize", "you call", "a bad")]
    data.write_text("\n".join(["text,target", *lines]) + "\n", encoding="utf-8")
    recipe = Recipe(
        preset=str(preset),
        task={"name": "text-to-text", "max_new_tokens": 6},
        data={"train": str(data), "validation": 0, "max_length": 16},
        training={"epochs": 40, "batch_size": 4, "learning_rate": 1e-2, "warmup": 0.0},
    )
    pipe = train(recipe, out=str(tmp_path / "run"), verbose=0)
    answers = pipe.predict(["the film", "you call"])
    assert [a["completion"].strip() for a in answers] == ["film", "call"]
    assert pipe.report.after["chrf"] == pytest.approx(100)
    again = kerasft.load(tmp_path / "run")
    assert again.predict(["the film", "you call"]) == answers
    backbone, _ = load(str(tmp_path / "run"))
    for one, other in zip(backbone.get_weights(), pipe.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# --- methods --------------------------------------------------------------------------------------

CROSSED = ("cross_query", "cross_key", "cross_value", "cross_output")


@pytest.mark.parametrize("name", ONE)
def test_a_stored_adapter_comes_back(tmp_path, name):
    """LoRA: fresh it changes nothing; trained, stored, merged, the logits are the same."""
    method = LoRA(rank=2, targets=("query", "value", *CROSSED))
    plain, pipe = _rig.pipeline(name, "full", TASK), _rig.pipeline(name, method, TASK)
    batch = next(_feed(pipe).batches())
    before = pipe.model(batch[0]).numpy()
    np.testing.assert_array_equal(before, plain.model(batch[0]).numpy())
    paths = [v.path for v in pipe.model.trainable_variables]
    assert len(paths) == 2 * (4 * 2 + 2 * len(CROSSED)) and all("_lora/" in p for p in paths)
    losses = _rig.stepped(pipe, 4, batch=batch)
    assert losses[-1] < losses[0]
    moved = pipe.model(batch[0]).numpy()
    assert np.abs(moved - before).max() > 1e-3
    again = kerasft.load(pipe.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.model(batch[0]).numpy(), moved)
    np.testing.assert_allclose(pipe.merged().model(batch[0]).numpy(), moved, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_top_block_is_the_decoders(name):
    backbone = Freeze(train_top_blocks=1).apply(tiny.backbone(name))
    blocks = sites(backbone).blocks
    assert [b.layer.name.split("_")[1] for b in blocks] == ["encoder"] * 2 + ["decoder"] * 2
    last = {v.path for v in blocks[-1].layer.trainable_variables}
    trained = {v.path for v in backbone.trainable_variables}
    above = {"t5": {"decoder_output_layer_norm/weight"}}.get(name, set())
    assert trained == last | above and len(last) == len(blocks[-1].layer.weights)


def test_roles_of_a_decoder_that_looks_at_a_source():
    blocks = sites(tiny.backbone("bart")).blocks
    assert not set(CROSSED) & set(blocks[0].projections)
    assert set(CROSSED) <= set(blocks[2].projections)
    paths = [s.path for s in sites(tiny.backbone("bart")).targets(("cross_query",))]
    assert paths == ["blocks.2.cross_query", "blocks.3.cross_query"]
    ungated = tiny.backbone("t5", use_gated_activation=False)
    assert "gate" not in sites(ungated).blocks[0].projections
    with pytest.raises(InputError, match="must be one of: query, .*, cross_output, up, down"):
        list(sites(ungated).targets(("gate",)))


def test_paths_of_weights_do_not_depend_on_what_was_made_before():
    first, second = (tiny.backbone("t5") for _ in range(2))
    assert [w.path for w in first.weights] == [w.path for w in second.weights]


@pytest.mark.parametrize("gated", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_flan_t5_keeps_its_activation(tmp_path, gated):
    """KerasHub describes it as code, which is never loaded; a pipeline says its name."""
    activation = functools.partial(keras.activations.gelu, approximate=True)
    activation.__name__ = "gelu_approximate"
    options = {"activation": activation, "use_gated_activation": gated}
    pipe = _rig.pipeline("t5", "full", TASK, **options)
    other = _rig.pipeline("t5", "full", TASK, use_gated_activation=gated)
    batch = next(_feed(pipe).batches())
    said = pipe.model(batch[0]).numpy()
    assert np.abs(other.model(batch[0]).numpy() - said).max() > 1e-3
    again = kerasft.load(pipe.save(tmp_path / "model"))
    np.testing.assert_allclose(again.model(batch[0]).numpy(), said, atol=1e-6)


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (TextClassification(labels=("a", "b")), "Received: BartBackbone, an encoder-decoder"),
        (
            RelationExtraction(labels=("a", "b"), pooling="markers"),
            "Received: BartBackbone, an encoder-decoder",
        ),
        (CausalLM(), "an encoder-decoder: its task is text-to-text"),
        (MaskedLM(), r"a model of another kind \(encoder-decoder\)"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_other_tasks_are_refused(task, message):
    with pytest.raises(InputError, match=message):
        task.build(tiny.backbone("bart"))


def test_packing_and_turns_are_refused():
    packed = TextToText(packing=True)
    with pytest.raises(InputError, match="BartBackbone cannot: its two sequences"):
        packed.trained(packed.build(tiny.backbone("bart")))
    with pytest.raises(InputError, match="reads a text as it stands, without turns"):
        TextToText(template="chatml").written(tokenizer_of("bart"), ROWS)
