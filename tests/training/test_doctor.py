"""The doctor's numbers, each against one worked out by hand, and what it warns of."""

import json

import numpy as np
import pytest

from kerasft import InputError, doctor
from kerasft.testing import tiny
from kerasft.training import doctor as module
from kerasft.training.recipe import Recipe

STEP_SECONDS = 0.25
# Lengths in tokens: every word of the tiny vocabulary is one, [CLS] and [SEP] are two more.
WORDS = [3, 1, 12, 5, 2, 9, 4, 1, 7, 2]  # words in each training text
MAX_LENGTH, BATCH, EPOCHS = 8, 4, 3


def text(words, first="the"):
    return " ".join([first, *["film"] * (words - 1)])


TRAIN = [
    {"text": text(words, tiny.WORDS[place]), "label": "spam" if place in (0, 5) else "ham"}
    for place, words in enumerate(WORDS)
]
TRAIN += [{"text": "", "label": "ham"}, dict(TRAIN[3], text=TRAIN[3]["text"].upper())]
VALIDATION = [
    {"text": TRAIN[0]["text"], "label": "spam"},
    {"text": "call now", "label": "ham"},
    {"text": "call now", "label": "ham"},
]
TEST = [
    {"text": TRAIN[0]["text"], "label": "spam"},
    {"text": TRAIN[1]["text"], "label": "ham"},
    {"text": "call now", "label": "ham"},
    {"text": "", "label": "ham"},
]
# 10 texts, the empty one, and the double of the fourth.
LENGTHS = np.array([*(w + 2 for w in WORDS), 2, WORDS[3] + 2])
KEPT = np.minimum(LENGTHS, MAX_LENGTH)

VOCABULARY, UNITS, INNER, POSITIONS, CLASSES = len(tiny.wordpiece_vocabulary()), 16, 24, 64, 2
EMBEDDINGS = (VOCABULARY + POSITIONS + 2) * UNITS + 2 * UNITS
ATTENTION = 4 * (UNITS * UNITS + UNITS) + 2 * UNITS
FEED_FORWARD = UNITS * INNER + INNER + INNER * UNITS + UNITS + 2 * UNITS
POOLER, HEAD = UNITS * UNITS + UNITS, UNITS * CLASSES + CLASSES
PARAMETERS = EMBEDDINGS + ATTENTION + FEED_FORWARD + POOLER + HEAD


@pytest.fixture(scope="module")
def make(preset):
    def recipe(*overrides, train=None, **sections):
        data = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
        data = {"train": train, "validation": None} if train else data
        data["max_length"] = MAX_LENGTH
        training = {"epochs": EPOCHS, "batch_size": BATCH}
        made = Recipe(preset=preset, data=data, training=training, **sections)
        return made.replace(*overrides)

    return recipe


@pytest.fixture(scope="module")
def timed():
    """What the doctor asks to be timed."""
    return []


@pytest.fixture(scope="module")
def found(make, timed):
    def seconds(prepared, model, batch):
        timed.append(batch[0]["token_ids"].shape)
        return STEP_SECONDS

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_step_seconds", seconds)
        return doctor(make("method=freeze"))


# --- numbers --------------------------------------------------------------------------------------


def test_rows_and_labels(found):
    assert found.data["rows"] == {"train": 12, "validation": 3, "test": 4}
    assert found.data["labels"] == {
        "train": {"ham": 10, "spam": 2},
        "validation": {"ham": 2, "spam": 1},
        "test": {"ham": 3, "spam": 1},
    }


def test_empty_texts(found):
    assert found.data["empty"] == {"train": 1, "validation": 0, "test": 1}


def test_duplicates(found):
    assert found.data["duplicates"] == {
        "within": {"train": 1, "validation": 1, "test": 0},
        "across": {"train and validation": 1, "train and test": 3, "validation and test": 2},
    }


def test_tokens(found):
    tokens = found.data["tokens"]
    assert tokens["sample"] == 12
    assert tokens["median"] == np.median(LENGTHS) == 5.5
    assert tokens["longest"] == 14
    assert tokens["max_length"] == MAX_LENGTH
    assert tokens["cut_share"] == 3 / 12, "those of 9, 11 and 14 tokens"
    assert tokens["mean_kept"] == pytest.approx(KEPT.mean())


