"""Rates of their own in a run: how far each weight goes in a first step says at which it learns."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

import kerasft
from kerasft import InputError, train
from kerasft._core import weights
from kerasft._core.seeds import set_seed
from kerasft.backbones import FAMILIES, depths
from kerasft.methods import IA3, BitFit, Chain, Full, GradualUnfreezing, LoRA, adapt, paces_of
from kerasft.optimizers import Pace, PacedAdamW
from kerasft.testing import tiny
from kerasft.training import paces as module
from kerasft.training.callbacks.checkpoints import Store
from kerasft.training.doctor import _paces
from kerasft.training.prepare import prepare_data
from kerasft.training.train import Run

RATE = 1e-3


@pytest.fixture(scope="module")
def two_blocks(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("preset") / "two-blocks")
    tiny.backbone("bert").save_to_preset(folder)
    tiny.tokenizer("bert").save_to_preset(folder)
    return folder


@pytest.fixture
def build(make_recipe, two_blocks, tmp_path):
    """A run that is ready to fit, and has not begun."""

    def ready(method="full", strategy="one-device", **training):
        alike = {"learning_rate": RATE, "head_learning_rate": RATE}
        training = alike | {"warmup": 0.0, "weight_decay": 0.0} | training
        options = {"method": method, "strategy": strategy, "training": training}
        recipe = make_recipe(preset=two_blocks, **options)
        set_seed(0)
        run = Run(prepare_data(recipe), Store(str(tmp_path / "checkpoints")), str(tmp_path), 0)
        run.build()
        return run

    return ready


def speeds(run, rate=RATE):
    """How far the weights go in Adam's first step, as a share of the rate; those that move.

    The step is rate * g / (|g| + eps): the rate itself, wherever there is a gradient. That of the
    keys' bias is 0 but for rounding, because a softmax leaves it out.
    """
    model = run.pipe.model
    (x, y), *_ = run.feeds["train"].batches()
    before = weights.state_of(model)
    run.fitted.run_eagerly = True
    run.fitted.train_on_batch(x, y)
    after = weights.state_of(model)
    far = {path: np.abs(after[path] - before[path]).max() / rate for path in before}
    return {path: float(share) for path, share in far.items() if "key/bias" not in path and share}


def check_layer_decay(build):
    run = build(layer_decay=0.5)
    found, depth = speeds(run), depths(run.pipe.backbone)
    assert {depth.get(path, 0) for path in found} == {0, 1, 2, 3}
    for path, share in found.items():
        assert share == pytest.approx(0.5 ** depth.get(path, 0), rel=0.02), path


def test_each_block_learns_slower_than_the_one_above_it(build):
    check_layer_decay(build)


def test_one_rate_for_all_is_caught(build, monkeypatch):
    monkeypatch.setattr(module, "depths", lambda backbone: {})
    with pytest.raises(AssertionError):
        check_layer_decay(build)


def test_without_it_no_weight_has_a_pace(build):
    for options in ({}, {"layer_decay": 1.0}, {"method": {"name": "lora", "rank": 2}}):
        assert not build(**options).fitted.optimizer.paces


def test_in_float16_it_is_inside_the_scaling_of_the_loss(build):
    run = build(layer_decay=0.5, precision="mixed_float16")
    assert isinstance(run.fitted.optimizer.inner_optimizer, PacedAdamW)
    found, depth = speeds(run), depths(run.pipe.backbone)
    for path in ("logits/kernel", "transformer_layer_0/feedforward_intermediate_dense/kernel"):
        assert found[path] == pytest.approx(0.5 ** depth.get(path, 0), rel=0.02)


@pytest.mark.slow
def test_two_replicas_end_as_one_device(build):
    """A first epoch of gradual unfreezing, with decay of the weights."""
    options = {"dropout": 0.0, "layer_decay": 0.5, "weight_decay": 0.1, "schedule": "constant"}
    ended = []
    for strategy in ("one-device", "mirrored"):
        run = build("gradual-unfreezing", strategy, **options)
        assert isinstance(run.fitted.optimizer, PacedAdamW)
        start = weights.state_of(run.pipe.model)
        run.fit(False)
        ended.append(weights.state_of(run.pipe.model))
    depth = depths(run.pipe.backbone)
    for path, value in ended[0].items():
        if "key/bias" not in path:
            np.testing.assert_allclose(ended[1][path], value, atol=2e-5, err_msg=path)
        if depth.get(path, 0) > 1:
            np.testing.assert_array_equal(ended[1][path], start[path], err_msg=path)
    assert any((ended[1][path] != start[path]).any() for path in depth)


def test_depth_and_method_are_multiplied(build):
    """B of a LoRA+ in the first of two blocks; A has no gradient in the first step."""
    found = speeds(build(LoRA(2, targets=("query", "value"), plus=16.0), layer_decay=0.5))
    expected = {"logits/kernel": 1.0, "logits/bias": 1.0}
    for place, share in ((0, 4.0), (1, 8.0)):
        for role in ("query", "value"):
            expected[f"blocks_{place}_{role}_lora/lora_b"] = share
    assert found == pytest.approx(expected, rel=0.02)


def test_lora_plus_without_a_ratio_says_nothing():
    backbone = adapt(tiny.backbone("bert"), LoRA()).backbone
    assert set(paces_of(LoRA(), backbone).values()) == {Pace()}
    with pytest.raises(InputError, match="`plus` must be more than 0"):
        LoRA(plus=0)


# --- the head ---


@pytest.mark.parametrize(
    ("given", "share"), [(None, 100.0), (1e-3, 10.0), (3e-4, 3.0), (5e-5, 0.5)], ids=str
)
def test_a_new_head_learns_at_a_rate_of_its_own(build, given, share):
    found = speeds(build(learning_rate=1e-4, head_learning_rate=given), 1e-4)
    heads = {path: far for path, far in found.items() if path.startswith("logits/")}
    assert set(heads) == {"logits/kernel", "logits/bias"}
    assert list(heads.values()) == pytest.approx([share] * 2, rel=0.02)
    assert {round(far, 1) for path, far in found.items() if path not in heads} == {1.0}


def test_a_head_on_a_wide_backbone_learns_slower(build):
    """4 / width where that is under 1e-2: as much of a move of the logits at every width."""
    prepared = build(head_learning_rate=None).prepared
    for width, expected in ((32, 1e-2), (400, 1e-2), (1024, 4 / 1024), (8192, RATE)):
        backbone = SimpleNamespace(hidden_dim=width, weights=[])
        assert module.head_rate(prepared, backbone) == pytest.approx(expected)


def test_a_head_that_was_learned_learns_as_the_backbone(build, monkeypatch):
    monkeypatch.setattr(module, "has_new_head", lambda *_: False)
    run = build(learning_rate=1e-4, head_learning_rate=None)
    assert not run.fitted.optimizer.paces


def test_a_head_of_a_checkpoint_is_no_new_one(make_recipe, two_blocks):
    from kerasft.training.prepare import has_new_head

    prepared, backbone = prepare_data(make_recipe(preset=two_blocks)), tiny.backbone("bert")
    known = prepared.task.to_head(prepared.task.build(adapt(backbone)))
    other = dataclasses.replace(known, labels=("x", *known.labels[1:]))
    for head, new in ((None, True), (known, False), (other, True)):
        assert has_new_head(dataclasses.replace(prepared, head=head), backbone) == new


# --- chains ---------------------------------------------------------------------------------------


def test_each_method_of_a_chain_has_its_own_rate(build):
    """`ia3` 1e-2 in the first block, `lora` 1e-3 in the second."""
    chain = Chain((LoRA(blocks=(1,), plus=2.0), IA3(blocks=(0,))))
    assert chain.learning_rate == IA3.learning_rate > LoRA.learning_rate
    slower = LoRA.learning_rate / IA3.learning_rate
    run = build(chain)
    for path, share in speeds(run).items():
        expected = slower * 2.0 if path.endswith("lora_b") else 1.0
        assert share == pytest.approx(expected, rel=0.02), path
    trained = {v.path for v in run.pipe.adapted.trainable_variables}
    found = paces_of(chain, run.pipe.backbone)
    assert set(found) == trained
    assert {p for p in found if found[p] == Pace(slower)} == {p for p in trained if "lora_a" in p}


@pytest.mark.parametrize("last", [BitFit(), Full()])
def test_a_weight_of_two_methods_belongs_to_the_last(last):
    """Full trains the biases too: at its own rate, unless bitfit comes after it."""
    methods = (Full(), BitFit()) if last == BitFit() else (BitFit(), Full())
    chain = Chain(methods)
    found = paces_of(chain, adapt(tiny.backbone("bert"), chain).backbone)
    for path, pace in found.items():
        bias = path.endswith(("bias", "beta"))
        assert pace == Pace(1.0 if bias and last == BitFit() else 5e-5 / BitFit.learning_rate), path


def test_a_chain_hands_on_when_its_methods_begin():
    chain = Chain((GradualUnfreezing(), LoRA()))
    backbone = adapt(tiny.backbone("bert"), chain).backbone
    found = paces_of(chain, backbone)
    assert found["blocks_0_query_lora/lora_b"] == Pace()
    assert found["token_embedding/embeddings"] == Pace(5e-5 / LoRA.learning_rate, 2)


def test_a_chain_that_was_loaded_says_the_same(build, tmp_path):
    chain = Chain((LoRA(blocks=(1,), plus=2.0), BitFit(blocks=(0,))))
    pipe = build(chain).pipe
    again = kerasft.load(pipe.save(tmp_path / "model"))
    assert paces_of(chain, again.backbone) == paces_of(chain, pipe.backbone)


# --- depths ---------------------------------------------------------------------------------------

ABOVE = ("pooled_dense/", "layer_norm/", "sequence_output_layernorm/", "final_normalization/")
ABOVE += ("decoder_output_layer_norm/", "encoder_output_layer_norm/")


@pytest.mark.parametrize("family", [f.name for f in FAMILIES if not f.shares_blocks])
def test_depths_of_every_family(family):
    """By the weights' paths, which say where they are: three blocks, or two stacks of three."""
    backbone = tiny.backbone(family, num_layers=3)
    for path, depth in depths(backbone).items():
        above = path.startswith(ABOVE) or path.endswith("reverse_embeddings")
        number = path.split("/")[0].rpartition("_")[2]
        if number.isdigit():
            assert depth == 3 - int(number), path
        elif path.startswith("self_attention/"):  # T5's relative positions, in the first block
            assert depth == 3, path
        else:
            assert depth == (0 if above else 4), path


def test_shared_blocks_have_no_depths(make_recipe, tmp_path):
    folder = str(tmp_path / "albert")
    tiny.backbone("albert").save_to_preset(folder)
    tiny.tokenizer("albert").save_to_preset(folder)
    recipe = make_recipe(preset=folder, training={"layer_decay": 0.9})
    with pytest.raises(InputError, match="runs one block many times. Leave training.layer_decay"):
        train(recipe, out=tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


# --- what the doctor says -------------------------------------------------------------------------


def test_the_doctor_tells_the_rates(build):
    run = build(layer_decay=0.5)
    found = _paces(run.prepared, run.pipe.model)
    assert found == {"paces": {"lowest": 0.125, "highest": 1.0, "last_epoch": 0}}
    run = build("gradual-unfreezing")
    found = _paces(run.prepared, run.pipe.model)
    assert found == {"paces": {"lowest": 1.0, "highest": 1.0, "last_epoch": 2}}
