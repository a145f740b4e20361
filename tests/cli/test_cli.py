"""The command line: what it hands on, what it prints, and the code it ends with."""

import errno
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import kerasft
from kerasft._core.errors import DivergedError, InputError, Interrupted
from kerasft.cli.main import app, run

COMMANDS = [c.name or c.callback.__name__ for c in app.registered_commands]


class Fake:
    """Stands for what the public calls return; keeps what it was asked."""

    text = "4,000 rows"

    def __init__(self):
        self.asked = []
        self.report = self

    def train(self, recipe, out=None, resume=False):
        self.asked.append((recipe, out, resume))
        return self

    def doctor(self, recipe):
        self.asked.append(recipe)
        return self

    def load(self, folder, adapter=None):
        print("a progress bar")
        self.asked.append(folder)
        return self

    def predict_rows(self, data):
        self.asked.append(data)
        for label in ("spam", "垃圾"):
            print("a progress bar")
            yield {"label": label, "probabilities": [0.25, 0.75]}

    def rank(self, query, candidates, top=None):
        print("a progress bar")
        self.asked.append((query, candidates, top))
        yield {"text": candidates[1], "score": 0.5, "index": 1}

    def evaluate(self, data):
        print("a progress bar")
        self.asked.append(data)
        return self

    def export(self, folder, version=None, run=None, int8=False):
        self.asked.append((folder, version, run, int8))
        return f"{folder}/{version or 1}"

    def quickstart(self, out):
        self.asked.append(out)

    def to_json(self):
        return {"accuracy": 0.5, "labels": ["真"]}

    def print(self):
        print("accuracy 0.5")

    def save(self, folder):
        self.asked.append(("save", folder))


@pytest.fixture
def fake(monkeypatch):
    stand_in = Fake()
    monkeypatch.setattr("kerasft.cli.main.start_quietly", lambda: None)
    for name in ("train", "doctor", "load", "quickstart"):
        # Into __dict__, since asking the module for the real one would load TensorFlow.
        monkeypatch.setitem(vars(kerasft), name, getattr(stand_in, name))
    return stand_in


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("data: {train: mails.csv}\n", encoding="utf-8")
    return str(path)


def raising(monkeypatch, error):
    def load(folder, adapter=None):
        raise error

    monkeypatch.setattr("kerasft.cli.main.start_quietly", lambda: None)
    monkeypatch.setitem(vars(kerasft), "load", load)


ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(kerasft.__file__).parents[1])}
PROGRAM = [sys.executable, "-m", "kerasft"]


def shell(*words, stdout=subprocess.PIPE, cwd=None):
    """Run the program as a process of its own."""
    pipes = {"stdout": stdout, "stderr": subprocess.PIPE}
    return subprocess.run([*PROGRAM, *words], **pipes, text=True, cwd=cwd, env=ENVIRONMENT)


def python(code):
    """Run lines of Python in a process of its own, with no backend chosen for Keras."""
    env = {name: value for name, value in ENVIRONMENT.items() if name != "KERAS_BACKEND"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)


# Help