def test_padding(found):
    """Batches of 4 of like length: 8 8 8 7 | 7 6 5 4 | 4 3 3 2."""
    assert sorted(KEPT.tolist(), reverse=True) == [8, 8, 8, 7, 7, 6, 5, 4, 4, 3, 3, 2]
    assert found.data["tokens"]["padding_share"] == pytest.approx(1 - 65 / (4 * (8 + 7 + 4)))


def test_steps_and_time(found, timed):
    assert found.data["steps"] == {"per_epoch": 3, "all": 9}
    assert timed == [(BATCH, 7)], "of batches 8, 7 and 4 wide"
    assert found.data["seconds"] == STEP_SECONDS * 9


def test_parameters_and_memory(found):
    assert found.data["parameters"] == PARAMETERS
    assert found.data["trainable_parameters"] == HEAD
    activations = BATCH * MAX_LENGTH * UNITS * 1 * 16
    assert found.data["memory_bytes"] == 4 * (PARAMETERS + 3 * HEAD + activations)


def test_warnings(found):
    assert found.data["warnings"] == [
        "25% of the texts are longer than max_length=8 and are cut; the longest has 14 tokens.",
        "2 texts are empty; training refuses them.",
        "1 texts stand both in train and validation: scores will be too good.",
        "3 texts stand both in train and test: scores will be too good.",
        "2 texts stand both in validation and test: scores will be too good.",
    ]


def test_the_data_are_json(found):
    assert json.loads(json.dumps(found.data)) == found.data


def test_the_text_says_it_to_people(found):
    share = f"{HEAD / PARAMETERS:.2%}"
    lines = [" ".join(line.split()) for line in found.text.splitlines()]
    assert lines[:8] == [
        "train 12 rows ham 10 (83%), spam 2 (17%)",
        "validation 3 rows ham 2 (67%), spam 1 (33%)",
        "test 4 rows ham 3 (75%), spam 1 (25%)",
        "duplicates 2 within a part, 6 across parts",
        "empty 2 texts",
        "tokens median 6, longest 14; 25.0% cut at 8; 14.5% padding (first 12 rows)",
        "steps 3 an epoch, 9 in all",
        f"parameters {PARAMETERS:,}, of which {HEAD:,} ({share}) move",
    ]
    assert lines[8].startswith("memory about 0.0 GB")
    assert lines[9].startswith("time about 0.0 minutes on this machine")
    assert lines[10:] == [f"warning: {line}" for line in found.data["warnings"]]


# --- what it makes of other recipes ---------------------------------------------------------------


def plain(count=24, rare=2):
    """Different texts; every so many are spam."""
    pairs = [(one, other) for one in tiny.WORDS for other in tiny.WORDS if one != other]
    return [
        {"text": " ".join(pair), "label": "spam" if place % count < rare else "ham"}
        for place, pair in enumerate(pairs[:count])
    ]


def test_nothing_to_warn_of(make, monkeypatch):
    monkeypatch.setattr(module, "_step_seconds", lambda *_: 60.0)
    found = doctor(make(train=plain(rare=3)))
    assert found.data["warnings"] == [] and "warning" not in found.text
    assert found.data["trainable_parameters"] == found.data["parameters"] == PARAMETERS
    assert found.data["duplicates"] == {"within": {"train": 0}, "across": {}}
    assert "time        about 18.0 minutes" in found.text, "6 steps, 3 epochs, a minute each"


@pytest.mark.parametrize(("rare", "told"), [(2, True), (3, False)])
def test_a_rare_label_is_told(found, rare, told):
    labels = {"train": {"ham": 21, "spam": rare}}
    said = module._warnings(found.data | {"labels": labels}, None)
    assert any("class_weights=balanced" in line for line in said) is told


def test_nothing_that_moves_is_told(found):
    said = module._warnings(found.data | {"trainable_parameters": 0}, None)
    assert "No weight would move." in said
    assert "No weight would move." not in found.data["warnings"]


@pytest.mark.parametrize(("late", "told"), [(EPOCHS, True), (EPOCHS - 1, False)])
def test_weights_that_begin_too_late_are_told(found, late, told):
    paces = {"lowest": 0.125, "highest": 1.0, "last_epoch": late}
    said = module._warnings(found.data | {"paces": paces}, None)
    assert any("begin to learn in epoch 4 only" in line for line in said) is told
    assert "rates       0.125 to 1 times the rate" in module._text(found.data | {"paces": paces})
    assert "rates  " not in found.text


