"""Masked language models: heads of Transformers, tied embeddings, masks, words, windows."""

import dataclasses
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

from kerasft import InputError
from kerasft.backbones import load
from kerasft.data import Batch, batches
from kerasft.pipeline import Pipeline
from kerasft.tasks import MaskedLM, _masked
from kerasft.tasks.masked_lm import _SEED
from kerasft.testing import _rig, tiny
from kerasft.training.fitted import compiled

# KerasHub leaves closing the SentencePiece file it reads to Python.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*vocabulary.spm:ResourceWarning")

GOLDEN = Path(__file__).parents[1] / "golden"
HEADS = sorted(path.stem for path in (GOLDEN / "masked").glob("*.npz"))
QUICK = ("bert_tanh", "roberta")
FAMILIES = ("bert", "roberta", "albert")
# Words of several pieces, of one, a character that is a word, none.
TEXTS = [
    "zebra zebra film zebra quokka",
    "the film was good",
    "很好看",
    "",
    "zzz the zzz a bad qux",
]


@pytest.fixture(scope="module")
def pipe():
    return _rig.pipeline(tiny.family("bert"), "full", MaskedLM(max_length=16, share=0.4))


# The head


@pytest.fixture
def checkpoint(tmp_path):
    """A golden encoder's folder with a head: (folder, what Transformers answers)."""

    def made(name):
        shutil.copytree(GOLDEN / name, tmp_path / name)
        expected = dict(np.load(GOLDEN / "masked" / f"{name}.npz"))
        weights = load_file(tmp_path / name / "model.safetensors")
        weights |= {k.removeprefix("head/"): v for k, v in expected.items() if "head/" in k}
        save_file(weights, tmp_path / name / "model.safetensors")
        return tmp_path / name, expected

    return made


def started(folder):
    backbone, tokenizer = load(folder)
    task = MaskedLM(max_length=40)
    model = task.build(backbone)
    task.start_from(model, str(folder))
    return Pipeline(model, tokenizer, task)


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in HEADS]
)
def test_heads_of_checkpoints_are_those_of_transformers(name, checkpoint):
    folder, expected = checkpoint(name)
    pipe = started(folder)
    features = pipe.encode({"text": expected["texts"].tolist()})
    for row, ids in enumerate(features["token_ids"]):
        real = features["padding_mask"][row] == 1
        assert ids[real].tolist() == expected["ids"][row][expected["real"][row] == 1].tolist()
    found = pipe.outputs(features)[features["blank"] == 1]
    assert found.shape == expected["logits"].shape and len(found) >= 5
    np.testing.assert_allclose(found, expected["logits"], rtol=1e-4, atol=1e-4)


