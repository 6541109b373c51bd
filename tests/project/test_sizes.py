"""No class, function or file of the sources is too long to be read at once; tables of kernels are no such."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("core", "sweep") for path in (ROOT / folder).rglob("*.py"))
MOST = {ast.ClassDef: 150, ast.FunctionDef: 40, ast.AsyncFunctionDef: 40}
FILE = 300
KERNELS = "core/backends/cpu/kernels/"


def too_long(path: Path) -> list[str]:
    """What of a file is longer than it may be."""
    name, text = path.relative_to(ROOT).as_posix(), path.read_text()
    found = [name] if len(text.splitlines()) > FILE else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            found += [f"{name}:{node.name}"] * (lines > MOST[type(node)])
    return found


def test_nothing_is_too_long() -> None:
    sources = [path for path in SOURCES if not path.relative_to(ROOT).as_posix().startswith(KERNELS)]
    assert len(sources) > 100
    assert [name for path in sources for name in too_long(path)] == []


@pytest.mark.parametrize(("lines", "long"), [(40, False), (41, True)])
def test_a_long_function_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int, long: bool) -> None:
    monkeypatch.setattr("tests.project.test_sizes.ROOT", tmp_path)
    file = tmp_path / "a.py"
    file.write_text("def f():\n" + "    pass\n" * (lines - 1))
    assert too_long(file) == (["a.py:f"] if long else [])
