"""benchmarks/RESULTS.md says what the run files say, and neither names a machine."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


harness, results = load("_harness"), load("make_results")


def run(name="demo", seconds=1.0, limit=2.0):
    return {
        "name": name,
        "what": "A demonstration.",
        "time": "2025-01-02 03:04 UTC",
        "commit": "abc1234",
        "command": "python benchmarks/demo.py",
        "python": "3.11.7",
        "system": "Linux",
        "cores": 2,
        "packages": {"keras": "3.15.1"},
        "seeds": [0, 1],
        "values": {"seconds": seconds},
        "bounds": [
            {"name": "seconds", "value": seconds, "relation": "<=", "limit": limit}
            | {"met": seconds <= limit}
        ],
        "raw": {"seconds": [seconds, seconds]},
    }


def test_the_page_is_what_the_runs_give():
    page = (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8")
    assert page == results.render(BENCHMARKS / "runs"), "run python benchmarks/make_results.py"


def test_methods_that_were_weak_say_so(monkeypatch):
    from kerasft.methods import registry

    monkeypatch.syspath_prepend(BENCHMARKS)
    said = {n: getattr(registry.get(n), "remark", "") for n in registry.names()}
    assert load("methods").weak() == {n: remark for n, remark in said.items() if remark}


def test_a_method_below_head_only_is_found(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    methods = load("methods")
    monkeypatch.setattr(methods, "PLACE", tmp_path)
    scores = {"head-only": (0.8, 0.6), "good": (0.9, 0.7), "bad": (0.9, 0.4), "begun": (0.1, None)}
    for name, pair in scores.items():
        for seed, score in enumerate(pair):
            for data in [d for d in methods.DATA if score is not None][: None if seed else 2]:
                row = {"method": name, "data": data, "seed": seed, "score": score}
                (tmp_path / f"{data}-{name}-{seed}.json").write_text(json.dumps(row))
    assert list(methods.weak()) == ["bad"]
    assert "head-only 0.67" in methods.weak()["bad"] and "score 0.57" in methods.weak()["bad"]


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "runs").glob("*.json")), ids=lambda p: p.stem)
def test_a_run_says_only_what_it_may(path):
    text = path.read_text(encoding="utf-8")
    kept = json.loads(text)
    assert set(kept) == set(run())
    assert re.fullmatch(rf"{re.escape(kept['name'])}-\d{{8}}-\d{{6}}", path.stem)
    assert harness.scrub(kept) == kept
    for bound in kept["bounds"]:
        fields = {key: bound[key] for key in ("name", "value", "relation", "limit")}
        assert harness.Bound(**fields).met is bound["met"]


def test_newest_first_and_missed_is_said(tmp_path):
    for stamp, seconds in (("20250102-030400", 1.0), ("20250103-030400", 3.0)):
        (tmp_path / f"demo-{stamp}.json").write_text(json.dumps(run(seconds=seconds)))
    page = results.render(tmp_path)
    assert "| seconds | 3 | <= 2 | **missed** |" in page
    assert page.index("demo-20250103-030400.json") < page.index("Older runs:")
    assert "1 of 1 bounds met: seconds 1" in page.split("Older runs:")[1]
    assert page == results.render(tmp_path)


def test_paths_and_names_of_places_are_cut():
    given = {"model": "/home/ann/models/minilm", "list": ["--data=/srv/x/spam", "a/b and 1/2"]}
    assert harness.scrub(given) == {"model": "minilm", "list": ["--data=spam", "a/b and 1/2"]}
    assert harness.scrub("hf://a/b and gs://c/d") == "hf://a/b and gs://c/d"


def test_a_bound_with_nan_is_missed():
    assert not harness.Bound("loss", float("nan"), "<=", 1.0).met
    assert not harness.Bound("loss", float("nan"), ">=", 1.0).met
    assert harness.Bound("loss", 1.0, "<=", 1.0).met


def test_record_writes_a_run_that_the_page_reads(tmp_path):
    bound = harness.Bound("seconds", 1.0, "<=", 2.0)
    path = harness.record("demo", "A.", values={"seconds": 1.0}, bounds=[bound], folder=tmp_path)
    assert set(json.loads(path.read_text())) == set(run())
    assert path.name in results.render(tmp_path)


def test_in_turns_alternates():
    seen = []
    calls = {name: lambda n, name=name: seen.append(f"{name}{n}") for name in "ab"}
    harness.in_turns([3, 5], **calls)
    assert seen == ["a3", "b3", "a5", "b5"]
