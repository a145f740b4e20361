"""Files and functions stay small enough to be read at once."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES = 500
MOST_BODY = 80


def sources() -> list[Path]:
    found = [p for room in ("kerasft", "tests", "benchmarks") for p in (ROOT / room).rglob("*.py")]
    return sorted([*found, ROOT / "setup.py"])


def long_functions(code: str) -> Iterator[str]:
    """Functions whose body, without its docstring, has more than `MOST_BODY` lines."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = node.end_lineno - body[0].lineno + 1 if body else 0
            if lines > MOST_BODY:
                yield f"{node.lineno}: {node.name} has {lines} lines"


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_file_and_functions_are_small(path):
    code = path.read_text(encoding="utf-8")
    assert code.count("\n") <= MOST_LINES
    assert list(long_functions(code)) == []


def test_a_long_function_is_found():
    body = "    x = 1\n" * MOST_BODY
    assert list(long_functions(f'def f():\n    """One\n\n    line."""\n{body}')) == []
    assert len(list(long_functions(f"def f():\n{body}    y = 2\n"))) == 1
