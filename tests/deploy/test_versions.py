"""Labels, rollback and what stays loaded: every change is one TF Serving takes."""

import os

import pytest
from version_folders import put_version

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.export.deploy import config, versions


class Server:
    """TF Serving's rules for a file that it reads again (server_core.cc): labels are judged by what
    is loaded now; one that is refused leaves everything as it is."""

    def __init__(self, folder, unavailable=True):
        self.folder, self.unavailable = folder, unavailable
        self.loaded, self.labels = set(), {}

    def poll(self):
        text = (self.folder / versions.CONFIG).read_text(encoding="utf-8")
        (model,) = config.read_models_config(text)
        for label, number in model.labels.items():
            new = self.labels.get(label, number) == number
            if number not in self.loaded and not (self.unavailable and new):
                return False
        there = sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdigit())
        self.labels = dict(model.labels)
        wanted = {"all": there, "latest": there[-1:]}.get(model.policy, model.policy)
        self.loaded = set(wanted)
        return True


def state(folder):
    found = versions.versions(folder)
    return (
        {label: v.number for v in found for label in v.labels},
        {v.number for v in found if v.served},
    )


def text_of(folder):
    return (folder / versions.CONFIG).read_text(encoding="utf-8")


def test_without_labels_the_latest_is_loaded(exported):
    assert state(exported) == ({}, {4})
    assert not (exported / "deploy").exists()


def test_a_label_loads_its_version_alone(exported):
    versions.label(exported, "stable", 3)
    assert state(exported) == ({"stable": 3}, {3})
    (model,) = config.read_models_config(text_of(exported))
    assert model == config.ServedModel("spam", "/models/spam", (3,), {"stable": 3})


def test_a_server_takes_every_step_of_a_release_and_its_rollback(exported):
    """Fails if `rollback` goes to a version that was dropped, or `label` to one not loaded."""
    server = Server(exported)
    versions.label(exported, "stable", 2)
    assert server.poll() and server.labels == {"stable": 2}
    versions.label(exported, "canary", 3)
    assert server.poll() and server.loaded == {2, 3}
    versions.label(exported, "stable", 3)
    assert server.poll() and server.labels == {"canary": 3, "stable": 3}
    versions.remove_label(exported, "canary")
    assert server.poll() and server.loaded == {2, 3}
    assert versions.rollback(exported) == 2
    assert server.poll() and (server.labels, server.loaded) == ({"stable": 2}, {2})


def test_moving_a_label_to_a_version_that_is_not_loaded_is_refused(exported):
    server = Server(exported)
    versions.label(exported, "stable", 2)
    assert server.poll()
    before = text_of(exported)
    with pytest.raises(InputError, match="--load 3"):
        versions.label(exported, "stable", 3)
    assert text_of(exported) == before
    # Why: the file that would have been written is refused for ever.
    wrong = config.models_config("spam", "/models/spam", (2, 3), {"stable": 3})
    files.write_text(exported / versions.CONFIG, wrong)
    assert not server.poll() and not server.poll()
    files.write_text(exported / versions.CONFIG, before)
    versions.load(exported, 3)
    assert server.poll()
    versions.label(exported, "stable", 3)
    assert server.poll() and server.labels == {"stable": 3}


def test_the_version_before_leaves_when_the_label_moves_on(exported):
    for number in (1, 2, 3):
        versions.load(exported, number)
    versions.label(exported, "stable", 1)
    assert state(exported)[1] == {1, 2, 3, 4}  # loaded by hand, and 4 was the latest
    for number in (2, 3, 4):
        versions.retire(exported, number)
    versions.load(exported, 2)
    versions.label(exported, "stable", 2)
    assert state(exported)[1] == {1, 2}
    versions.load(exported, 3)
    versions.label(exported, "stable", 3)
    assert state(exported)[1] == {2, 3}


def test_rollbacks_follow_the_history(exported):
    for number in (1, 2, 3):
        versions.load(exported, number)
        versions.label(exported, "stable", number)
    assert "# stable: 1 2 3\n" in text_of(exported)
    assert versions.rollback(exported) == 2
    assert state(exported) == ({"stable": 2}, {1, 2, 4})  # 4 was the latest when 1 was loaded
    assert versions.rollback(exported) == 1
    with pytest.raises(InputError, match="no version before 1"):
        versions.rollback(exported)


def test_a_rollback_leaves_a_version_that_another_label_needs(exported):
    versions.label(exported, "stable", 2)
    versions.label(exported, "canary", 3)
    versions.label(exported, "stable", 3)
    versions.rollback(exported)
    assert state(exported) == ({"stable": 2, "canary": 3}, {2, 3})


def test_a_version_that_was_deleted_is_no_longer_gone_back_to(exported):
    for number in (1, 2, 3):
        versions.load(exported, number)
        versions.label(exported, "stable", number)
    files.remove_tree(exported / "2")
    with pytest.raises(InputError, match="Version 1 is not loaded"):
        versions.rollback(exported)
    versions.load(exported, 1)
    assert versions.rollback(exported) == 1