def test_lora_counts_its_matrices(make, monkeypatch):
    monkeypatch.setattr(module, "_step_seconds", lambda *_: 0.1)
    found = doctor(make("method={name: lora, rank: 2, targets: [query, value]}"))
    added = 2 * (UNITS * 2 + 2 * UNITS)
    assert found.data["trainable_parameters"] == added + HEAD
    assert found.data["parameters"] == PARAMETERS + added


@pytest.mark.parametrize(
    "problem",
    ["single-label", pytest.param("multi-label", marks=pytest.mark.slow), "regression"],
)
def test_a_step_is_timed_for_every_problem(make, problem):
    rows = plain()
    if problem == "multi-label":
        rows = [{"text": r["text"], "labels": r["label"] + "|all"} for r in rows]
    elif problem == "regression":
        rows = [{"text": r["text"], "score": len(r["text"])} for r in rows]
    task = {"name": "text-classification", "problem": problem}
    found = doctor(make(train=rows, task=task))
    assert 0 < found.data["seconds"] < 3600
    json.dumps(found.data)
    labels = found.data["labels"]["train"]
    expected = {"multi-label": {"all": 24, "ham": 22, "spam": 2}, "regression": {}}
    assert labels == expected.get(problem, {"ham": 22, "spam": 2})
    assert f"train{'':13} 24 rows" in found.text


# Windows of 6 words that share 2; of one text they hold 6 words and 4 more for each window.
WINDOWED = "task={name: text-classification, long_texts: mean, overlap: 2, max_windows: 2}"


def test_windows(make, monkeypatch):
    shapes = []
    monkeypatch.setattr(
        module, "_step_seconds", lambda *given: shapes.append(given[2][0]["token_ids"].shape) or 1.0
    )
    found = doctor(make(WINDOWED)).data
    tokens = found["tokens"]
    assert (tokens["max_length"], tokens["read"], tokens["windows"]) == (8, 6 + 4 + 2, 2)
    assert tokens["cut_share"] == 1 / 12, "the text of 14 tokens; that of 11 is in two windows"
    assert tokens["mean_kept"] == pytest.approx(np.minimum(LENGTHS, 12).mean())
    # Of 12 (cut to 10), 9 and 7 words 8 + 8, 8 + 7 and 8 + 5 tokens: batches of
    # 16 15 13 7 | 7 6 5 4 | 4 3 3 2, of which the first is two windows wide.
    real = 16 + 15 + 13 + int(KEPT[KEPT < 8].sum())
    assert tokens["padding_share"] == pytest.approx(1 - real / (4 * (2 * 8 + 7 + 4)))
    activations = BATCH * MAX_LENGTH * 2 * UNITS * 1 * 16
    assert found["memory_bytes"] == 4 * (4 * PARAMETERS + activations)
    assert found["steps"]["per_epoch"] == 3, "a text is one example"
    assert shapes == [(BATCH, 1, 7)]
    assert not any("are cut" in line for line in found["warnings"]), "8% are not worth a warning"
    less = doctor(make(WINDOWED.replace("max_windows: 2", "max_windows: 1")))
    assert less.data["tokens"]["cut_share"] == 3 / 12
    assert "25.0% cut at 8;" in less.text


def test_texts_that_even_the_windows_cut(found):
    tokens = found.data["tokens"] | {"read": 12}
    said = module._warnings(found.data | {"tokens": tokens}, None)
    assert said[0] == (
        "25% of the texts are longer than the 12 tokens that task.max_windows windows of "
        "max_length=8 hold and are cut; the longest has 14 tokens."
    )


def test_what_cannot_be_trained_on_is_refused(make):
    with pytest.raises(InputError, match="at least two labels"):
        doctor(make(train=[r | {"label": "ham"} for r in plain()]))
    with pytest.raises(InputError, match=f"reads at most {POSITIONS} tokens. Received: .*=65"):
        doctor(make("data.max_length=65"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.monitor=val_acc", "`training.monitor` must be one of"),
        ("strategy=multi-worker", "several machines"),
    ],
)
def test_what_train_would_refuse_is_refused(make, override, said):
    with pytest.raises(InputError, match=said):
        doctor(make(override))
