"""Wrong input and hostile files: one clear line, code 2, and not a file changed."""

import gzip
import json
import os
import pickle
import re
import shutil
from pathlib import Path

import pytest
from small_files import rows, written

MAILS = rows()


@pytest.fixture
def mails(tmp_path):
    return written(tmp_path / "mails.csv", MAILS)


def edited(**changes):
    """The mails with the third row changed."""
    return [*MAILS[:2], MAILS[2] | changes, *MAILS[3:]]


def csv_of(found):
    head, *body = ["text,label", *(f'"{row["text"]}",{row["label"]}' for row in found)]
    return "\n".join([head, *body, ""]).encode()


# What is wrong with the rows of `train`, `doctor`, `evaluate` and `predict`

PLAIN = csv_of(MAILS)
BROKEN = {
    "no file": (None, "There is no file"),
    "an empty file": (b"", "is empty"),
    "a header alone": (b"text,label\n", "has no rows"),
    "no such column": (
        PLAIN.replace(b"text,label", b"txt,label"),
        "has no column 'text'; it has: 'txt', 'label'. Did you mean 'txt'?",
    ),
    "a broken byte": (PLAIN.replace(b"free", b"fr\xffe", 1), ", line 3: UTF-8 text is expected."),
    "UTF-16": (PLAIN.decode().encode("utf-16"), "line 1: "),
    "a NUL byte": (PLAIN.replace(b"free", b"fr\0e", 1), ", line 3: text is expected."),
    "an open quote": (PLAIN.replace(b'free"', b"free", 1), ", line "),
    "a cell too many": (PLAIN.replace(b",spam", b",spam,1", 1), ", line 3: 2 cells are expected"),
    "an empty text": (csv_of(edited(text="  ")), ", line 4: in column 'text' a text is expected"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_rows(refuses, trained, recipe, tmp_path, name):
    content, said = BROKEN[name]
    if content is not None:
        (tmp_path / "rows.csv").write_bytes(content)
    plan = recipe({"train": "rows.csv"})
    for words in (
        ("train", plan, "--out", "new/run"),
        ("predict", trained, "rows.csv", "--out", "new/answers.jsonl"),
        ("evaluate", trained, "rows.csv", "--json", "--out", "new/scores"),
    ):
        line = refuses(*words)
        assert "rows.csv" in line and said in line
    if name != "an empty text":  # the doctor counts these
        assert said in refuses("doctor", plan)


LABELS = {
    "a label that is not known": (edited(label="hamm"), "must be one of: ham, spam"),
    "no label": (edited(label=""), "in column 'label' a label is expected"),
}


@pytest.mark.parametrize("name", LABELS)
def test_wrong_labels_at_evaluation(refuses, trained, tmp_path, name):
    found, said = LABELS[name]
    written(tmp_path / "rows.csv", found)
    line = refuses("evaluate", trained, "rows.csv", "--out", "scores")
    assert "rows.csv, line 4" in line and said in line


def test_rows_without_a_label_are_not_evaluated(refuses, trained, tmp_path):
    written(tmp_path / "rows.jsonl", [{"text": "free prize"}])
    assert "no column 'label'; it has: 'text'" in refuses("evaluate", trained, "rows.jsonl")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([row | {"label": "spam"} for row in MAILS], "at least two labels. Received: 'spam'"),
        ([], "has no rows"),
        (MAILS[:2], "too few rows (2) for a"),
    ],
)
def test_too_little_to_learn_from(refuses, recipe, tmp_path, found, said):
    (tmp_path / "rows.csv").write_bytes(csv_of(found))
    assert said in refuses("train", recipe({"train": "rows.csv"}), "--out", "run")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "free prize", "label": ', "one JSON object a line is expected"),
        ("[1, 2]", "Received: '[1, 2]'"),
        ("[" * 100_000, "one JSON object a line is expected"),
        ('{"text": "\\ud800", "label": "spam"}', "half of a surrogate pair"),
        ('{"text": {"a": 1}, "label": "spam"}', "in column 'text' a text is expected"),
        ('{"text": "free", "label": NaN}', "in column 'label' a label is expected"),
        ('{"label": "spam"}', "in column 'text' a text is expected"),
    ],
)
def test_broken_json_lines(refuses, recipe, tmp_path, line, said):
    path = tmp_path / "rows.jsonl"
    written(path, MAILS)
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    shown = refuses("train", recipe({"train": "rows.jsonl"}), "--out", "run")
    assert f"rows.jsonl, line {len(MAILS) + 1}: " in shown and said in shown


