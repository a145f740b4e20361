"""Versions come and go, and no request notices."""

import shutil
import threading
import time

import pytest
from half_plus_two import Loads, Running, until, write_version

from kerasft._core.errors import InputError
from kerasft.serving import Batching, ModelConfig


def state(running, version):
    return running.core.models.status("half")[version].state


def poll(running):
    running.call(running.core.models.poll())


def models(folder, *policy, **labels):
    return (ModelConfig("half", str(folder), *policy, labels=labels),)


def test_a_new_version_is_switched_to_and_the_old_one_unloaded(folder):
    with Running(folder) as running:
        write_version(folder, 2, plus=3.0)
        assert running.predict([1.0])[1] == {"predictions": [2.5]}  # not looked yet
        poll(running)
        assert running.predict([1.0])[1] == {"predictions": [3.5]}
        until(lambda: state(running, 1) == "END")
        assert running.loads.made[1].closed and not running.loads.made[2].closed
        assert running.predict([1.0], "/versions/1")[0] == 404
        answer = running.ask("GET", "/v1/models/half")[1]["model_version_status"]
        found = [(one["version"], one["state"]) for one in answer]
        assert found == [("2", "AVAILABLE"), ("1", "END")]


def test_the_folder_is_looked_at_without_being_told(folder):
    with Running(folder, poll=0.02) as running:
        write_version(folder, 2, plus=3.0)
        until(lambda: running.predict([1.0])[1] == {"predictions": [3.5]})


@pytest.mark.parametrize("batching", [None, Batching(batch_timeout_micros=1000)])
def test_switching_under_load_fails_no_request(folder, batching):
    """Each version is closed once it is left, and a fake that runs after its close fails."""
    with Running(folder, batching=batching) as running:
        answers, over = [], threading.Event()

        def client():
            while not over.is_set():
                answers.append(running.predict([1.0]))

        clients = [threading.Thread(target=client) for _ in range(4)]
        for thread in clients:
            thread.start()
        for version in range(2, 7):
            write_version(folder, version, plus=float(version))
            poll(running)
            until(lambda v=version: (200, {"predictions": [v + 0.5]}) in answers)
        over.set()
        for thread in clients:
            thread.join()
        assert {status for status, _ in answers} == {200}
        until(lambda: [running.loads.made[v].closed for v in range(1, 7)] == [True] * 5 + [False])


def test_a_version_stays_until_its_last_request_has_left(folder):
    with Running(folder) as running:
        old, answers = running.loads.made[1], []
        old.gate.clear()
        slow = threading.Thread(target=lambda: answers.append(running.predict([1.0])))
        slow.start()
        until(lambda: old.running)
        write_version(folder, 2, plus=3.0)
        poll(running)
        assert running.predict([1.0])[1] == {"predictions": [3.5]}  # a new one goes to the new
        assert state(running, 1) == "UNLOADING" and not old.closed
        old.gate.set()
        slow.join()
        assert answers == [(200, {"predictions": [2.5]})]
        until(lambda: old.closed)


def test_a_version_whose_clients_have_gone_is_not_closed_while_it_runs(folder):
    with Running(folder) as running:
        old = running.loads.made[1]
        old.gate.clear()
        body = {"instances": [1.0]}
        path, deadline = "/v1/models/half:predict", {"Grpc-Timeout": "20m"}
        assert running.ask("POST", path, body, deadline)[0] == 504
        write_version(folder, 2)
        poll(running)
        time.sleep(0.05)
        assert old.running and not old.closed  # fails where only requests hold a version
        old.gate.set()
        until(lambda: old.closed)