def test_the_commands_there_are():
    expected = "quickstart tasks methods presets doctor train evaluate predict rank export"
    assert set(expected.split()) <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    assert run([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Example: kerasft {command}" in shown


def test_no_words_show_the_help(capsys):
    assert run([]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)


def test_help_answers_within_a_second():
    seconds = []
    for _ in range(5):
        start = os.times()
        assert shell("--help").returncode == 0
        end = os.times()
        # The child's own time, so that a busy machine does not decide.
        seconds.append(end.children_user + end.children_system)
        seconds[-1] -= start.children_user + start.children_system
    assert 0 < statistics.median(seconds) < 1


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"kerasft {kerasft.__version__}\n"


# What is handed on, and what is printed


def test_train_hands_on_the_recipe_with_its_overrides(fake, recipe, capsys):
    assert run(["train", recipe, "training.epochs=5", "method=lora", "--out", "runs/a"]) == 0
    ((plan, out, resume),) = fake.asked
    assert (plan.data.train, plan.training.epochs, plan.method) == (
        "mails.csv",
        5,
        {"name": "lora"},
    )
    assert (out, resume) == ("runs/a", False)
    assert "runs/a" in capsys.readouterr().out


def test_train_resumes(fake, recipe):
    assert run(["train", recipe, "--out", "runs/a", "--resume"]) == 0
    assert fake.asked[0][2] is True


def test_doctor_prints_its_text(fake, recipe, capsys):
    assert run(["doctor", recipe, "seed=3"]) == 0
    assert fake.asked[0].seed == 3
    assert capsys.readouterr().out == "4,000 rows\n"


def test_quickstart_hands_on_the_folder(fake):
    assert run(["quickstart", "--out", "first"]) == 0
    assert fake.asked == ["first"]


def test_evaluate_prints_the_report_and_saves_it(fake, capsys):
    assert run(["evaluate", "runs/a", "test.csv", "--out", "scores"]) == 0
    assert fake.asked == ["runs/a", "test.csv", ("save", "scores")]
    assert capsys.readouterr().out == "accuracy 0.5\n"


def test_evaluate_as_json_prints_the_object_alone(fake, capsys):
    assert run(["evaluate", "runs/a", "test.csv", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == fake.to_json()
    assert "真" in printed.out
    assert "a progress bar" in printed.err


def test_predict_prints_one_json_line_a_row_and_nothing_else(fake, capsys):
    assert run(["predict", "runs/a", "new.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["spam", "垃圾"]
    assert "垃圾" in lines[1]


def test_predict_writes_a_file(fake, tmp_path, capsys):
    out = tmp_path / "new" / "answers.jsonl"
    assert run(["predict", "runs/a", "new.csv", "--out", str(out)]) == 0
    lines = out.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["spam", "垃圾"]
    assert capsys.readouterr().out == ""


def test_predict_leaves_nothing_half_written(fake, tmp_path, monkeypatch):
    def rows(data):
        yield {"label": "spam"}
        raise InputError("new.csv, line 3: an empty text.")

    monkeypatch.setattr(fake, "predict_rows", rows)
    (tmp_path / "answers.jsonl").write_text("before")
    assert run(["predict", "runs/a", "new.csv", "--out", str(tmp_path / "answers.jsonl")]) == 2
    assert os.listdir(tmp_path) == ["answers.jsonl"]
    assert (tmp_path / "answers.jsonl").read_text() == "before"


@pytest.mark.parametrize("more", [[], ["--top", "3", "--column", "body"]])
def test_rank_prints_one_json_line_a_candidate_and_nothing_else(fake, tmp_path, capsys, more):
    file = tmp_path / "answers.csv"
    file.write_text("text,body\none,two\n真,假\n", encoding="utf-8")
    assert run(["rank", "runs/search", "which", "--candidates", str(file), *more]) == 0
    texts = ["two", "假"] if more else ["one", "真"]
    assert fake.asked == ["runs/search", ("which", texts, 3 if more else None)]
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"text": texts[1], "score": 0.5, "index": 1} and texts[1] in line


@pytest.mark.parametrize("more", [[], ["--int8"]])
def test_export_prints_the_path(fake, capsys, more):
    assert run(["export", "runs/a", "saved_models/a", "--version", "3", *more]) == 0
    assert fake.asked == ["runs/a", ("saved_models/a", 3, "runs/a", bool(more))]
    assert capsys.readouterr().out == "saved_models/a/3\n"


@pytest.mark.parametrize("command", ["tasks", "methods", "presets"])
def test_a_list_has_a_line_for_each(command, capsys):
    assert run([command]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = {
        "tasks": lambda: kerasft.tasks.registry.names(),
        "methods": lambda: kerasft.methods.registry.names(),
        "presets": lambda: tuple(kerasft.backbones.presets()),
    }[command]()
    assert tuple(line.split()[0] for line in lines) == names
    assert all(len(line.split()) > 2 for line in lines)


@pytest.mark.parametrize(
    ("command", "name"),
    [("tasks", n) for n in kerasft.tasks.registry.names()]
    + [("methods", n) for n in kerasft.methods.registry.names()],
)
def test_all_is_told_of_one(command, name, capsys):
    """What it is, an example, and of a method where it comes from and its rate."""
    assert run([command, name]) == 0
    said = capsys.readouterr().out
    member = {"tasks": kerasft.tasks, "methods": kerasft.methods}[command].registry.get(name)
    assert said.startswith(member.__doc__.splitlines()[0]) and "Example:" in said
    assert said.endswith(getattr(member, "remark", "") + "\n")
    if command == "methods":
        assert "Reference" in said
        rate = vars(member).get("learning_rate")
        assert not isinstance(rate, float) or f"\nLearning rate by default: {rate:g}\n" in said


def test_an_unknown_one_is_refused(capsys):
    assert run(["methods", "lorra"]) == 2
    assert "lora" in capsys.readouterr().err


# How it ends


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            InputError("There is no column 'x'.\nReceived: a."),
            2,
            "error: There is no column 'x'. ",
        ),
        (DivergedError("The loss became nan."), 1, "error: The loss became nan. Run again with"),
        (Interrupted("Stopped at step 7; --resume goes on."), 75, "interrupted: Stopped at step 7"),
        (KeyboardInterrupt(), 130, "interrupted: Stopped by Ctrl-C."),
        (ZeroDivisionError("by zero"), 1, "error: ZeroDivisionError: by zero. Run again with --de"),
        (RuntimeError(""), 1, "error: RuntimeError: no message. Run again with --debug"),
        (OSError(errno.ENOSPC, "No space left on device", "/r/x"), 2, "error: The disk is full"),
        (RuntimeError("x.ckpt; No space left on device"), 2, "error: The disk is full"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/r"),
            2,
            "error: Permission denied: /r",
        ),
        (
            OSError(errno.EIO, "Input/output error"),
            1,
            "error: OSError: [Errno 5] Input/output error",
        ),
    ],
)
def test_an_error_is_one_line_and_a_code(monkeypatch, capsys, error, code, said):
    raising(monkeypatch, error)
    assert run(["export", "runs/a", "saved_models/a"]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(said)
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("words", ["--debug export a b", "export a b --debug"])
def test_debug_shows_the_traceback_wherever_it_stands(monkeypatch, capsys, words):
    raising(monkeypatch, InputError("There is no run."))
    assert run(words.split()) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("error: There is no run.\n")


def test_a_reader_who_goes_away_is_no_error(monkeypatch, capsys):
    raising(monkeypatch, BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert run(["export", "a", "b"]) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "Did you mean 'train'"),
        (["train", "recipe.yaml"], "--out"),
        (["train", "recipe.yaml", "--out", "a", "--resum"], "--resum"),
        (["export", "a", "b", "--version", "0"], "--version"),
        (["predict", "a"], "DATA"),
    ],
)
def test_a_wrong_line_of_words_is_one_line_and_2(capsys, words, said):
    assert run(words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert said in shown
    assert "--help" in shown
    assert shown.count("\n") == 1


# As a process


def test_the_process_ends_with_the_code_and_one_line(tmp_path):
    done = shell("train", "none.yaml", "--out", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: There is no recipe file none.yaml.")
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_the_notes_of_tensorflow_do_not_bury_the_line(tmp_path):
    done = shell("evaluate", "no-run", "test.csv", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_failing_start_of_tensorflow_shows_its_notes(monkeypatch, capfd):
    def fail(kind):
        os.write(2, b"a note of the C++ side\n")
        raise RuntimeError("no device")

    monkeypatch.setattr("tensorflow.config.list_physical_devices", fail)
    assert run(["methods"]) == 1
    shown = capfd.readouterr().err
    assert "a note of the C++ side" in shown
    assert "error: RuntimeError: no device" in shown


def test_a_mistake_in_the_recipe_is_told_before_anything_heavy_loads(recipe):
    code = (
        "import sys\n"
        "from kerasft.cli.main import run\n"
        f"code = run(['train', {recipe!r}, 'training.epoch=5', '--out', 'run'])\n"
        "print(code, 'keras' in sys.modules, 'tensorflow' in sys.modules)\n"
    )
    done = python(code)
    assert done.stdout == "2 False False\n"
    assert "Did you mean `training.epochs`?" in done.stderr


def test_the_process_says_nothing_when_its_reader_has_gone():
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*PROGRAM, "--help"], **pipes, env=ENVIRONMENT)
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141
    assert said == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_stdout_that_is_full_is_one_line_and_2():
    with open("/dev/full", "w") as full:
        done = shell("--version", stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith("error: The disk is full")
    assert done.stderr.count("\n") == 1


def test_python_m_sets_the_backend():
    code = (
        "import os, sys\n"
        "sys.argv = ['kerasft', '--version']\n"
        "from kerasft.cli.main import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    print(os.environ['KERAS_BACKEND'])\n"
    )
    done = python(code)
    assert done.stdout.splitlines()[-1] == "tensorflow"
