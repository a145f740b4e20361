"""AdaLoRA: its formula, the budget, the penalty on replicas, and PEFT's numbers."""

import dataclasses

import keras
import numpy as np
import peft_answers
import pytest
import tensorflow as tf
from projections import dense, moved, numbers, random_like, said

from kerasft._core.errors import InputError
from kerasft._core.weights import named, read
from kerasft.backbones._surgery import around
from kerasft.methods import AdaLoRA, BitFit, Chain, LoRA, carried, is_record, merge, watch_of
from kerasft.methods import adalora as module
from kerasft.methods._site_layers import Shared
from kerasft.methods.adalora import AdaLoRALayer, Budget
from kerasft.testing import _rig, tiny
from kerasft.training import fitted as training
from kerasft.training.fitted import compiled

SMALL = AdaLoRA(rank=2, initial_rank=4)


def wrapped(base, rank=3, alpha=6.0):
    layer = AdaLoRALayer(base, "x", rank, alpha, 0.0, Shared(lambda layer: (layer.counter(),)))
    for number, part in enumerate(layer.parts):
        part.weight.assign(random_like(*part.weight.shape, seed=20 + number))
    return layer


def layers_of(backbone):
    found = [x for site in carried(backbone) for x in around(site.layer)]
    return [x for x in found if isinstance(x, AdaLoRALayer)]


def left(backbone):
    """How many triples are not 0, by projection."""
    return [int(np.count_nonzero(layer.values.weight)) for layer in layers_of(backbone)]


# --- the update -----------------------------------------------------------------------------------


def test_the_formula():
    """f(x W + c + alpha / rank * x P diag(lambda) Q); lambda is drawn, so it cannot be left out."""
    x, layer = random_like(2, 4, 5, seed=2), wrapped(dense(5, 6, activation="relu"))
    kernel, bias, p, values, q = numbers(*layer.base.weights, *(v.weight for v in layer.parts))
    update = 6.0 / 3 * (x @ p @ np.diag(values) @ q)
    expected = np.maximum(x @ kernel + bias + update, 0)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-4)
    merged, shift = layer.merged()
    assert merged.dtype == np.float64 and np.abs(update).max() > 0.1
    np.testing.assert_allclose(np.maximum(x @ merged + shift, 0), expected, rtol=1e-4, atol=1e-4)


def test_a_fresh_one_has_the_paper_s_start():
    """P and Q from a normal distribution of their own each: one initializer would repeat itself."""
    layer = layers_of(AdaLoRA(16, 16).apply(tiny.backbone("bert")))[0]
    p, values, q = numbers(*(part.weight for part in layer.parts))
    np.testing.assert_array_equal(values, np.zeros(16))
    assert 0.016 < p.std() < 0.024 and 0.016 < q.std() < 0.024
    assert abs(np.corrcoef(p.ravel(), q.ravel())[0, 1]) < 0.2


def test_an_adapter_file_holds_the_triples_alone(tmp_path):
    """What was noted in training is in no file, and is no part of the base that it asks for."""
    pipe = _rig.pipeline("bert", SMALL)
    _rig.stepped(pipe, 3)
    assert max(np.abs(np.array(layer.p.sensitivity)).max() for layer in layers_of(pipe.backbone))
    path = str(tmp_path / "adapter.safetensors")
    pipe.save_adapter(path)
    names = {name.rsplit(".", 1)[-1] for name in read(path)[0] if name.startswith("adapter/")}
    assert names == {"adalora_p", "adalora_lambda", "adalora_q"}
    again = _rig.pipeline("bert", SMALL)
    again.load_adapter(path)
    np.testing.assert_array_equal(said(again.backbone), said(pipe.backbone))


# --- PEFT -----------------------------------------------------------------------------------------

PEFT = AdaLoRA(2, 5, 8.0, start=2 / 12, end=3 / 12, every=2, beta1=0.8, beta2=0.7)


