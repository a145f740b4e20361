"""The documents say what is there: commands parse, links lead somewhere, both languages agree."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer

from kerasft.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
TEXTS = [
    *PAGES,
    ROOT / "benchmarks" / "RESULTS.md",
    *(ROOT / "examples").rglob("*.*"),
    *(ROOT / "notebooks").glob("*.ipynb"),
]
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
PLACES = re.compile(r"(?<![\w.])/(?:home|root|work|tmp|Users|mnt|srv)/|[A-Z]:\\")


def read(path):
    return path.read_text(encoding="utf-8")


def name(path):
    return str(path.relative_to(ROOT))


def blocks(text, *languages):
    """The fenced blocks of some languages, of all when none is given."""
    return [code for lang, code in FENCE.findall(text) if not languages or lang in languages]


def prose(text):
    """A page without its fenced blocks."""
    return FENCE.sub("", text)


def sections(text):
    """(level of the heading, what stands below it), in order."""
    parts = re.split(r"^(#+) .*$", prose(text), flags=re.M)
    return list(zip(map(len, parts[1::2]), parts[2::2], strict=True))


def commands(text):
    """The `kerasft ...` lines of shell blocks, also behind `&&` and with their folder."""
    for line in "".join(blocks(text, "bash")).splitlines():
        for part in line.split(" && "):
            words = shlex.split(part)
            if words and words[0].rpartition("/")[2] == "kerasft":
                yield words[1:]


def parse(words):
    """Read one command line as `kerasft` would, without running it."""
    command = typer.main.get_command(app).commands[words[0]]
    return command.make_context(words[0], list(words[1:])).params


def links(text):
    return re.findall(r"\]\(([^)#\s]+)\)", prose(text))


def without_comments(code):
    return re.sub(r" *# .*$", "", code, flags=re.M)


# --- commands -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_commands_parse(path):
    for words in commands(read(path)):
        parse(words)


def test_commands_of_the_examples_parse():
    for path in (ROOT / "examples").glob("*.yaml"):
        found = re.findall(r"^#   kerasft (.+)$", read(path), re.M)
        assert found, path
        for line in found:
            params = parse(shlex.split(line))
            file = params.get("recipe", params.get("candidates"))
            assert file is None or (ROOT / file).is_file()


def test_a_wrong_command_is_found():
    with pytest.raises(Exception, match="No such option"):
        parse(["train", "a.yaml", "--outt", "runs/a"])
    with pytest.raises(KeyError):
        parse(["fit", "a.yaml"])


def test_every_command_is_in_the_readme():
    said = {words[0] for words in commands(read(ENGLISH))}
    said |= set(re.findall(r"`kerasft (\w+)`", read(ENGLISH)))
    assert said == set(typer.main.get_command(app).commands)


def test_the_two_commands_are_those_of_ci():
    quickstart, tests = (b.strip() for b in blocks(read(ENGLISH), "bash")[:2])
    venv = "python3 -m venv .venv && .venv/bin/"
    assert quickstart == f"{venv}pip install -q . && .venv/bin/kerasft quickstart"
    assert tests == f"{venv}pip install -q -e '.[test]' && .venv/bin/python -m pytest -q -n 2"
    ci = read(ROOT / ".ci" / "run")
    assert "-m pip install -q -e '.[test]'" in ci and ci.rstrip().endswith("-m pytest -q -n 2")
    assert tests in read(ROOT / "CONTRIBUTING.md")


# --- code ---------------------------------------------------------------------------------------


def attributes(code):
    """(what stands before the dot, the name after it) for each attribute in a piece of Python."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute):
            before = node.value.func if isinstance(node.value, ast.Call) else node.value
            yield ast.unparse(before), node.attr


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_python_blocks_use_names_that_exist(path):
    import kerasft
    from kerasft import Pipeline

    for code in blocks(read(path), "python"):
        for before, attribute in attributes(code):
            if before in ("pipe", "kf.load", "kf.train"):
                assert hasattr(Pipeline, attribute), attribute
            elif before.split(".")[0] == "kf":
                found = kerasft
                for part in [*before.split(".")[1:], attribute]:
                    found = getattr(found, part)


def test_yaml_blocks_are_recipes():
    from kerasft import Recipe
    from kerasft.training import yaml_text

    for path in (ENGLISH, CHINESE, ROOT / "docs" / "recipe.md"):
        (code,) = blocks(read(path), "yaml")
        Recipe(**yaml_text.parse(code, path.name)).method_value()


# --- links and places ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, ROOT / "benchmarks" / "RESULTS.md"], ids=name)
def test_relative_links_resolve(path):
    for target in links(read(path)):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_no_line_names_a_place_on_a_machine(path):
    assert [line for line in read(path).splitlines() if PLACES.search(line)] == []


def test_the_picture_is_light():
    assert (ROOT / "docs" / "images" / "overview.png").stat().st_size < 200_000


# --- two languages ------------------------------------------------------------------------------


def test_both_readmes_have_the_same_headings():
    levels = [[level for level, _ in sections(read(path))] for path in (ENGLISH, CHINESE)]
    assert levels[0] == levels[1] and len(levels[0]) > 20


def test_both_readmes_have_the_same_code():
    codes = [[without_comments(c) for c in blocks(read(p))] for p in (ENGLISH, CHINESE)]
    assert codes[0] == codes[1]


def test_both_readmes_name_the_same_things_in_each_section():
    for (_, one), (_, other) in zip(sections(read(ENGLISH)), sections(read(CHINESE)), strict=True):
        assert sorted(re.findall(r"`[^`]+`", one)) == sorted(re.findall(r"`[^`]+`", other))
        for mark in (r"^\|", r"^- "):
            assert len(re.findall(mark, one, re.M)) == len(re.findall(mark, other, re.M))
        own = {"README.md", "README.zh.md"}
        assert [x for x in links(one) if x not in own] == [x for x in links(other) if x not in own]
        assert numbers(one) == numbers(other)


def numbers(text):
    """Numbers outside of code and links, but for those that the languages write differently."""
    text = re.sub(r"`[^`]+`|\]\([^)]*\)|4\.4 M|440 万", "", text)
    return sorted(re.findall(r"\d+(?:[.,]\d+)*", text))
