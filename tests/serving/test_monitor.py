"""The monitor from a log to its alarms: the jump that a desk must hear, and silence without one."""

import json
import threading

import numpy as np
import pytest
import request_logs as logs

from kerasft._core.errors import InputError
from kerasft.cli.failures import ALARM, INPUT
from kerasft.cli.main import run
from kerasft.export.profile import Reference
from kerasft.serving.monitor import Options, watch
from kerasft.serving.monitor.compare import compare
from kerasft.serving.monitor.rules import Watch, read_rules
from kerasft.serving.monitor.windows import Windows


@pytest.fixture
def place(tmp_path):
    """A folder with a reference and rules."""
    logs.reference().save(tmp_path / "reference.json")
    (tmp_path / "rules.yaml").write_text(logs.RULES)
    return tmp_path


def options(place, log, **more):
    given = {"window": "100", "rules": str(place / "rules.yaml")} | more
    return Options(str(log), str(place / "reference.json"), **given)


def judged(place, log, **more):
    views = []
    view = watch(options(place, log, **more), views.append)
    return view, [event for v in views for event in v.events]


# --- the desk's case ----------------------------------------------------------------------------


def test_a_jump_of_negative_opinion_raises_one_alarm(place):
    log = logs.write(place / "log", logs.rows(0, jump=500))
    view, events = judged(place, log)
    (event,) = [e for e in events if e["rule"] == "negative-jump"]
    assert (event["event"], event["key"], event["severity"]) == ("raised", "negative", "alarm")
    # Two windows of 100 rows after row 500: the alarm stands at row 700, and not before.
    assert event["window"]["start"] == 600 and event["time"] == "2026-01-05T08:11:39.000Z"
    assert event["value"] > 0.35 and event["reference"] == 0.2 and event["rows"] == 100
    assert ("negative-jump", "negative") in view.alarms


def test_without_the_jump_there_is_none(place):
    log = logs.write(place / "log", logs.rows(0))
    view, events = judged(place, log)
    assert not events and not view.alarming


def alarmed(rules, reference, found, window=100):
    windows, seen = Windows(window, None, reference.features, known=reference.labels), Watch(rules)
    events = []
    for row in found:
        done = windows.add(row)
        if done is not None:
            events += [(done.start, e) for e in seen.judge(compare(reference, done))]
    return [(start, e["rule"]) for start, e in events if e["severity"] == "alarm"]


def test_how_often_it_is_wrong(place):
    """200 logs of 1,000 rows: none without a jump is alarmed, each with one is, in time.

    Two windows of 100 in a row with a share above 0.35 where it is 0.2: each has a chance of
    0.0002 (binomial), so both, of 9 pairs, about 4e-7. The bounds here are what was measured:
    0 false alarms of 200 logs (95% interval by Wilson: below 0.019).
    """
    from kerasft.serving.monitor.rows import Row

    reference = logs.reference()
    rules = read_rules(place / "rules.yaml", reference)

    def of(seed, jump):
        draw, calm = np.random.default_rng(seed), 1000 if jump is None else jump
        for i in [*draw.choice(3, calm, p=logs.SHARES), *draw.choice(3, 1000 - calm, p=logs.MOVED)]:
            yield Row(None, "desk", {}, (logs.LABELS[i],))

    false = [seed for seed in range(200) if alarmed(rules, reference, of(seed, None))]
    assert not false
    heard = [alarmed(rules, reference, of(seed, 500)) for seed in range(200)]
    right = [h for h in heard if (start := [s for s, r in h if r == "negative-jump"]) and start[0]]
    late = [h for h in right if h[0][0] > 900]
    assert len(right) == 200 and not late
    # An alarm before the jump would be as wrong as one without it.
    assert all(start >= 600 for h in heard for start, _ in h)


def test_the_default_rules_are_quiet_in_windows_of_500(place):
    """PSI of 4 features and the classes, 20 logs of 2 windows: no warning by chance."""
    for seed in range(20):
        log = logs.write(place / "log", logs.rows(seed))
        view, events = judged(place, log, window="500", rules=None)
        assert not events, seed
        assert len(view.findings) == 3 + 1 + 4 * 3  # shares, PSI of classes, and three a feature


def test_longer_texts_raise_psi(place):
    log = logs.write(place / "log", logs.rows(0, longer=6))
    view, events = judged(place, log, window="500", rules=None)
    assert {(e["rule"], e["key"]) for e in events} >= {("psi-alarm", "text_tokens")}
    states = {(f.quantity, f.key): state for f, state in view.findings}
    assert states["psi", "text_tokens"] == "alarm" and states["psi", "confidence"] == "ok"


