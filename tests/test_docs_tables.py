"""The tables of the documents hold every key, family, option and room that there is."""

import ast
import dataclasses
import re
import shlex
from pathlib import Path

import pytest
from test_docs import parse

from kerasft import metrics, training
from kerasft.backbones import FAMILIES
from kerasft.evaluation import Collector, Report, _kinds
from kerasft.methods import adapt
from kerasft.methods import registry as methods
from kerasft.tasks import registry as tasks
from kerasft.training.recipe import Recipe

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kerasft"


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def section(name, heading):
    """What stands under a heading, up to the next of any level."""
    return re.split(r"^#+ ", read(name).split(f"# {heading}\n")[1], flags=re.M)[0]


def rows(text):
    """The cells of each row of the tables in a text, without the heads."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        found += [[c.strip() for c in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    return found


def keys(text):
    """The code spans in the first cell of each row."""
    return [key for row in rows(text) for key in re.findall(r"`([^`]+)`", row[0])]


# --- recipe -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "model"),
    [("Top level", Recipe), ("data", training.recipe.Data), ("training", training.recipe.Training)],
)
def test_every_key_of_a_recipe_is_told(heading, model):
    assert keys(section("docs/recipe.md", heading)) == list(model.model_fields)


@pytest.mark.parametrize("heading", ["Top level", "data", "training"])
def test_defaults_of_a_recipe_are_true(heading):
    recipe = Recipe(data={"train": "x.csv"})
    values = recipe if heading == "Top level" else getattr(recipe, heading)
    for key, default, _ in rows(section("docs/recipe.md", heading)):
        value = getattr(values, key.strip("`"))
        value = value["name"] if isinstance(value, dict) and "name" in value else value
        said = default.strip("`")
        if isinstance(value, bool) or value == {}:
            assert said == str(value).lower()
        elif isinstance(value, int | float):
            assert float(said) == value
        elif value is not None and "#124" not in said and key not in ("`data`", "`training`"):
            assert said in (str(value), "")


@pytest.mark.parametrize("name", tasks.names())
def test_every_option_of_a_task_is_told(name):
    fields = [f.name for f in dataclasses.fields(tasks.get(name)) if f.init]
    assert keys(section("docs/recipe.md", f"task: {name}")) == fields


def test_every_option_of_a_method_is_told():
    told = {row[0].strip("`"): row[1] for row in rows(section("docs/recipe.md", "method"))}
    assert set(told) == set(methods.names())
    for name, text in told.items():
        for field in dataclasses.fields(methods.get(name)):
            assert f"`{field.name}`" in text


# --- scores -------------------------------------------------------------------------------------


def scored():
    """The scores of each problem, as the reports have them."""
    two = ["a", "b"]
    return {
        "single-label": metrics.multiclass([0, 1], [[0.9, 0.1], [0.2, 0.8]], two),
        "multi-label": metrics.multilabel([[1, 0], [0, 1]], [[0.9, 0.1], [0.2, 0.8]], two),
        "regression": metrics.scores([1.0, 2.0, 4.0], [1.5, 2.0, 3.0]),
    } | {kind: collected(kind, *rows) for kind, rows in KINDS.items()}


# Right answers and outputs of one row or two, enough for every score that a kind has.
KINDS = {
    "entities": ([[("A", 0, 1)]], [[("A", 0, 1)]]),
    "answers": ([["x"], []], [("x", 0.9), ("", 0.1)]),
    "generation": (["x y"], ["x y"]),
    "perplexity": ([4], [2.0]),
    "ranking": ([[0, 1]], [[0.5, 0.7]]),
    "similarity": ([0.0, 1.0], [0.1, 0.5]),
}


def collected(kind, y_true, outputs):
    collector = Collector("t", kind)
    collector.add({}, y_true, outputs)
    return collector.report().after


def test_every_score_is_told():
    table = rows(section("docs/metrics.md", "metrics.json"))
    told = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in table}
    means = {key for row in table for key in re.findall(r"`(\w+)`", row[0])}
    means |= {f"{a}_{b}" for a in ("macro", "micro", "weighted") for b in ("precision", "recall")}
    assert set(_kinds.KINDS) - {"multiclass", "multilabel"} <= set(scored())
    for problem, found in scored().items():
        numbers = [k for k, v in found.items() if not isinstance(v, (dict, list))]
        assert sorted(told[problem]) == sorted(numbers)
        for name in numbers:
            assert name in means or re.sub(r"_at_\d+$", "_at_10", name) in means, name


def forms(name):
    """How the docstring may say a key: whole, with K for its depth, or its ending alone."""
    return name, re.sub(r"_at_\d+$", "_at_K", name), f"`{name.rpartition('_')[2]}`"


def test_every_key_of_metrics_json_is_told():
    text = section("docs/metrics.md", "metrics.json")
    report = Report("text-classification", "multiclass", scored()["single-label"])
    told = set(re.findall(r"`(\w+)`", text))
    assert set(report.to_json()) <= told
    said = Report.to_json.__doc__
    for kind in KINDS:
        for name in Report("t", kind, scored()[kind]).to_json()["after"]:
            assert any(form in said for form in forms(name)), name
    assert set(report.to_json()) - set(report.to_json()["after"]) <= set(keys(text))


# --- families and rooms -------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_table_of_families(page):
    kinds = {
        "encoder": ("encoder", "编码器"),
        "decoder": ("decoder", "解码器"),
        "encoder-decoder": ("encoder-decoder", "编码器-解码器"),
    }
    names = {f"`{family.name}`": family for family in FAMILIES}
    told = {row[0]: row[1:] for row in rows(read(page)) if row[0] in names and len(row) == 4}
    assert list(told) == list(names)
    for name, (kind, pooling, types) in told.items():
        family = names[name]
        assert re.split("[ ,，]", kind)[0] in kinds[family.kind]
        assert pooling in ([family.head.pooling] if family.head else ["none", "无"])
        # A folder of the type `llama` is loaded with the class of Llama 3, which computes the same.
        expected = ["llama", "llama3"] if family.name == "llama" else list(family.model_types)
        assert re.findall(r"`([^`]+)`", types) == expected


def test_rooms_and_files_of_the_architecture_exist():
    text = read("ARCHITECTURE.md")
    rooms = set(re.findall(r"`(\w+)/`", section("ARCHITECTURE.md", "Rooms and levels")))
    there = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()}
    assert there <= rooms
    assert rooms - there <= {"kerasft", "serving", "explain", "compress", "tune"}
    for path in re.findall(r"`([\w./]+\.py)`", text):
        places = [ROOT / path, PACKAGE / path, PACKAGE / "training" / path]
        if not path.endswith(("NAME.py", "norms.py")):
            assert any(place.exists() for place in places), path


def test_the_method_of_the_architecture_works(monkeypatch):
    from kerasft.backbones import load

    page = read("ARCHITECTURE.md").split("<!-- the tests run this file -->\n```python\n")[1]
    code = page.split("```")[0]
    assert code.count("\n") <= 30 and ast.parse(code)
    monkeypatch.setattr(methods, "_members", {n: methods.get(n) for n in methods.names()})
    space = {"__name__": "kerasft.methods.norms"}
    exec(compile(code, "norms.py", "exec"), space)
    methods.register(space["Norms"])
    assert "norms" in methods.describe()
    adapted = adapt(load("bert_tiny")[0], "norms")
    moving = [v.path for v in adapted.trainable_variables]
    assert len(moving) == 8 and all("layer_norm" in path for path in moving)


# --- what is shown ------------------------------------------------------------------------------


def promises():
    return rows(read("docs/SHOWN.md"))


def test_every_promise_is_shown_or_not_yet():
    assert len(promises()) > 50
    for promise, command, state in promises():
        assert re.match(r"(shown|not yet)(:|$)", state), promise
        assert command or state.startswith("not yet"), promise


def test_the_commands_that_show_it_exist():
    for _, command, _ in promises():
        words = shlex.split(command.strip("`"))
        if words[:1] == ["kerasft"]:
            parse(words[1:])
        elif words[:1] == ["python"]:
            assert (ROOT / words[1]).is_file(), command
        for word in words:
            if word.startswith("tests"):
                file, _, node = word.partition("::")
                path = ROOT / file
                assert path.exists(), word
                assert not node or f"def {node.partition('[')[0]}(" in path.read_text("utf-8"), word


def test_every_task_has_a_section_with_its_sample_and_recipe():
    """docs/tasks.md: the recipes are those of the files, and the samples their first lines."""
    page = read("docs/tasks.md")
    assert re.findall(r"^## ([\w-]+)$", page, re.M) == sorted(tasks.names())
    for name, told in re.findall(r"^## ([\w-]+)\n(.*?)(?=^## |\Z)", page, re.M | re.S):
        shown = re.findall(r"recipe is `(examples/[\w-]+\.yaml)`:\n\n```\n(.*?)\n```", told, re.S)
        assert shown, name
        for path, text in shown:
            own = [line for line in read(path).splitlines() if not line.startswith("#")]
            assert text.splitlines() == own, path
            (sample,) = re.findall(r"examples/data/[\w.-]+", text)
            assert "\n".join(read(sample).splitlines()[:2]) in told, (name, sample)
