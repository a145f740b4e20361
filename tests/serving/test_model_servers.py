"""How TF Serving is found, started and ended, tried with a stand-in: see stand_in.py."""

import os
import subprocess
import sys
from pathlib import Path

import model_servers
import pytest
import stand_in
from half_plus_two import write_version

HERE = Path(__file__).parent


@pytest.fixture
def named(tmp_path, monkeypatch):
    """Name a program of one line of shell as TF Serving's binary."""

    def name(line):
        path = stand_in.script(tmp_path / "tensorflow_model_server", line)
        monkeypatch.setenv(model_servers.BINARY, str(path))
        return path

    return name


def test_the_binary_is_found_by_name_or_on_the_path(named, tmp_path, monkeypatch):
    path = named("exit 0")
    assert model_servers.binary() == str(path)
    monkeypatch.delenv(model_servers.BINARY)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert model_servers.binary() == str(path)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert model_servers.binary() is None
    # What is named is never left out in silence.
    monkeypatch.setenv(model_servers.BINARY, str(tmp_path / "nowhere" / "binary"))
    with pytest.raises(AssertionError, match="names no program"):
        model_servers.binary()


def test_one_that_ends_says_why(named):
    named("echo unknown flag >&2; exit 3")
    with (
        pytest.raises(AssertionError, match="ended: unknown flag"),
        model_servers.tf_serving(model="half"),
    ):
        pass


def test_one_that_never_serves_is_ended_also_against_its_will(named, monkeypatch, tmp_path):
    monkeypatch.setattr(model_servers, "START", 0.2)
    monkeypatch.setattr(model_servers, "END", 0.2)
    kept = tmp_path / "pid"
    named(f"trap '' TERM; echo $$ > {kept}; while :; do sleep 0.05; done")
    with (
        pytest.raises(AssertionError, match="did not serve in time"),
        model_servers.tf_serving(model="half"),
    ):
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(int(kept.read_text()), 0)


def test_the_stand_in_takes_tf_servings_flags_and_no_others(tmp_path):
    program = stand_in.program(tmp_path)
    done = subprocess.run(
        [program, "--rest_api_port=1", "--no_such_flag=1"], capture_output=True, text=True
    )
    assert done.returncode != 0 and "--no_such_flag" in done.stderr


def test_the_stand_in_is_asked_and_ended(tmp_path, monkeypatch):
    """Without a model that loads it does not serve, and says so with its own words."""
    write_version(tmp_path / "half", 1)  # no SavedModel: the stand-in has the C runtime
    monkeypatch.setenv(model_servers.BINARY, str(stand_in.program(tmp_path)))
    with (
        pytest.raises(AssertionError, match=r"(?s)ended: .*half/1 does not load"),
        model_servers.of_folder(model_servers.TF_SERVING, str(tmp_path / "half")),
    ):
        pass


@pytest.mark.slow
def test_every_test_of_conformance_runs_against_a_binary_that_is_named(tmp_path):
    """By both ways to start it: with a models.config, and with a base path and a name."""
    asked = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "slow or not slow",
        "-p",
        "no:cacheprovider",
    ]
    asked += ["-rA", "--color=no", str(HERE / "test_conformance.py")]
    env = os.environ | {model_servers.BINARY: str(stand_in.program(tmp_path))}
    done = subprocess.run(asked, capture_output=True, text=True, env=env, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:]
    passed = [line for line in done.stdout.splitlines() if line.startswith("PASSED")]
    both = [sum(f"[{name}" in line for line in passed) for name in ("kerasft", "tensorflow_model")]
    assert both[0] == both[1] > 30
    assert "servers asked: covered 2 of 2" in done.stdout