def test_the_update_is_that_of_peft():
    """Same vectors out, before and after a merge."""
    backbone, expected = peft_answers.adapted(PEFT, "bert")
    assert peft_answers.distance(backbone, expected) < 1e-5
    merge(backbone)
    assert peft_answers.distance(backbone, expected) < 1e-5
    plain, _ = peft_answers.adapted(dataclasses.replace(PEFT, alpha=9.0), "bert")
    assert peft_answers.distance(plain, expected) > 1e-3, "with another scale"


def shared_out(steps=12):
    """PEFT's drawn gradients, step by step, as plain gradient descent; lambda after each step.

    Returns the backbone, PEFT's file and what is left by site.
    """
    backbone, expected = peft_answers.adapted(PEFT, "bert")
    watch, rows = watch_of(PEFT, backbone, 12), {}
    sites = {x: site.path for site in carried(backbone) for x in around(site.layer)}
    for step in range(steps):
        pairs = []
        for layer, site in sites.items():
            for name, part in zip(("p", "lambda", "q"), layer.parts, strict=True):
                row = expected[f"gradient:{site}.adalora_{name}"][step]
                gradient = tf.constant(row.astype(np.float32))
                part.weight.assign_sub(0.05 * gradient)
                pairs.append((gradient, part.weight))
        watch.after(pairs)
        for layer, site in sites.items():
            rows.setdefault(site, []).append(np.array(layer.values.weight))
    return {site: layer for layer, site in sites.items()}, expected, rows


def check_peft(steps=12):
    layers, expected, rows = shared_out(steps)
    for site, layer in layers.items():
        wanted = expected[f"left:{site}.adalora_lambda"][:steps]
        np.testing.assert_array_equal(np.array(rows[site]) == 0, wanted == 0, err_msg=site)
        np.testing.assert_allclose(rows[site], wanted, atol=1e-5)
        for name, part in zip(("p", "lambda", "q"), layer.parts, strict=True):
            for what in ("sensitivity", "uncertainty") if steps == 12 else ():
                np.testing.assert_allclose(
                    np.array(getattr(part, what)),
                    expected[f"{what}:{site}.adalora_{name}"],
                    rtol=1e-4,
                    atol=1e-6,
                )


def test_ranks_are_shared_out_as_by_peft():
    """A whole training with given gradients: the same importance, the same triples every step."""
    check_peft()


@pytest.mark.parametrize("wrong", ["no uncertainty", "sums, not means", "betas swapped"])
def test_another_importance_is_caught(monkeypatch, wrong):
    if wrong == "no uncertainty":
        monkeypatch.setattr(module.Weighed, "importance", lambda part: part.sensitivity + 0)
    elif wrong == "sums, not means":
        monkeypatch.setattr(module.ops, "mean", lambda x, axis: keras.ops.sum(x, axis))
    else:
        add = module.Weighed.add

        def swapped(part, gradient, one, two, wanted):
            add(part, gradient, two, one, wanted)

        monkeypatch.setattr(module.Weighed, "add", swapped)
    with pytest.raises(AssertionError):
        check_peft()


# --- the budget -----------------------------------------------------------------------------------


def test_the_budget_is_peft_s():
    """`budgets` has those of all steps, chosen at or not: with `every` 1 all of them are."""
    expected = np.load(peft_answers.GOLDEN / "methods" / "adalora_bert.npz")["budgets"]
    each = dataclasses.replace(PEFT, every=1)
    assert [each.kept(step, 12, 4) for step in range(1, 13)] == expected.tolist()
    chosen = [PEFT.kept(step, 12, 4) for step in range(1, 13)]
    assert chosen == [20, 20, 20, 12, 20, 8, 20, 8, 8, 8, 8, 8]


def test_the_budget_falls_by_the_cube():
    """Of 100 steps: all to step 10, then 40 + 60 (1 - (t - 10) / 60) ^ 3, and 40 from 70 on."""
    method = AdaLoRA(rank=4, initial_rank=10)
    kept = [method.kept(step, 100, 10) for step in range(1, 101)]
    assert kept[:10] == [100] * 10 and kept[69:] == [40] * 31
    assert kept[39] == 40 + 60 // 8, "half of the way at step 40"
    assert kept == sorted(kept, reverse=True)
    assert all(isinstance(count, int) for count in kept)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_a_short_training_ends_with_the_budget(steps):
    method = AdaLoRA(rank=2, initial_rank=3, start=0.5, end=0.49, every=5)
    assert method.kept(steps, steps, 4) == 8


