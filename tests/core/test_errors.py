"""What is said of an error: never nothing."""

from __future__ import annotations

import ast
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.arguments import exit_status
from core.errors import InputError, reason

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("core", "sweep", "bench") for path in (ROOT / folder).rglob("*.py"))
OURS = {"InputError", "UnfinishedError", "UnreachableError", "DamageError", "Interrupted"}  # which always have a text

REASONS = [
    (EOFError(), "it ends too early"),
    (MemoryError(), "no more could be had"),
    (TimeoutError(), "no answer came in time"),
    (AssertionError(), "AssertionError"),
    (ValueError("\n"), "ValueError"),
    (ValueError("first\nsecond"), "first"),
    (KeyError("settings"), "'settings' is missing"),
    (KeyError("there is no such run"), "there is no such run"),
    (KeyError(), "KeyError"),
    (OSError(errno.ENOSPC, "No space left on device", "a.npz"), "No space left on device"),
    (OSError("without a number"), "without a number"),
    (OSError(), "OSError"),
]


@pytest.mark.parametrize(("error", "said"), REASONS, ids=[repr(error) for error, _ in REASONS])
def test_an_error_always_has_a_reason(error: Exception, said: str) -> None:
    assert reason(error) == said


def test_a_command_says_why_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise MemoryError

    assert exit_status(command) == 1
    assert capsys.readouterr().err.startswith("error: out of memory: no more could be had; ")


def told_raw(tree: ast.AST) -> Iterator[int]:
    """Lines that put a caught exception itself into a text, although it may have none."""
    for handler in ast.walk(tree):
        if not isinstance(handler, ast.ExceptHandler) or handler.name is None or handler.type is None:
            continue
        if {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} <= OURS:
            continue
        for node in ast.walk(handler):
            values = [node.value] if isinstance(node, ast.FormattedValue) else []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "str":
                values = node.args
            for value in values:
                alternatives = value.values if isinstance(value, ast.BoolOp) else [value]
                if any(isinstance(part, ast.Name) and part.id == handler.name for part in alternatives):
                    yield node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=[path.relative_to(ROOT).as_posix() for path in SOURCES])
def test_no_exception_is_told_by_its_text_alone(path: Path) -> None:
    assert list(told_raw(ast.parse(path.read_text()))) == []


def test_which_texts_are_found() -> None:
    code = 'try:\n    pass\nexcept {kind} as e:\n    raise InputError(f"no: {{{shown}}}")'
    for kind, shown, found in (
        ("EOFError", "e", [4]),
        ("(EOFError, InputError)", "e or 1", [4]),
        ("EOFError", "str(e)", [4]),
        ("EOFError", "reason(e)", []),
        ("InputError", "e", []),
    ):
        assert list(told_raw(ast.parse(code.format(kind=kind, shown=shown)))) == found


def test_an_input_error_is_told_as_it_is() -> None:
    assert reason(InputError("lr is -1")) == "lr is -1"