@pytest.mark.parametrize("score", ["nan", "inf", "1e999", "", "1_000", "many"])
def test_scores_that_are_no_numbers(refuses, recipe, tmp_path, score):
    found = [{"text": row["text"], "score": "1.5"} for row in MAILS]
    found[4]["score"] = score
    written(tmp_path / "rows.csv", found)
    plan = recipe({"train": "rows.csv"}, {"problem": "regression"})
    line = refuses("train", plan, "--out", "run")
    assert "rows.csv, line 6: in column 'score' a finite number is expected" in line


def test_other_files_than_data(refuses, trained, tmp_path):
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(PLAIN)[:-20])
    assert "is not a whole gzip file" in refuses("predict", trained, "rows.csv.gz")
    (tmp_path / "rows.pkl").write_bytes(b"cos\nsystem\n(S'touch code-was-run'\ntR.")
    assert "must end in one of" in refuses("predict", trained, "rows.pkl")
    assert "is a folder" in refuses("predict", trained, ".")
    os.mkfifo("pipe.xlsx")
    assert "must end in one of" in refuses("predict", trained, "pipe.xlsx")


# Recipes and presets


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.epoch=3", "Unknown key `training.epoch`. Did you mean `training.epochs`?"),
        ("data.max_lenght=9", "Did you mean `data.max_length`?"),
        ("preset=bert_tinny", "no preset 'bert_tinny'"),
        ("preset=presets/none", "neither a folder nor a known name"),
        ("preset=.", "which has none"),
        ("method=lorra", "Did you mean 'lora'"),
        ("method={freeze: {freeze_first_blocks: 16}}", "has 1 blocks"),
        ("method={lora: {targets: [gate]}}", "must be one of: query, key"),
        ("method={lora: {targets: [querry]}}", "Did you mean 'query'"),
        ("method={lora: {rank: 0}}", "`rank` must be a whole number, at least 1"),
        ("method={lora: {rank: 1000}}", "at most the width of its projection"),
        ("method={chain: {methods: [lora, {lora: {rank: 2}}]}}", "has each method once"),
        ("method={chain: {methods: [lora, lorra]}}", "Did you mean 'lora'"),
        ("method={chain: {methods: [prompt-tuning, p-tuning]}}", "there is room for one"),
        ("method={qlora: {bits: 5}}", "`bits` must be one of: 8, 4"),
        ("method={bitfit: {blocks: [7]}}", "has 1 blocks"),
        ("method={prompt-tuning: {virtual_tokens: 5000}}", "5000"),
        ("method={adapters: {placement: beside}}", "houlsby, pfeiffer, parallel"),
        ("data.max_length=65", "reads at most 64 tokens"),
        ("data.columns={txt: text}", "names the field 'txt'"),
        ("training.monitor=val_acc", "must be one of:"),
        ("training.learning_rate=nan", "training.learning_rate='nan'"),
        ("task.labels=[ham, sspam]", "must be one of: ham, sspam. Received: 'spam'"),
        ("strategy=multi-worker", "multi-worker"),
    ],
)
def test_wrong_recipes(refuses, recipe, mails, override, said):
    plan = recipe({"train": "mails.csv"})
    assert said in refuses("train", plan, override, "--out", "new/run")