def test_an_alarm_is_cleared_once_and_may_come_again(place):
    found = list(logs.rows(1, 600, jump=0))
    calm = list(logs.rows(2, 600))
    log = logs.write(place / "log", [*found, *calm, *found])
    _, events = judged(place, log)
    told = [e["event"] for e in events if e["rule"] == "negative-jump"]
    assert told == ["raised", "cleared", "raised"]


# --- windows ------------------------------------------------------------------------------------


def test_windows_of_time(place):
    log = logs.write(place / "log", logs.rows(0, jump=500))
    view, events = judged(place, log, window="2m")
    (event,) = [e for e in events if e["rule"] == "negative-jump"]
    assert event["rows"] == 120
    assert view.window.rows == 1000 % 120  # what is left at the end is a window too


def test_a_clock_that_goes_back(place):
    found = list(logs.rows(0))
    found[500]["time"] = "2020-01-01T00:00:00Z"
    found[501]["time"] = found[499]["time"]
    log = logs.write(place / "log", found)
    view, events = judged(place, log, window="5m")
    assert view.late == 1 and view.rows == 1000 and not view.broken and not events


def test_a_time_far_ahead_is_broken_and_swallows_nothing(place):
    found = list(logs.rows(0))
    found[10]["time"] = "2999-01-01T00:00:00Z"
    view, _ = judged(place, logs.write(place / "log", found), window="5m")
    assert view.broken == {"a time in the future": 1} and view.late == 0


@pytest.mark.parametrize("wrong", ["0", "-5", "1w", "", "1.5h", "1000000000000", "h"])
def test_a_wrong_window_is_refused(place, wrong):
    with pytest.raises(InputError, match="--window"):
        judged(place, logs.write(place / "log", []), window=wrong)


def test_a_window_is_kept_in_bounded_memory():
    from kerasft.serving.monitor import windows as w
    from kerasft.serving.monitor.rows import Row

    windows = Windows(100_000, None, ["score"])
    for i in range(50_000):
        windows.add(Row(None, "m", {"score": float(i), "other": 1.0}))
    kept = windows.open.values("score")
    assert len(kept) == w._KEPT
    # A uniform draw: its mean is that of all. Fails where the first values are kept alone.
    assert np.mean(kept) == pytest.approx(25_000, rel=0.03)


# --- wrong input --------------------------------------------------------------------------------


def test_broken_lines_are_counted(place):
    lines = [json.dumps(row) for row in logs.rows(0, 200)]
    no_number = dict(json.loads(lines[0]), outputs={"label": "neutral", "probabilities": "x"})
    broken = [
        '{"time": "2026-01',
        "null",
        "[" * 100_000,
        lines[0].replace("2026-01-05T08", "yesterday"),
        '{"model": "desk", "time": "2026-01-05T08:00:00Z", "outputs": {"score": NaN}}',
        '{"model": "desk", "time": "2026-01-05T08:00:00Z", "outputs": {"score": 1e999}}',
        '{"model": "desk", "time": "2026-01-05T08:00:00Z", "outputs": {"score": true}}',
        '{"model": "desk", "time": "2026-01-05T08:00:00Z"}',
        '{"model": 7, "time": "2026-01-05T08:00:00Z", "outputs": {}}',
        json.dumps(no_number),
        "\x00\x01",
    ]
    text = "\n".join([*lines[:100], *broken, "", *lines[100:]]) + "\n"
    (place / "log").write_bytes(text.encode() + b"\xff\xfe\n")
    view, _ = judged(place, place / "log")
    assert view.rows == 200 and sum(view.broken.values()) == len(broken) + 1
    assert view.broken["a number that is not finite"] == 1


def test_an_empty_log(place, capsys):
    log = logs.write(place / "log", [])
    assert run(["monitor", log, "--reference", str(place / "reference.json")]) == 0
    assert "no row yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"labels": ("ham", "spam", "eggs")},
            "is of another model: its labels are ham, spam, eggs",
        ),
        ({}, "There is no file"),
    ],
)
def test_what_ends_the_monitor_in_one_line(place, change, words, capsys):
    if change:
        logs.reference(**change).save(place / "reference.json")
        log = logs.write(place / "log", logs.rows(0, 100))
    else:
        log = str(place / "none")
    assert run(["monitor", log, "--reference", str(place / "reference.json")]) == INPUT
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1


def test_a_strange_class_later_is_counted(place):
    found = list(logs.rows(0, 200))
    found[150]["outputs"]["label"] = "eggs"
    view, _ = judged(place, logs.write(place / "log", found))
    assert view.broken == {"a class that the reference lacks": 1}
    assert {f.rows for f, _ in view.findings if f.quantity == "class_share"} == {99}


