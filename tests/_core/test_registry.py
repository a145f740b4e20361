"""The registry finds members in files, builds them from mappings, and names what is wrong."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest

from kerasft import methods, objectives, tasks
from kerasft._core.errors import InputError
from kerasft._core.registry import Registry

SOURCE = '''
from dataclasses import dataclass
from typing import ClassVar

@dataclass(frozen=True)
class Apple:
    """An apple a day.

    More.
    """
    name: ClassVar[str] = "apple"
    size: int
    colours: tuple[str, ...] = ("red",)

@dataclass(frozen=True)
class Helper:
    x: int = 0
'''


@pytest.fixture
def fruit(tmp_path, monkeypatch, request):
    """A registry over a package with one member."""
    package = f"fruit_{abs(hash(request.node.name))}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / package / "apple.py").write_text(SOURCE)
    (tmp_path / package / "_private.py").write_text("raise RuntimeError('never imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return Registry("fruit", package)


@dataclass(frozen=True)
class Pear:
    """A pear."""

    name: ClassVar[str] = "pear"


def test_a_file_in_the_room_is_found(fruit):
    assert fruit.names() == ("apple",)
    assert fruit.describe() == {"apple": "An apple a day."}
    assert fruit.get("apple") is fruit.get("apple.v1")


def test_what_was_measured_is_told_with_it(fruit, monkeypatch):
    monkeypatch.setattr(fruit.get("apple"), "remark", "Sour before autumn.", raising=False)
    assert fruit.describe() == {"apple": "An apple a day. Sour before autumn."}
    assert fruit.explain("apple").endswith("\n\nSour before autumn.")


def test_build_and_config_are_inverse(fruit):
    apple = fruit.build({"name": "apple", "size": 3, "colours": ["green", "red"]})
    assert apple.colours == ("green", "red")
    config = json.loads(json.dumps(fruit.config(apple)))
    assert config == {"name": "apple", "size": 3, "colours": ["green", "red"]}
    assert fruit.build(config) == apple
    assert fruit.build(apple) is apple


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "aple"}, "must be one of: apple.* Did you mean 'apple'"),
        ({"name": "apple", "sise": 3}, "no option 'sise'; it has: size, colours. Did you mean 'si"),
        ("apple", "The fruit 'apple' needs: size"),
        ({"size": 3}, "a mapping with the key `name`"),
        (3, "A fruit is a name"),
        ("apple.v2", "This release of kerasft has no fruit 'apple.v2'.* or use 'apple'"),
    ],
)
def test_what_is_wrong_is_named(fruit, spec, message):
    if spec == "apple":
        with pytest.raises(InputError, match=message):
            fruit.build({"name": "apple"})
        return
    with pytest.raises(InputError, match=message):
        fruit.build(spec)


def test_register_from_outside(fruit):
    assert fruit.register(Pear) is Pear
    assert fruit.register(Pear) is Pear, "twice the same is once"
    assert fruit.names() == ("apple", "pear")
    assert fruit.build("pear") == Pear()


def test_register_refuses(fruit):
    @dataclass(frozen=True)
    class OtherApple:
        name: ClassVar[str] = "pear"

    @dataclass
    class Soft:
        name: ClassVar[str] = "soft"

    fruit.register(Pear)
    with pytest.raises(ValueError, match="Two fruits are named 'pear'"):
        fruit.register(OtherApple)
    with pytest.raises(TypeError, match="must be a frozen dataclass"):
        fruit.register(Soft)
    with pytest.raises(TypeError, match="A fruit is a frozen dataclass"):
        fruit.register(int)


@pytest.mark.parametrize("room", [methods, tasks, objectives])
def test_members_of_the_rooms_are_documented_and_round_trip(room):
    for name, line in room.registry.describe().items():
        assert len(line) > 10 and line.endswith("."), f"{name}: {line}"
        member = room.registry.get(name)()
        config = json.loads(json.dumps(room.registry.config(member)))
        assert room.registry.build(config) == member


def test_the_rooms_hand_out_their_classes():
    assert methods.LoRA(rank=4).rank == 4
    assert tasks.TextClassification.name == "text-classification"
    assert {"LoRA", "Freeze", "Full", "Adapted", "adapt"} <= set(dir(methods))
    for room in (methods, tasks):
        with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
            room.Nothing  # noqa: B018