def check_left():
    """After a training so many triples are not 0, and not of each projection as many."""
    method = AdaLoRA(rank=2, initial_rank=6)
    pipe = _rig.pipeline("bert", method)
    assert set(left(pipe.backbone)) == {0}
    _rig.stepped(pipe, 7)
    found = left(pipe.backbone)
    assert sum(found) == 2 * len(found) and max(found) > 2
    counts = {int(np.array(layer.count.made[0])) for layer in layers_of(pipe.backbone)}
    assert counts == {7}


def test_what_is_left_is_the_budget():
    check_left()


def test_without_a_choice_all_are_left(monkeypatch):
    monkeypatch.setattr(Budget, "after", lambda budget, pairs: None)
    with pytest.raises(AssertionError):
        check_left()


def test_ties_do_not_go_below_the_budget():
    """PEFT drops all that are as unimportant as the last one to be dropped; here so many go."""
    backbone = SMALL.apply(tiny.backbone("bert"))
    layers = layers_of(backbone)
    for layer in layers:
        layer.values.weight.assign(np.ones(4))
    zeros = [(tf.zeros(p.weight.shape), p.weight) for x in layers for p in x.parts]
    SMALL.watch(backbone, 1).after(zeros)
    assert sum(left(backbone)) == 8


def test_an_infinite_gradient_is_left_out():
    """The optimizer leaves the update out too; one in the importance would stay for good."""
    backbone = moved(SMALL.apply(tiny.backbone("bert")))
    layers, watch = layers_of(backbone), SMALL.watch(backbone, 100)
    pairs = [(tf.ones(p.weight.shape), p.weight) for x in layers for p in x.parts]
    watch.after(pairs)
    records = [v for v in backbone.weights if is_record(v) and "updates" not in v.path]
    before = numbers(*records)
    assert all(values.any() for values in before)
    watch.after([(pairs[0][0] * np.inf, pairs[0][1]), *pairs[1:]])
    for variable, value in zip(records, before, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)
    assert int(np.array(watch.count)) == 2


# --- the penalty ----------------------------------------------------------------------------------


def test_the_penalty():
    backbone = moved(SMALL.apply(tiny.backbone("bert")))
    each = []
    for layer in layers_of(backbone):
        p, _, q = numbers(*(part.weight for part in layer.parts))
        one = np.eye(4)
        each.append(((p.T @ p - one) ** 2).sum() + ((q @ q.T - one) ** 2).sum())
    assert float(SMALL.watch(backbone, 5).penalty()) == pytest.approx(0.1 * np.mean(each), rel=1e-5)
    for layer in layers_of(backbone):
        layer.p.weight.assign(np.eye(16)[:, :4])
        layer.q.weight.assign(np.eye(16)[3:7])
    assert float(SMALL.watch(backbone, 5).penalty()) == pytest.approx(0, abs=1e-6)


def trained(strategy, method):
    """P and Q after three steps of plain gradient descent."""

    def build():
        pipe = _rig.pipeline("bert", method, num_layers=1)
        tiny.randomize(pipe.model, seed=2, scale=0.15)
        return pipe

    fitted, _ = _rig.fitted_with_sgd(strategy, build)
    found = named(fitted.model.trainable_variables)
    return {p: np.array(v) for p, v in found.items() if p.endswith(("adalora_p", "adalora_q"))}


@pytest.mark.slow
def test_the_penalty_counts_once_on_two_replicas(monkeypatch):
    method = AdaLoRA(rank=4, initial_rank=4, orthogonality=1.0, targets=("query",))
    one, two = trained(None, method), trained(_rig.replicas(), method)
    without = trained(None, dataclasses.replace(method, orthogonality=0.0))
    for path, values in one.items():
        np.testing.assert_allclose(two[path], values, atol=1e-6)
        assert np.abs(without[path] - values).max() > 1e-2, "the penalty moves"
    monkeypatch.setattr(training, "_replicas", lambda: 1)
    twice = trained(_rig.replicas(), method)
    assert max(np.abs(twice[path] - one[path]).max() for path in one) > 1e-2


