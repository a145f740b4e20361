"""Imports go to lower rooms only, and private names of Keras stay in the files named here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kerasft"

ROOMS = [
    {"_core", "_version"},
    {"data", "preprocessing", "optimizers", "metrics"},
    {"backbones"},
    {"heads", "methods", "objectives", "generation"},
    {"tasks"},
    {"evaluation"},
    {"export"},
    {"pipeline"},
    {"training"},
    {"serving", "explain", "compress", "tune"},
    {"", "testing"},  # "" is kerasft/__init__.py, which hands out every room
    {"cli"},
    {"__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
SURGERY = {
    "backbones/_surgery.py",
    "backbones/_surgery_cut.py",
    "backbones/_surgery_kernels.py",
    "backbones/_surgery_packing.py",
    "backbones/_surgery_soft.py",
    "optimizers/_surgery.py",
    "serving/_surgery.py",  # of aiohttp
}
# Names that are public in spite of their underscore.
PUBLIC = {"_asdict", "_fields", "_make", "_replace", "_exit"}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def modules_of(node: ast.AST, module: str) -> list[str]:
    """Absolute names of the modules that an import statement in `module` loads."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        parent = module.split(".")[: -node.level]
        base = ".".join([*parent, base] if base else parent)
    if base == "kerasft":  # `from kerasft import data` loads the room, `... import build` the root
        return [f"kerasft.{a.name}" if a.name in LEVEL else base for a in node.names]
    return [base]


def room_of(module: str) -> str:
    room = module.partition(".")[2].partition(".")[0]
    return "" if room == "__init__" else room


def wrong_arrows(code: str, module: str) -> list[str]:
    """What `module`, whose text is `code`, imports from rooms that are not below its own."""
    here = room_of(module)
    found = []
    for node in ast.walk(ast.parse(code)):
        for target in modules_of(node, module):
            there = room_of(target)
            if target.partition(".")[0] != "kerasft" or there == here:
                continue
            if there == "testing" or LEVEL[there] >= LEVEL[here]:
                found.append(f"{module}:{node.lineno} imports {target}")
    return found


def name_of(path: Path) -> str:
    """The module's name; that of a package ends in __init__, so that `.` means the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def private_uses(code: str) -> Iterator[str]:
    """Private names of Keras, KerasHub and of other foreign objects that the text uses.

    A name that the text itself defines is its own, and so is one of a module of ours; `self._x`
    that nothing here defines belongs to a foreign base class.
    """
    tree = ast.parse(code)
    own, modules = own_names(tree), own_modules(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.ImportFrom) else []
            for module in modules_of(node, "kerasft"):
                parts = [*module.split("."), *names]
                if parts[0] in ("keras", "keras_hub") and any(map(is_private, parts)):
                    yield f"{node.lineno}: imports {'.'.join(parts)}"
            continue
        value, name = looked_up(node)
        foreign = is_private(name) and name not in own and name != "src"
        if foreign and not (isinstance(value, ast.Name) and value.id in modules):
            yield f"{node.lineno}: {ast.unparse(node)}"


def is_private(name: str) -> bool:
    underscore = name.startswith("_") and not name.startswith("__")
    return name == "src" or (underscore and name != "_" and name not in PUBLIC)


def own_names(tree: ast.AST) -> set[str]:
    """Names that the text defines: functions, classes, variables, and attributes it sets."""
    own = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                own.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "object.__setattr__":
            own.add(getattr(node.args[1], "value", ""))
    return own


def own_modules(tree: ast.AST) -> set[str]:
    """Names that stand for modules and objects of kerasft in the text."""
    return {
        alias.asname or alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if (getattr(node, "module", None) or alias.name).startswith("kerasft")
    }


def looked_up(node: ast.AST) -> tuple[ast.AST | None, str]:
    """The object and the name of `x.name`, or of getattr(x, "name") and its kin."""
    if isinstance(node, ast.Attribute):
        return node.value, node.attr
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
        name = node.args[1]
        kin = node.func.id in ("getattr", "setattr", "hasattr", "delattr")
        if kin and isinstance(name, ast.Constant):
            return node.args[0], name.value
    return None, ""


def test_every_room_has_a_level():
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir() and list(p.glob("*.py"))}
    files = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__"}
    assert rooms | files <= set(LEVEL)


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_to_lower_rooms(path):
    assert wrong_arrows(path.read_text(encoding="utf-8"), name_of(path)) == []


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_private_names_stay_in_surgery(path):
    if path.relative_to(PACKAGE).as_posix() not in SURGERY:
        assert list(private_uses(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("code", "module"),
    [
        ("import kerasft.tasks", "kerasft.heads.linear"),
        ("from kerasft.methods import LoRA", "kerasft.heads.linear"),
        ("def f():\n    from kerasft import pipeline", "kerasft.data.source"),
        ("from kerasft import data, build", "kerasft.training.train"),
        ("import kerasft as kf", "kerasft.pipeline"),
        ("from ..tasks import registry", "kerasft.methods.lora"),
        ("from .. import training", "kerasft.export.saved"),
        ("from kerasft.testing import tiny", "kerasft.cli.main"),
    ],
)
def test_a_wrong_arrow_is_found(code, module):
    assert len(wrong_arrows(code, module)) == 1


@pytest.mark.parametrize(
    ("code", "module"),
    [
        ("from kerasft._core import files", "kerasft.cli.main"),
        ("from kerasft.heads.pool import mean", "kerasft.heads.linear"),
        ("from . import pool\nfrom .pool import mean", "kerasft.heads.linear"),
        ("import kerasft as kf", "kerasft.cli.main"),
        ("import keras.layers", "kerasft._core.stack"),
        ("from kerasft._version import __version__", "kerasft.__init__"),
    ],
)
def test_a_right_arrow_is_left_alone(code, module):
    assert wrong_arrows(code, module) == []


@pytest.mark.parametrize(
    "code",
    [
        "from keras.src.layers import Dense",
        "from keras import _tf_keras",
        "import keras_hub.src.models",
        "layer._tracker.unlock()",
        "model.layers[0]._layers",
        "getattr(layer, '_tracker')",
        "setattr(layer, '_layers', [])",
        "class A(keras.Model):\n    def f(self):\n        return self._loss_tracker",
    ],
)
def test_a_private_name_is_found(code):
    assert len(list(private_uses(code))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "class A:\n    _x = 1\n    def f(self):\n        self._y = self._x\n        return self._y",
        "from kerasft.methods import _sites\n_sites._walk()",
        "class A:\n    def f(self, other):\n        self._x = 1\n        return other._x",
        "row._replace(a=1)",
        "setup.src",
        "model.__class__",
        "import keras\nkeras.layers.Dense(1)",
    ],
)
def test_a_name_of_our_own_is_left_alone(code):
    assert list(private_uses(code)) == []
