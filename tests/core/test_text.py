"""Values as text, and tables on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from core.text import as_text, as_toml, print_table


@pytest.mark.parametrize(
    ("value", "table", "toml"),
    [
        (None, "-", "-"),
        (True, "yes", "true"),
        (3, "3", "3"),
        (1 / 3, "0.333333", "0.333333"),
        ("32x64", "32x64", "32x64"),
    ],
)
def test_values(value: Any, table: str, toml: str) -> None:
    assert (as_text(value), as_toml(value)) == (table, toml)


def test_a_float_has_the_format_that_is_asked_for() -> None:
    assert as_text(0.68541, ".4f") == "0.6854"
    assert as_toml(123456.0, ".3g") == "1.23e+05"
    assert as_text(True, ".4f") == "yes"


HEADER, ROWS = ["trial", "lr", "accuracy"], [["grid-01", "0.1", "0.5123"], ["[b]x[/b]", "-", "0.4000"]]


class Terminal(io.StringIO):
    """A stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, **options: Any) -> list[str]:
    """The lines of the table on a terminal of so many columns, without colours."""
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    print_table(HEADER, ROWS, **options)
    return [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in screen.getvalue().splitlines()]


def test_elsewhere_a_table_is_separated_by_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(HEADER, ROWS, title="grid", spare=["lr"], too_wide="no room")
    assert capsys.readouterr().out == "trial\tlr\taccuracy\ngrid-01\t0.1\t0.5123\n[b]x[/b]\t-\t0.4000\n"


def test_on_a_terminal_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_terminal(monkeypatch, 80, title="grid") == [
        "grid",
        "trial      lr  accuracy",
        "grid-01   0.1    0.5123",
        "[b]x[/b]    -    0.4000",
    ]


def test_a_narrow_one_leaves_columns_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_terminal(monkeypatch, 22, spare=["lr", "accuracy"]) == [
        "trial     accuracy",
        "grid-01     0.5123",
        "[b]x[/b]    0.4000",
    ]


def test_or_says_that_it_is_too_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_terminal(monkeypatch, 20, too_wide="no room") == ["no room"]
    assert on_terminal(monkeypatch, 26, too_wide="no room")[0] == "trial      lr  accuracy"