# --- in training ----------------------------------------------------------------------------------


def sensitivities(optimizer):
    """The sensitivities after a step with an optimizer that is wrapped around plain descent."""
    pipe = _rig.pipeline("bert", SMALL)
    moved(pipe.backbone)
    made = optimizer(keras.optimizers.SGD(0.01))
    fitted = compiled(pipe.model, pipe.task, made, watch=SMALL.watch(pipe.backbone, 10))
    fitted.run_eagerly = True
    x = tiny.features(pipe.model)
    fitted.train_on_batch(x, _rig.targets(pipe.task, len(x["token_ids"])))
    return np.concatenate([np.array(x.p.sensitivity).ravel() for x in layers_of(pipe.backbone)])


def test_the_scale_of_the_loss_is_no_part_of_the_importance(monkeypatch):
    """Keras multiplies the loss of mixed_float16 by 2 ** 15."""
    scaled = keras.optimizers.LossScaleOptimizer
    tf.keras.utils.set_random_seed(0)
    plain = sensitivities(lambda inner: inner)
    tf.keras.utils.set_random_seed(0)
    np.testing.assert_allclose(sensitivities(scaled), plain, rtol=1e-4, atol=1e-9)
    assert plain.max() > 1e-6
    after = Budget.after

    def wrong(budget, pairs):
        after(budget, [(g * 2.0**15, v) for g, v in pairs])

    monkeypatch.setattr(Budget, "after", wrong)
    tf.keras.utils.set_random_seed(0)
    assert sensitivities(scaled).max() > 1e3 * plain.max()


def test_a_chain_watches_for_its_methods():
    chain = Chain((LoRA(2, blocks=(0,)), AdaLoRA(2, 4, blocks=(1,)), BitFit(blocks=(0,))))
    pipe = _rig.pipeline("bert", chain)
    assert len(watch_of(chain, pipe.backbone, 5).members) == 1
    _rig.stepped(pipe, 5)
    assert sum(left(pipe.backbone)) == 2 * 2
    assert not any(v.trainable for v in pipe.backbone.weights if is_record(v))
    alone = Chain((LoRA(2), BitFit()))
    assert watch_of(alone, alone.apply(tiny.backbone("bert")), 5) is None


def test_a_method_without_a_watch_has_none():
    assert watch_of(LoRA(2), LoRA(2).apply(tiny.backbone("bert")), 5) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "`rank` must be a whole number, at least 1"),
        ({"rank": 9, "initial_rank": 8}, "at most as much. Received: rank=9, initial_rank=8"),
        ({"initial_rank": 0}, "`initial_rank` must be a whole number, at least 1"),
        ({"start": 0.6, "end": 0.4}, "together they are less than 1"),
        ({"start": -0.1}, "`start` must be at least 0"),
        ({"end": 1.5}, "`end` must be at least 0 and at most 1"),
        ({"every": 0}, "`every` must be a whole number, at least 1"),
        ({"beta1": 0}, "`beta1` must be more than 0"),
        ({"beta2": 1}, "`beta2` must be more than 0 and at most"),
        ({"orthogonality": -1}, "`orthogonality` must be at least 0"),
        ({"dropout": 1.0}, "`dropout` must be at least 0"),
        ({"targets": ("querry",)}, "Did you mean 'query'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        AdaLoRA(**options)


def test_a_rank_above_the_width_is_refused_and_the_backbone_left_alone():
    backbone = tiny.backbone("gemma")
    before = [(v.path, v.trainable) for v in backbone.weights]
    with pytest.raises(InputError, match=r"so at most \d+. Received: initial_rank=17"):
        AdaLoRA(initial_rank=17).apply(backbone)
    assert [(v.path, v.trainable) for v in backbone.weights] == before