def test_a_checkpoint_whose_matrix_is_its_own_starts_with_a_new_head(checkpoint):
    folder, _ = checkpoint("bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    logits = started(folder).model.get_layer("logits")
    assert not np.any(logits.bias)


def test_a_checkpoint_without_a_head_starts_with_a_new_one():
    pipe = started(GOLDEN / "bert")
    assert not np.any(pipe.model.get_layer("logits").bias)
    assert np.ptp(pipe.outputs(pipe.encode({"text": TEXTS}))) > 0


def test_a_head_of_another_shape_is_refused(checkpoint):
    folder, _ = checkpoint("bert")
    weights = load_file(folder / "model.safetensors")
    weights["cls.predictions.bias"] = weights["cls.predictions.bias"][:-1]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(InputError, match="cls.predictions.bias.*must be of shape"):
        started(folder)


def batch_of(pipe, seed=0, texts=TEXTS):
    features = pipe.encode({"text": list(texts)})
    batch = Batch(features, pipe.task.targets({}, features))
    return pipe.task.drawn(pipe.tokenizer)(batch, np.random.default_rng(seed))


def test_embeddings_learn_on_both_ways():
    """One step of SGD against gradients made by hand, one for each use of the table."""
    pipe = _rig.pipeline(tiny.family("bert"), "full", MaskedLM(max_length=16, share=0.4))
    batch, layer = batch_of(pipe), pipe.model.get_layer("logits")
    x = {name: tf.constant(batch.features[name]) for name in pipe.inputs}
    y, below = tf.constant(batch.targets), keras.Model(pipe.model.inputs, layer.input)
    table = pipe.backbone.token_embedding.embeddings

    def gradient(stop_vectors, stop_table):
        with tf.GradientTape() as tape:
            vectors, whole = below(x)
            vectors = tf.stop_gradient(vectors) if stop_vectors else vectors
            whole = tf.stop_gradient(whole) if stop_table else whole
            log_p = tf.nn.log_softmax(tf.einsum("btd,vd->btv", vectors, whole) + layer.bias)
            chosen = tf.gather(log_p, tf.maximum(y, 0), batch_dims=2)
            learned = tf.cast(y >= 0, tf.float32)
            loss = -tf.reduce_sum(chosen * learned) / tf.reduce_sum(learned)
        found = tape.gradient(loss, table.value)
        return np.asarray(tf.convert_to_tensor(found))

    read, compared = gradient(False, True), gradient(True, False)
    assert np.abs(read).max() > 1e-3 and np.abs(compared).max() > 1e-3
    before = np.array(table)
    fitted = compiled(pipe.model, pipe.task, keras.optimizers.SGD(0.1))
    fitted.train_on_batch(x, y, sample_weight=batch.weights)
    np.testing.assert_allclose(
        np.array(table) - before, -0.1 * (read + compared), rtol=1e-4, atol=1e-6
    )


def test_a_table_is_stored_once(pipe, tmp_path):
    size, width = pipe.backbone.token_embedding.embeddings.shape
    shapes = [tuple(v.shape) for v in pipe.model.weights]
    assert shapes.count((size, width)) == 1 and (width, size) not in shapes
    path = tmp_path / "whole.keras"
    pipe.model.save(path)
    again = keras.models.load_model(path)
    features = {n: v for n, v in pipe.encode({"text": TEXTS}).items() if n in pipe.inputs}
    np.testing.assert_array_equal(again(features), pipe.model(features))


# What is hidden


def feed_of(pipe, seed=0, **options):
    feed = _rig.feed(pipe, rows=12, batch_size=4)
    return dataclasses.replace(feed, plan=dataclasses.replace(feed.plan, seed=seed, **options))


def hidden(batches):
    return [(x["token_ids"].tolist(), y.tolist(), w.tolist()) for x, y, w in batches]


def test_masks_are_drawn_anew_and_follow_from_the_seed(pipe):
    feed = feed_of(pipe)
    first, second = hidden(feed.batches(0)), hidden(feed.batches(1))
    assert all(one != other for one, other in zip(first, second, strict=True))
    assert first == hidden(feed.batches(0)) != hidden(feed_of(pipe, seed=1).batches(0))
    # A run that goes on in the middle of an epoch meets the same masks.
    shuffled = feed_of(pipe, shuffle=True)
    assert hidden(shuffled.batches(3, 2)) == hidden(shuffled.batches(3))[2:]
    for _, y, weights in feed.batches(0):
        np.testing.assert_array_equal(weights, (y >= 0).sum(axis=1))


def test_words_are_hidden_whole(pipe):
    pieces = 0
    for seed in range(20):
        batch = batch_of(pipe, seed)
        for words, y in zip(batch.features["words"], batch.targets, strict=True):
            for word in set(words[words >= 0].tolist()):
                learned = y[words == word] >= 0
                assert learned.all() or not learned.any()
                pieces = max(pieces, int(learned.sum()))
    assert pieces >= 3
    task = dataclasses.replace(pipe.task, whole_words=False)
    batch = batch_of(Pipeline(pipe.model, pipe.tokenizer, task))
    words, y = batch.features["words"][0], batch.targets[0]
    parts = [y[words == word] >= 0 for word in set(words[words >= 0].tolist())]
    assert any(p.any() and not p.all() for p in parts), "pieces alone are hidden too"


def test_special_ids_are_never_hidden_nor_put_in(pipe):
    special = set(_masked.mask_of(pipe.tokenizer).special)
    known = pipe.tokenizer.get_vocabulary()
    assert {known[i] for i in special} == {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    plain = pipe.encode({"text": [*TEXTS, "the ☃ [MASK] film"]})
    for seed in range(20):
        batch = batch_of(pipe, seed, [*TEXTS, "the ☃ [MASK] film"])
        stays = np.isin(plain["token_ids"], list(special))
        ids = batch.features["token_ids"]
        assert (batch.targets[stays] == -1).all()
        np.testing.assert_array_equal(ids[stays], plain["token_ids"][stays])
        assert set(ids[~stays].tolist()) & special <= {pipe.tokenizer.mask_token_id}


def test_a_dataset_for_keras_own_fit(pipe):
    rows = [{"text": text} for text in TEXTS if text]
    data = batches(rows, pipe.task, pipe.tokenizer, batch_size=2, seed=3)
    one, other = hidden(data.as_numpy_iterator()), hidden(data.as_numpy_iterator())
    assert len(one) == 3 and one != other
    assert set(data.element_spec[0]) == set(pipe.inputs)


# Texts to ids


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm_roberta"])
def test_ids_are_the_tokenizers_own_and_masks_stand_where_they_are_written(family):
    tokenizer = tiny.tokenizer(family)
    mask = _masked.mask_of(tokenizer)
    texts = list(tiny.ODD_TEXTS)

    def ids(texts):
        return [v.to_list() for v in _masked.ids_and_words(tokenizer, mask, tf.constant(texts))]

    def plain(text):
        return list(np.asarray(tokenizer([text])[0]).tolist())

    assert ids(texts)[0] == [plain(text) for text in texts]
    given = f"the film {mask.token} good{mask.token}{mask.token}"
    found, words = ids([given, "bad", mask.token])
    assert found[0] == [*plain("the film"), mask.id, *plain(" good"), mask.id, mask.id]
    assert found[1:] == [plain("bad"), [mask.id]]
    assert [w for w, i in zip(words[0], found[0], strict=True) if i == mask.id] == [-1] * 3
    assert len({w for w in words[0] if w >= 0}) == 3


def test_long_texts_are_read_in_windows_side_by_side(pipe):
    text = "zebra the film " * 9
    features = pipe.encode({"text": ["a", text, "bad"]})
    row, ids = features["row"], features["token_ids"]
    assert row.tolist() == [0, *[1] * (len(row) - 2), 2] and len(row) > 4
    inside = (features["words"] >= 0) & (row == 1)[:, None]
    assert ids[inside].tolist() == list(np.asarray(pipe.tokenizer([text])[0]))
    assert (features["words"][:, 0] == -1).all()


# Scores


def by_hand(pipe, texts):
    """Tokens and summed nll of each row, with numpy, from the logits of all tokens."""
    features = pipe.encode({"text": texts})
    batch = Batch(features, pipe.task.targets({}, features))
    batch = pipe.task.drawn(pipe.tokenizer)(batch, np.random.default_rng([_SEED, 0]))
    logits = pipe.outputs(batch.features).astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    tokens, nll = np.zeros(len(texts)), np.zeros(len(texts))
    for sequence, place in np.argwhere(batch.targets >= 0):
        row = features["row"][sequence]
        tokens[row] += 1
        nll[row] -= log_p[sequence, place, batch.targets[sequence, place]]
    return tokens, nll


def test_perplexity_by_hand(pipe):
    texts = ["zebra the film " * 9, *(text for text in TEXTS if text), "a"]
    tokens, nll = by_hand(pipe, texts)
    report = pipe.evaluate([{"text": text} for text in texts])
    assert report.after["tokens"] == tokens.sum() > len(texts)
    assert report.after["perplexity"] == pytest.approx(np.exp(nll.sum() / tokens.sum()), rel=1e-5)
    worst = {example["row"]: example for example in report.worst}
    assert worst[1]["tokens"] == tokens[0] > 5
    assert worst[1]["error"] == pytest.approx(nll[0] / tokens[0], rel=1e-5)
    again = Pipeline(pipe.model, pipe.tokenizer, pipe.task)
    again.batch_size = 2
    same = again.evaluate([{"text": text} for text in texts]).after
    assert same["perplexity"] == pytest.approx(report.after["perplexity"], rel=1e-5)


def test_training_makes_hidden_words_likelier():
    pipe = _rig.pipeline(tiny.family("bert"), "full", MaskedLM(max_length=16, share=0.4))
    rows = [{"text": "the film was good"}] * 4
    before = pipe.evaluate(rows).after["perplexity"]
    _rig.stepped(pipe, 4, batch=tuple(next(_rig.feed(pipe, 7, 7).batches())))
    assert pipe.evaluate(rows).after["perplexity"] < before


# Answers


@pytest.mark.parametrize(
    "family", ["f_net", *(pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES)]
)
def test_masks_are_filled(family):
    pipe = _rig.pipeline(tiny.family(family), "full", MaskedLM(max_length=16))
    mask = _masked.mask_of(pipe.tokenizer)
    texts = [f"the {mask.token} was", "no mask", "good " * 20 + mask.token * 2, mask.token]
    found = pipe.predict(texts)
    assert [len(answer["token"]) for answer in found] == [1, 0, 2, 1]
    features = pipe.encode({"text": texts})
    logits = pipe.outputs(features)[:, : features["blank"].shape[1]][features["blank"] == 1]
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(axis=-1, keepdims=True)
    p[:, list(mask.special)] = -1
    known = _masked.tokens_of(pipe.tokenizer)
    tokens = [token for answer in found for token in answer["token"]]
    for token, row in zip(tokens, p, strict=True):
        assert token == known[int(row.argmax())].strip("▁Ġ") or token in known
    scores = [score for answer in found for score in answer["score"]]
    np.testing.assert_allclose(scores, p.max(axis=-1), rtol=1e-4)
    # A family without a mask is given its whole width, also where no long text is in the batch.
    (alone,) = pipe.predict(texts[:1])
    assert alone["token"] == found[0]["token"]
    np.testing.assert_allclose(alone["score"], found[0]["score"], rtol=1e-4)


def test_pieces_are_shown_without_their_marks():
    def shown(family):
        tokenizer = tiny.tokenizer(family)
        mask = _masked.mask_of(tokenizer)
        return _masked.spelled(tokenizer, mask), _masked.tokens_of(tokenizer), mask

    for family, piece, word in (("bert", "##a", "##a"), ("roberta", "Ġfilm", "film")):
        spelled, known, mask = shown(family)
        assert spelled[known.index(piece)] == word
        assert spelled[mask.id] == "" and sum(t == "" for t in spelled) == len(mask.special)
    spelled, known, _ = shown("albert")
    assert spelled[known.index("▁film")] == "film" and spelled[known.index("▁")] == "▁"
    spelled, known, _ = shown("roberta")
    assert spelled[known.index("Ã")] == "Ã", "half a letter stays as it is written"


def test_the_exported_model_fills_masks(pipe, tmp_path):
    served = tf.saved_model.load(pipe.export(tmp_path / "masked")).signatures["serving_default"]
    texts = ["the [MASK] was [MASK]", "no mask", "[MASK]"]
    found = served(text=tf.constant(texts))
    for row, answer in enumerate(pipe.predict(texts)):
        count = len(answer["token"])
        assert found["token"].numpy()[row, :count].tolist() == [t.encode() for t in answer["token"]]
        assert not np.any(found["score"].numpy()[row, count:])
        np.testing.assert_allclose(found["score"].numpy()[row, :count], answer["score"], rtol=1e-5)


# What is refused


def test_decoders_are_refused():
    task = MaskedLM()
    with pytest.raises(InputError, match=r"by an encoder.*GPT2Backbone.*causal-lm"):
        task.build(tiny.backbone("gpt2"))
    with pytest.raises(InputError, match="mask token.*GPT2Tokenizer"):
        task.drawn(tiny.tokenizer("gpt2"))


@pytest.mark.parametrize("options", [{"share": 0}, {"share": 1.5}, {"whole_words": "no"}])
def test_wrong_options_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        MaskedLM(**options)