def test_two_models_in_a_log(place):
    log = logs.write(place / "log", [*logs.rows(0, 100), *logs.rows(1, 50, model="other")])
    with pytest.raises(InputError, match="several models: 'desk', 'other'"):
        judged(place, log)
    assert judged(place, log, model="other")[0].rows == 50


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"format": "kerasft-reference.v1"}',
        '{"format": "kerasft-reference.v1", "task": "t", "features": {"a": {"rows": 1}}}',
        "not json",
    ],
)
def test_a_damaged_reference_is_refused(place, text):
    (place / "reference.json").write_text(text)
    with pytest.raises(InputError, match="reference"):
        judged(place, logs.write(place / "log", []), rules=None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("edges", [2.0, 1.0]),
        ("edges", [float("nan")]),
        ("counts", [-1]),
        ("rows", 7),
        ("sample", []),
        ("sample", ["a"]),
    ],
)
def test_a_feature_with_wrong_numbers_is_refused(place, key, value):
    found = json.loads((place / "reference.json").read_text())
    found["features"]["text_tokens"][key] = value
    (place / "reference.json").write_text(json.dumps(found))
    with pytest.raises(InputError, match="damaged reference"):
        Reference.load(place / "reference.json")


def test_a_reference_comes_back_as_it_was(place):
    assert Reference.load(place / "reference.json") == logs.reference()


# --- embeddings ---------------------------------------------------------------------------------


def test_embeddings_are_compared_by_mmd(place):
    draw = np.random.default_rng(0)
    np.save(place / "before.npy", draw.normal(size=(300, 8)))
    (place / "rules.yaml").write_text("- {name: moved, quantity: mmd2, above: 0.05}\n")
    plain = list(logs.rows(0, 400))
    for i, row in enumerate(plain):
        row["outputs"] = {"embedding": (draw.normal(size=8) + (i >= 200)).tolist()}
    wide = plain[0] | {"outputs": {"embedding": [1.0] * 9}}
    log = logs.write(place / "log", [*plain[:100], wide, *plain[100:]])
    view, events = judged(place, log, window="200", embeddings=str(place / "before.npy"))
    assert [(e["rule"], e["window"]["start"]) for e in events] == [("moved", 200)]
    assert view.broken == {"an embedding of another width": 1}


@pytest.mark.parametrize("wrong", ["none", "text", "flat", "object"])
def test_wrong_embeddings_are_refused(place, wrong):
    path = place / "before.npy"
    if wrong == "text":
        path.write_text("[[1, 2]]")
    elif wrong != "none":
        array = np.zeros(3) if wrong == "flat" else np.array([{}, {}], object)
        np.save(path, array, allow_pickle=True)
    with pytest.raises(InputError):
        judged(place, logs.write(place / "log", []), embeddings=str(path))


# --- the command --------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_its_code_says_alarm(place, capsys):
    log = logs.write(place / "log", logs.rows(0, jump=500))
    words = [log, "--reference", str(place / "reference.json"), "--window", "100"]
    words += ["--rules", str(place / "rules.yaml")]
    assert run(["monitor", *words]) == ALARM == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("desk: the newest window has 100 of 1000 rows, 2026-01-05T08:15:00")
    assert lines[1].split() == ["quantity", "reference", "now", "statistic", "rows", "state"]
    (line,) = [text for text in lines if text.startswith("class_share negative")]
    assert line.endswith("alarm")
    assert lines[-1] == "An alarm stands: negative-jump (negative)"

    assert run(["monitor", *words, "--json"]) == ALARM
    found = json.loads(capsys.readouterr().out)
    assert found["alarms"] == [{"rule": "negative-jump", "key": "negative"}]
    assert found["window"]["rows"] == 100 and found["rows"] == 1000


def test_a_log_cannot_steer_the_terminal(place, capsys):
    log = logs.write(place / "log", logs.rows(0, 60, model="\x1b[2Jdesk"))
    assert run(["monitor", log, "--reference", str(place / "reference.json")]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["monitor"],
        ["monitor", "LOG"],
        ["monitor", "LOG", "--reference", "R", "--port", "9109"],
        ["monitor", "LOG", "--write-dashboard", "F"],
        ["monitor", "LOG.tfrecord", "--reference", "R", "--follow"],
        ["monitor", "LOG", "--reference", "R", "--port", "70000", "--follow"],
    ],
)
def test_wrong_words_are_refused(words, capsys):
    assert run(words) == INPUT
    assert capsys.readouterr().err.count("\n") == 1


def test_it_loads_no_tensorflow():
    import subprocess
    import sys

    code = (
        "import sys; from kerasft.serving.monitor import run, text, rules; "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_following_ends_when_it_is_told(place):
    stop = threading.Event()
    stop.set()
    view = watch(options(place, place / "none", follow=True, poll=0.01), stop=stop)
    assert view.window is None  # a log that is not there yet is waited for