def test_the_old_version_stays_where_the_new_one_does_not_load(folder):
    with Running(folder) as running:
        (folder / "2").mkdir()
        poll(running)
        assert running.predict([1.0])[1] == {"predictions": [2.5]}
        broken = running.ask("GET", "/v1/models/half/versions/2")[1]["model_version_status"][0]
        assert broken["state"] == "END"
        assert broken["status"]["error_code"] == "DATA_LOSS"
        assert "no saved_model.pb" in broken["status"]["error_message"]
        # Once its files have changed it is tried again.
        (folder / "2" / "saved_model.pb").write_text("3.0")
        poll(running)
        assert running.predict([1.0])[1] == {"predictions": [3.5]}


def test_a_broken_version_is_not_tried_again_and_again(folder):
    tried = []

    class Counting(Loads):
        def __call__(self, place):
            tried.append(place)
            return super().__call__(place)

    with Running(folder, load=Counting()) as running:
        (folder / "2").mkdir()
        for _ in range(3):
            poll(running)
    assert [place.rpartition("/")[2] for place in tried] == ["1", "2"]


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ((), [3]),
        (("latest", 2), [2, 3]),
        (("all", 0), [1, 2, 3]),
        (("specific", (1, 3)), [1, 3]),
    ],
)
def test_the_policy_says_which_versions_are_served(folder, policy, served):
    for version in (2, 3):
        write_version(folder, version, plus=float(version))
    for name in ("notes", "\u00b2", "\u0664"):  # digits of other writings are no versions
        (folder / name).mkdir()
    (folder / "4").write_text("a file is no version")
    with Running(folder, models=models(folder, *policy)) as running:
        assert running.core.models.versions() == {"half": served}
        # Without a version the newest answers; the oldest would give 2.5.
        assert running.predict([1.0])[1] == {"predictions": [max(served) + 0.5]}


def test_versions_are_ordered_as_numbers(folder):
    for version in (9, 10):
        write_version(folder, version, plus=float(version))
    with Running(folder) as running:
        assert running.predict([1.0])[1] == {"predictions": [10.5]}  # by letters 9 is the last


def test_labels_name_versions(folder):
    write_version(folder, 2, plus=3.0)
    with Running(folder, models=models(folder, "all", 0, stable=1, canary=2)) as running:
        assert running.predict([1.0], "/labels/stable")[1] == {"predictions": [2.5]}
        assert running.predict([1.0], "/labels/canary")[1] == {"predictions": [3.5]}
        assert running.predict([1.0], "/labels/none")[0] == 400
    with (
        pytest.raises(InputError, match="assign label canary to version 2"),
        Running(folder, models=models(folder, "specific", (1,), canary=2)),
    ):
        pass


def test_a_folder_that_goes_away_takes_nothing_with_it_and_an_empty_one_does(folder):
    with Running(folder) as running:
        folder.rename(folder.parent / "aside")
        poll(running)
        assert running.predict([1.0])[0] == 200
        folder.mkdir()
        poll(running)
        assert running.predict([1.0])[0] == 404
        assert running.ask("GET", "/readyz")[0] == 503
        assert running.ask("GET", "/healthz")[0] == 200


def test_a_version_that_comes_back_is_served_again(folder):
    write_version(folder, 2, plus=3.0)
    with Running(folder) as running:
        shutil.rmtree(folder / "2")
        poll(running)
        assert running.predict([1.0])[1] == {"predictions": [2.5]}
        write_version(folder, 2, plus=3.0)
        poll(running)
        assert running.predict([1.0])[1] == {"predictions": [3.5]}
        assert state(running, 2) == "AVAILABLE"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (("nowhere",), "Could not find base path"),
        (("empty",), "No versions of servable half found"),
        (("half", "specific", (1, 7)), "has no version 7"),
        (("broken",), "does not load: no saved_model.pb that can be read"),
    ],
)
def test_a_server_does_not_start_without_its_versions(folder, config, message):
    (folder.parent / "empty").mkdir()
    (folder.parent / "broken" / "1").mkdir(parents=True)
    place, *policy = config
    with (
        pytest.raises(InputError, match=message),
        Running(folder, models=models(folder.parent / place, *policy)),
    ):
        pass
