"""One call writes all that lies beside a model, and leaves alone what a team may have changed."""

import dataclasses
import json
import subprocess
import sys

import pytest
import yaml
from version_folders import put_graph, put_version

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.export.deploy import checksums, config, versions, warmup
from kerasft.export.deploy.write import KEPT, Description, write_deployment, write_extras

SIGNATURES = {"serving_default": ("predict", {"text": "string"})}
REPORT = {"after": {"accuracy": 0.9}, "rows": 3, "split": "test"}
SPAM = Description(
    "spam",
    SIGNATURES,
    {"text": "free prize"},
    {"name": "text-classification", "labels": ["ham", "spam"]},
    {"kerasft": "0.1.0"},
    {"report": REPORT},
    (("serving_default", "predict", {"text": ["free prize"]}),),
)
DEPLOY = {*KEPT, "client.py", "requests.sh"}
EXTRAS = {"checksums.txt", "metrics.json", "model_card.md", "tf_serving_warmup_requests"}


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "saved_models" / "spam"
    put_version(made, 3)
    put_graph(made / "3", {"serving_default": ("predict", {"text": ("string", [None])})})
    return made


def names(folder):
    return {p.name for p in folder.iterdir()}


def test_all_files_are_there(folder):
    written = write_deployment(folder, SPAM, version=3)
    assert names(folder / "deploy") == DEPLOY and names(folder / "3/assets.extra") == EXTRAS
    assert {p.rsplit("/", 1)[1] for p in written} == DEPLOY | EXTRAS
    texts = {n: (folder / "deploy" / n).read_text(encoding="utf-8") for n in DEPLOY}
    assert config.read_models_config(texts["models.config"]) == (
        config.ServedModel("spam", "/models/spam"),
    )
    assert config.read_batching_config(texts["batching.config"])["max_batch_size"] == 32
    assert config.read_monitoring_config(texts["monitoring.config"]) == config.METRICS_PATH
    assert "spam" in yaml.safe_load(texts["docker-compose.yaml"])["services"]
    assert len(list(yaml.safe_load_all(texts["kubernetes.yaml"]))) == 3
    compile(texts["client.py"], "client.py", "exec")


def test_what_belongs_to_the_version(folder):
    write_deployment(folder, SPAM, version=3)
    (found,) = versions.versions(folder)
    assert found.metrics == {"accuracy": 0.9} and found.whole
    ((name, method, inputs),) = warmup.read_warmup(folder / "3")
    assert (name, method, list(inputs["text"])) == ("serving_default", "predict", [b"free prize"])
    card = (folder / "3/assets.extra/model_card.md").read_text(encoding="utf-8")
    assert card.startswith("# spam, version 3\n") and "| accuracy |  | 0.9000 |" in card
    # All other files are under the check sums: fails if one is written after them.
    assert checksums.verify(folder / "3") == 3 + len(EXTRAS) - 1


def test_the_reference_of_the_run_goes_with_the_version(folder):
    told = {"format": "kerasft-reference.v1", "task": "t"}
    given = dataclasses.replace(SPAM, run={"reference": told})
    write_deployment(folder, given, version=3)
    place = folder / "3/assets.extra/reference.json"
    assert json.loads(place.read_text()) == told
    place.write_text("{}")  # it is under the check sums
    with pytest.raises(InputError):
        checksums.verify(folder / "3")


def test_a_second_export_keeps_what_may_have_been_changed(folder):
    write_deployment(folder, SPAM, version=3)
    versions.label(folder, "stable", 3)
    for name in set(KEPT) - {"models.config"}:
        (folder / "deploy" / name).write_text("# mine\n")
    kept = {n: (folder / "deploy" / n).read_bytes() for n in KEPT}
    (folder / "deploy" / "client.py").write_text("old")
    put_version(folder, 4)
    put_graph(folder / "4", {"serving_default": ("predict", {"text": ("string", [None])})})
    written = write_deployment(folder, SPAM, version=4)
    assert {n: (folder / "deploy" / n).read_bytes() for n in KEPT} == kept
    assert {p.rsplit("/", 1)[1] for p in written} == {"client.py", "requests.sh"} | EXTRAS
    assert (folder / "deploy" / "client.py").read_text(encoding="utf-8") != "old"


def test_without_a_version_none_is_touched(folder):
    write_deployment(folder, SPAM)
    assert not (folder / "3/assets.extra").exists()


def test_extras_go_into_a_folder_of_any_name(folder, tmp_path):
    (folder / "3").rename(tmp_path / ".3.tmp")
    write_extras(tmp_path / ".3.tmp", SPAM, version=3)
    assert names(tmp_path / ".3.tmp/assets.extra") == EXTRAS


def test_without_run_and_requests_there_is_less(folder):
    plain = Description("spam", SIGNATURES, {}, {"name": "text-classification"})
    write_extras(folder / "3", plain)
    assert names(folder / "3/assets.extra") == {"checksums.txt", "model_card.md"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "a b"}, "no blanks"),
        ({"name": "a" * 64}, "Kubernetes takes names"),
        ({"signatures": {"x": ("ask", {})}}, "predict, classify, regress"),
        ({"batching": {"max_batch_size": 0}}, "max_batch_size=0"),
    ],
)
def test_a_wrong_description_is_refused_at_once(changes, said):
    given = {"name": "spam", "signatures": SIGNATURES, "samples": {}, "task": {}} | changes
    with pytest.raises(InputError) as told:
        Description(**given)
    assert said in str(told.value)


def test_a_request_that_does_not_fit_is_refused(folder):
    wrong = (("serving_default", "predict", {"txt": ["a"]}),)
    with pytest.raises(InputError, match="Received: txt"):
        write_deployment(folder, Description("spam", SIGNATURES, {}, {}, requests=wrong), version=3)
    assert not (folder / "deploy").exists() and not (folder / "3/assets.extra").exists()


def test_texts_need_no_tensorflow(folder):
    plain = {"name": "spam", "signatures": SIGNATURES, "samples": {}, "task": {}}
    code = (
        "import json, sys; from kerasft.export.deploy import Description, write_deployment\n"
        f"plain = json.loads({json.dumps(plain)!r})\n"
        f"write_deployment({str(folder)!r}, Description(**plain), version=3)\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert names(folder / "deploy") == DEPLOY
    assert files.exists(folder / "3/assets.extra/checksums.txt")
