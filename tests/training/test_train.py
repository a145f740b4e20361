"""A training does what its recipe says: rates, dropout, precision, frozen and best weights."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import kerasft
from kerasft import InputError, train
from kerasft._core import weights
from kerasft._core.errors import KerasftError
from kerasft._core.seeds import set_seed
from kerasft.export.profile import Reference
from kerasft.methods import is_record
from kerasft.training.callbacks.checkpoints import Store
from kerasft.training.callbacks.keeper import Keeper
from kerasft.training.prepare import monitor_of, prepare_data
from kerasft.training.train import Run

STEPS = 3  # of an epoch: 24 training rows in batches of 8


@pytest.fixture
def build(tmp_path):
    """A run that is ready to fit, and has not begun."""

    def ready(recipe):
        set_seed(recipe.seed)
        run = Run(prepare_data(recipe), Store(str(tmp_path / "checkpoints")), str(tmp_path), 0)
        run.build()
        return run

    return ready


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


# --- optimizer ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched(make_recipe, tmp_path_factory):
    """A whole run: its folder, pipeline, rates of the steps, and weights after each epoch."""
    settings = {"epochs": 4, "warmup": 0.25, "tensorboard": True, "learning_rate": 3e-4}
    settings |= {"monitor": "val_accuracy", "early_stopping": 99}
    recipe = make_recipe(training=settings)
    seen = {"rates": [], "weights": []}
    end = Keeper.on_epoch_end

    def note_rate(keeper, batch, logs=None):
        seen["rates"].append(float(np.array(keeper.model.optimizer.learning_rate)))

    def note_weights(keeper, epoch, logs=None):
        seen["weights"].append(weights.state_of(keeper.model.model))
        # The second epoch is the best of the four, and the fourth is another.
        end(keeper, epoch, dict(logs, val_accuracy=(0.25, 0.75, 0.5, 0.75)[epoch]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Keeper, "on_train_batch_begin", note_rate, raising=False)
        patch.setattr(Keeper, "on_epoch_end", note_weights)
        out = tmp_path_factory.mktemp("runs") / "watched"
        seen["pipe"] = train(recipe, out=out, verbose=0)
    return seen | {"out": out}


def test_the_run_holds_the_reference_of_a_monitor(watched):
    """The labels of the rows that were learned, and what the scored rows are answered."""
    found = Reference.load(watched["out"] / "reference.json")
    counts = json.loads((watched["out"] / "split.json").read_text())["counts"]["train"]
    assert found.label_shares.counts == counts and found.labels == watched["pipe"].task.labels
    assert found.classes.rows == watched["pipe"].report.rows
    assert found.classes.of == f"predicted on {watched['pipe'].report.split}"
    assert {"text_tokens", "text_unknown", "text_characters", "confidence"} == set(found.features)


def test_the_rate_rises_and_falls(watched):
    """12 steps; in the first quarter from 0 to the peak, then straight to 0."""
    rising = [0, 1 / 3, 2 / 3]
    falling = [1 - i / 9 for i in range(9)]
    np.testing.assert_allclose(watched["rates"], 3e-4 * np.array(rising + falling), rtol=1e-5)


def test_no_decay_on_biases_and_norms(build, make_recipe):
    """With no gradient at all, only what decays moves, by rate times decay."""
    settings = {"weight_decay": 0.5, "learning_rate": 0.1, "warmup": 0.0, "clip_norm": 0.25}
    run = build(make_recipe(training=settings))
    optimizer, variables = run.fitted.optimizer, run.fitted.trainable_weights
    assert isinstance(optimizer, keras.optimizers.AdamW)
    assert optimizer.global_clipnorm == 0.25
    for variable in variables:  # new biases are zero, which cannot decay
        variable.assign(np.ones(variable.shape, np.float32))
    optimizer.apply([keras.ops.zeros_like(v) for v in variables], variables)
    factor = {"kernel": 0.95, "embeddings": 0.95, "bias": 1, "gamma": 1, "beta": 1}
    names = [v.path.rsplit("/", 1)[-1] for v in variables]
    assert set(names) == set(factor)
    for name, variable in zip(names, variables, strict=True):
        np.testing.assert_allclose(variable, np.full(variable.shape, factor[name]), rtol=1e-6)


def test_clipping_can_be_off(build, make_recipe):
    run = build(make_recipe(training={"clip_norm": None}))
    assert run.fitted.optimizer.global_clipnorm is None


# --- best weights ---------------------------------------------------------------------------------


def check_best(pipe, epochs, best):
    state = weights.state_of(pipe.model)
    for path, value in epochs[best].items():
        np.testing.assert_array_equal(state[path], value, err_msg=path)


def test_the_best_weights_come_back(watched):
    pipe, epochs = watched["pipe"], watched["weights"]
    check_best(pipe, epochs, 1)
    assert json.loads((watched["out"] / "metrics.json").read_text())["extra"]["best_epoch"] == 2
    check_best(kerasft.load(watched["out"]), epochs, 1)
    for other in (0, 2, 3):
        with pytest.raises(AssertionError):
            check_best(pipe, epochs, other)


def test_an_unknown_monitor_is_refused(make_recipe, tmp_path):
    with pytest.raises(InputError, match="must be one of: accuracy, loss, val_accuracy") as error:
        train(make_recipe(training={"monitor": "val_acc"}), out=tmp_path / "run", verbose=0)
    assert "Received: 'val_acc'" in one_line(error)
    assert list(tmp_path.iterdir()) == []


def test_without_validation_the_loss_decides(build, make_recipe):
    run = build(make_recipe(data={"validation": None}))
    assert monitor_of(run.prepared) == "loss"
    assert run.prepared.scored == "test"


# --- what a run leaves ----------------------------------------------------------------------------


def files_of(folder):
    found = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    return {re.sub(r"events\.out\.tfevents\..*", "events", name) for name in found}


FILES = {
    "recipe.yaml",
    "split.json",
    "split.csv",
    "history.csv",
    "metrics.json",
    "report.txt",
    "checkpoints/best.safetensors",
    "checkpoints/step-000000012.safetensors",
    "model/kerasft.json",
    "model/model.safetensors",
    "model/tokenizer/tokenizer.json",
    "model/tokenizer/vocabulary.txt",
}


def test_a_run_folder_holds_tables_numbers_and_pictures(watched):
    found = files_of(watched["out"])
    assert found >= FILES
    rest = found - FILES
    assert {name for name in rest if name.startswith("logs/")} == {
        "logs/train/events",
        "logs/validation/events",
    }
    plots = {name for name in rest if not name.startswith("logs/")}
    assert {name.rpartition(".")[2] for name in plots} <= {"png", "csv", "json", "txt", "jsonl"}
    assert all("/" not in name for name in plots)
    for path in watched["out"].rglob("*"):
        if path.is_file():
            assert not path.read_bytes().startswith(b"\x80"), f"{path} is a pickle"


def test_tensorboard_is_written_when_asked(watched):
    import tensorflow as tf

    tags = set()
    for path in sorted((watched["out"] / "logs").rglob("*tfevents*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            tags |= {(path.parent.name, v.tag, event.step) for v in event.summary.value}
    for part in ("train", "validation"):
        assert {(part, "epoch_loss", epoch) for epoch in range(4)} <= tags


@pytest.mark.slow
def test_without_a_folder_nothing_is_left(make_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pipe = train(make_recipe(), verbose=0)
    assert 0 <= pipe.report.after["accuracy"] <= 1
    assert list(tmp_path.iterdir()) == []


# --- dropout and precision ------------------------------------------------------------------------


def rates(layer):
    """Rate of every dropout layer below, by name."""
    found = [x for x in layer._flatten_layers() if isinstance(x, keras.layers.Dropout)]
    return [x.rate for x in found]


def test_dropout_reaches_every_layer(build, make_recipe):
    plain = rates(build(make_recipe()).pipe.model)
    assert sorted(set(plain)) == [0.0, 0.1], "the preset's own, and that of a new head"
    run = build(make_recipe(training={"dropout": 0.375}))
    assert rates(run.pipe.model) == [0.375] * len(plain)
    assert len(plain) == 5, "embeddings, attention's two, feed-forward, head"
    none = build(make_recipe(training={"dropout": 0.0})).pipe.model
    x = kerasft.testing.tiny.features(none)
    np.testing.assert_array_equal(none(x, training=True), none(x, training=False))
    model = run.pipe.model
    assert np.abs(model(x, training=True) - model(x, training=False)).max() > 1e-3


HALF = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16", "float32": "float32"}


@pytest.mark.parametrize("precision", HALF)
def test_precision(build, make_recipe, precision):
    run = build(make_recipe(training={"precision": precision}))
    model = run.pipe.model
    backbone = model.get_layer("backbone").backbone
    blocks = [x for x in backbone._flatten_layers() if isinstance(x, keras.layers.EinsumDense)]
    assert len(blocks) == 4
    assert {x.compute_dtype for x in blocks} == {HALF[precision]}
    assert {v.dtype for v in model.weights} == {"float32"}
    logits = model(kerasft.testing.tiny.features(model))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    scaled = isinstance(run.fitted.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (precision == "mixed_float16")


def test_float16_makes_finite_steps_at_its_scale(build, make_recipe):
    run = build(make_recipe(training={"precision": "mixed_float16", "warmup": 0.0}))
    (x, y), *_ = run.feeds["train"].batches()
    before = weights.state_of(run.pipe.model)
    run.fitted.train_on_batch(x, y, sample_weight=np.ones(len(y), np.float32))
    after = weights.state_of(run.pipe.model)
    assert all(np.isfinite(value).all() for value in after.values())
    moved = [path for path in before if np.any(before[path] != after[path])]
    assert any("transformer_layer_0" in path for path in moved)
    assert float(np.array(run.fitted.optimizer.dynamic_scale)) == 2.0**15


# --- frozen weights -------------------------------------------------------------------------------

METHODS = {
    "freeze": "freeze",
    "lora": {"name": "lora", "rank": 2},
    "adalora": {"name": "adalora", "rank": 2, "initial_rank": 4},
}


@pytest.mark.parametrize("name", METHODS)
def test_frozen_weights_stay_to_the_bit(make_recipe, tmp_path, monkeypatch, name):
    seen, fit = {}, Run.fit

    def watched_fit(run, resume):
        seen["before"] = weights.state_of(run.pipe.model)
        fit(run, resume)

    monkeypatch.setattr(Run, "fit", watched_fit)
    pipe = train(make_recipe(method=METHODS[name]), out=tmp_path / "run", verbose=0)
    after = weights.state_of(pipe.model)
    trained = {v.path for v in pipe.model.trainable_weights}
    moved = {path for path in after if np.any(after[path] != seen["before"][path])}
    noted = {v.path for v in pipe.model.weights if is_record(v)}
    assert moved > noted and moved - noted <= trained
    assert bool(noted) == (name == "adalora")
    assert len(trained) < len(after)
    assert not (tmp_path / "run" / "logs").exists(), "TensorBoard's logs were not asked for"
    again = kerasft.load(tmp_path / "run")
    assert [v.path for v in again.model.trainable_weights] == [
        v.path for v in pipe.model.trainable_weights
    ]
    facts = json.loads((tmp_path / "run" / "metrics.json").read_text())["extra"]
    size = sum(int(np.prod(v.shape)) for v in pipe.model.trainable_weights)
    assert facts["trainable_parameters"] == size


@pytest.mark.parametrize(
    "method",
    [pytest.param("freeze", marks=pytest.mark.slow), {"name": "lora", "rank": 2}],
    ids=["freeze", "lora"],
)
def test_a_frozen_weight_that_moves_is_an_error(make_recipe, tmp_path, monkeypatch, method):
    def nudge(keeper, batch, logs=None):
        frozen = next(v for v in keeper.model.model.weights if not v.trainable)
        value = np.array(frozen)
        value.flat[0] = np.nextafter(value.flat[0], np.float32(np.inf))
        frozen.assign(value)

    monkeypatch.setattr(Keeper, "on_train_batch_begin", nudge, raising=False)
    with pytest.raises(KerasftError, match="1 frozen weights moved in training, first ") as error:
        train(make_recipe(method=method), out=tmp_path / "run", verbose=0)
    one_line(error)
    assert not (tmp_path / "run" / "model").exists()


# --- seeds ----------------------------------------------------------------------------------------


def test_another_seed_is_another_head_split_and_order(build, make_recipe):
    def start(seed):
        run = build(make_recipe(seed=seed))
        kernel = np.array(run.pipe.model.get_layer("logits").kernel)
        return kernel, run.prepared.split.assignment, run.feeds["train"].plan.epoch(0)[0]

    for one, other in zip(start(0), start(1), strict=True):
        assert np.any(one != other)


# --- what goes on with the model ------------------------------------------------------------------


def test_the_labels_separator_goes_with_the_model(make_recipe, make_rows, write_csv, tmp_path):
    rows = [
        {"text": row["text"], "labels": ("ham;long", "spam")[i % 2]}
        for i, row in enumerate(make_rows(24))
    ]
    mails = write_csv(tmp_path / "mails.csv", rows)
    task = {"name": "text-classification", "problem": "multi-label"}
    recipe = make_recipe(data={"train": mails, "separator": ";"}, task=task)
    pipe = train(recipe, out=tmp_path / "run", verbose=0)
    assert pipe.task.labels == ("ham", "long", "spam")
    again = kerasft.load(tmp_path / "run")
    assert again.evaluate(mails).to_json() == pipe.evaluate(mails).to_json()
    again.info["separator"] = "|"
    with pytest.raises(InputError, match="ham;long"):
        again.evaluate(mails)


def test_the_rate_of_dropout_goes_with_the_model(build, make_recipe):
    pipe = build(make_recipe(training={"dropout": 0.3})).pipe
    assert pipe.task.head_dropout == 0.3
    assert pipe.model.get_layer("head_dropout").rate == 0.3


def test_a_preset_may_lie_on_another_file_system(make_recipe, preset):
    from kerasft._core import files

    for path in Path(preset).rglob("*.*"):
        target = f"ram://presets/one-block/{path.relative_to(preset).as_posix()}"
        files.write_bytes(target, path.read_bytes())
    prepared = prepare_data(make_recipe().replace("preset=ram://presets/one-block"))
    assert prepared.head is None


def test_build_takes_a_path_and_refuses_options_beside_a_backbone(preset):
    task = kerasft.tasks.TextClassification(labels=("a", "b"))
    model = kerasft.build(Path(preset), task, dropout=0.4)
    backbone = model.get_layer("backbone").backbone
    assert backbone.dropout == 0.4
    with pytest.raises(InputError, match="takes no options. Received: dtype"):
        kerasft.build(backbone, task, dtype="float32")