@pytest.mark.parametrize("content", [b"5", b"null", b'"x"', b"[1]", b"{", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_preset_folder_that_makes_no_sense(refuses, recipe, preset, mails, name, content):
    shutil.copytree(preset, "preset")
    Path("preset", name).write_bytes(content)
    line = refuses("train", recipe({"train": "mails.csv"}), "preset=preset", "--out", "run")
    assert "preset" in line


def test_a_pickle_as_weights_is_not_opened(refuses, recipe, preset, mails):
    """Where a checkpoint has only a pickle, it is refused; nothing reads it."""
    os.mkdir("hf")
    Path("hf/config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    shutil.copy(f"{preset}/assets/tokenizer/vocabulary.txt", "hf/vocab.txt")
    Path("hf/pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch code-was-run'\ntR.")
    refuses("train", recipe({"train": "mails.csv"}), "preset=hf", "--out", "run")


# Folders that are there already


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--candidates", "no.csv"], "no.csv"),
        (["--candidates", "mails.csv"], "text-similarity.*Received: task 'text-classification'"),
        (["--candidates", "mails.csv", "--column", "txt"], "'txt'"),
        (["--candidates", "mails.csv", "--top", "0"], "--top.*greater than or equal to 1"),
        ([], "Missing option '--candidates'"),
    ],
)
def test_what_cannot_be_ranked(refuses, trained, tmp_path, words, said):
    written(tmp_path / "mails.csv", rows(4))
    assert re.search(said, refuses("rank", trained, "free", *words))


def test_no_run_is_overwritten(refuses, trained, recipe, mails):
    shutil.copytree(trained, "run")
    plan = recipe({"train": "mails.csv"})
    assert "a run is never overwritten" in refuses("train", plan, "--out", "run")
    assert "is complete" in refuses("train", plan, "--out", "run", "--resume")
    Path("file").write_text("x", encoding="utf-8")
    assert "file is a file" in refuses("train", plan, "--out", "file/run")


def test_the_report_of_a_run_is_not_written_over(refuses, trained, mails):
    assert "holds a run" in refuses("evaluate", trained, mails, "--out", trained)


def test_no_version_is_overwritten(refuses, trained):
    os.makedirs("models/m/2")
    Path("models/m/2/saved_model.pb").write_bytes(b"a model")
    line = refuses("export", trained, "models/m", "--version", 2)
    assert "models/m/2 exists" in line and "The next free one is 3" in line


# Run folders from elsewhere


@pytest.fixture
def foreign(trained, tmp_path):
    """A copy of a run, to be spoilt."""
    return Path(shutil.copytree(trained / "model", tmp_path / "foreign" / "model"))


def spoilt_json(path, change):
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")


CLIMBING = "../../outside/evil"


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["method"].update(name=CLIMBING),
        lambda r: r["task"].update(name=CLIMBING),
        lambda r: r["backbone"].update({"class": CLIMBING}),
        lambda r: r.update(trainable=[CLIMBING]),
        lambda r: r["backbone"]["config"].update(name=CLIMBING),
    ],
)
def test_names_that_climb_out_of_a_record(refuses, foreign, change):
    spoilt_json(foreign / "kerasft.json", change)
    refuses("predict", "foreign", "none.csv", "--out", "answers.jsonl")


def test_a_climbing_name_in_the_weights(refuses, foreign):
    from kerasft._core import weights

    arrays, notes = weights.read(str(foreign / "model.safetensors"))
    name = sorted(arrays)[0]
    arrays[CLIMBING] = arrays.pop(name)
    (foreign / "model.safetensors").write_bytes(weights.to_bytes(arrays, notes))
    line = refuses("predict", "foreign", "none.csv", "--out", "answers.jsonl")
    assert "does not fit the model: 2 weights are missing, unknown" in line
    shapes = {"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 10**15]}}
    head = json.dumps(shapes).encode()
    (foreign / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
    assert "not a whole safetensors file" in refuses("predict", "foreign", "none.csv")


def test_a_climbing_vocabulary(refuses, foreign, tmp_path):
    spelled = foreign / "tokenizer" / "tokenizer.json"
    spoilt_json(spelled, lambda r: r["config"].update(vocabulary="../../outside/vocabulary.txt"))
    assert "never loaded" in refuses("predict", "foreign", "none.csv")


def test_a_pickle_in_a_run_is_not_opened(kerasft, foreign, mails, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("model.pkl", "model.keras", "kerasft.pkl", "tokenizer/vocabulary.pkl"):
        (foreign / name).write_bytes(b"cos\nsystem\n(S'touch code-was-run'\ntR.")
    said = kerasft("predict", "foreign", mails)
    assert (said.code, said.err) == (0, "")
    assert len(said.out.splitlines()) == len(MAILS) and not Path("code-was-run").exists()
    with open(foreign / "model.pkl", "rb") as file:
        pickle.load(file)
    assert Path("code-was-run").exists(), "the payload would be seen"