def test_a_file_that_was_edited_by_hand_is_believed(exported):
    versions.label(exported, "stable", 2)
    edited = config.models_config("spam", "/srv/spam", (2, 3), {"stable": 3})
    files.write_text(exported / versions.CONFIG, "# stable: 2\n" + edited)
    assert versions.rollback(exported) == 2
    (model,) = config.read_models_config(text_of(exported))
    assert model.base_path == "/srv/spam"


def test_other_models_of_the_file_stay(exported):
    other = config.ServedModel("ham", "/models/ham", (7,), {"stable": 7})
    mine = config.ServedModel("spam", "/models/spam")
    files.write_text(exported / versions.CONFIG, config.write_models_config([other, mine]))
    versions.label(exported, "stable", 2)
    assert config.read_models_config(text_of(exported))[0] == other
    versions.remove_label(exported, "stable")
    assert config.read_models_config(text_of(exported)) == (other, mine)
    files.write_text(exported / versions.CONFIG, config.write_models_config([other, other]))
    with pytest.raises(InputError, match="one model 'spam'"):
        versions.versions(exported)


def test_without_the_last_label_the_latest_is_loaded_again(exported):
    versions.label(exported, "stable", 2)
    versions.remove_label(exported, "stable")
    assert state(exported) == ({}, {4})
    with pytest.raises(InputError, match="the labels: none. Received: 'stable'"):
        versions.rollback(exported)


def test_retire(exported):
    versions.retire(exported, 4)
    assert state(exported) == ({}, {3})
    versions.label(exported, "stable", 2)
    with pytest.raises(InputError, match="has the label stable"):
        versions.retire(exported, 2)
    with pytest.raises(InputError, match="Received: 1"):
        versions.retire(exported, 1)
    versions.load(exported, 3)
    versions.label(exported, "stable", 3)
    versions.retire(exported, 2)
    assert state(exported) == ({"stable": 3}, {3})
    with pytest.raises(InputError, match="no version before"):
        versions.rollback(exported)


def test_the_only_version_is_not_retired(tmp_path):
    put_version(tmp_path / "m", 1)
    with pytest.raises(InputError, match="the only one"):
        versions.retire(tmp_path / "m", 1)
    assert not (tmp_path / "m" / "deploy").exists()


def test_what_is_known_of_a_version(exported):
    files.write_json(exported / "2" / versions.METRICS, {"accuracy": 0.5})
    os.utime(exported / "2" / "saved_model.pb", (86400, 86400))
    second = versions.versions(exported)[1]
    assert second.number == 2 and second.whole and not second.served
    assert second.metrics == {"accuracy": 0.5} and second.time == "1970-01-02T00:00:00Z"


@pytest.mark.parametrize(
    "gone",
    [
        "saved_model.pb",
        "variables/variables.index",
        "variables/variables.data-00001-of-00002",
    ],
)
def test_a_version_that_lacks_a_part_is_not_whole(tmp_path, gone):
    folder = tmp_path / "m"
    put_version(folder, 3, shards=2)
    assert versions.versions(folder)[0].whole
    (folder / "3" / gone).unlink()
    assert not versions.versions(folder)[0].whole
    with pytest.raises(InputError, match="is not whole"):
        versions.label(folder, "stable", 3)


def test_numbers_are_ordered_as_numbers(tmp_path):
    for number in (10, 9, 2):
        put_version(tmp_path / "m", number)
    (tmp_path / "m" / "deploy").mkdir()
    assert [v.number for v in versions.versions(tmp_path / "m")] == [2, 9, 10]


@pytest.mark.parametrize("number", [0, 5, -1, "3", None, True])
def test_an_unknown_version_is_refused(exported, number):
    for change in (versions.load, lambda folder, n: versions.label(folder, "stable", n)):
        with pytest.raises(InputError, match="has the versions 1, 2, 3, 4"):
            change(exported, number)
    assert not (exported / "deploy").exists()


@pytest.mark.parametrize("name", ["my label", "", "a/b", "stäble", None])
def test_a_label_is_one_word(exported, name):
    with pytest.raises(InputError, match="A label is one word"):
        versions.label(exported, name, 3)


def test_a_folder_that_is_no_model_is_refused(exported, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(InputError, match="holds no versions"):
            versions.versions(folder)
    with pytest.raises(InputError, match="It is one version"):
        versions.versions(exported / "3")


def test_a_broken_file_is_named(exported):
    for content, said in ((b"nonsense {", "line:column"), (b"\xff", "not UTF-8")):
        files.write_bytes(exported / versions.CONFIG, content)
        with pytest.raises(InputError, match=said):
            versions.versions(exported)


def test_the_file_changes_whole_or_not_at_all(exported, monkeypatch):
    versions.label(exported, "stable", 2)
    before = text_of(exported)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError):
        versions.load(exported, 3)
    assert text_of(exported) == before
    assert [p.name for p in (exported / "deploy").iterdir()] == ["models.config"]
