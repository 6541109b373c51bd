"""Tests that wait for `make test-all`: @pytest.mark.slow("why"). `make test` tells how many there are.

`make test-all ARGS="--collect-only -qqq"` lists how many of each file, and why.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

SLOW = pytest.StashKey[Counter[str]]()  # how many tests are slow, by file and reason


def slow(why: str, *parameters: Any) -> list[Any]:
    """Parameters whose tests wait: parametrize("seeds", [1, *slow("why", 2, 3)]); a tuple stands for several."""
    marks = pytest.mark.slow(why)
    return [pytest.param(*(each if isinstance(each, tuple) else (each,)), marks=marks) for each in parameters]


def why_slow(mark: pytest.Mark) -> str:
    """What the marker says: @pytest.mark.slow("why")."""
    if [*map(type, mark.args)] != [str]:
        raise pytest.UsageError('say why it is slow: @pytest.mark.slow("why")')
    return str(mark.args[0])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Refuse a slow test without a reason, where pytest names its file."""
    if mark := metafunc.definition.get_closest_marker("slow"):
        why_slow(mark)


@pytest.hookimpl(tryfirst=True)  # before -m leaves some out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    marks = ((item.location[0], item.get_closest_marker("slow")) for item in items)
    config.stash[SLOW] = Counter(f"{path}: {why_slow(mark)}" for path, mark in marks if mark)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of xdist, which collects, tells the process that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["slow"] = dict(session.config.stash.get(SLOW, {}))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """All workers collect the same; one that crashed tells nothing."""
    found = Counter(getattr(node, "workeroutput", {}).get("slow", {}))
    node.config.stash[SLOW] = node.config.stash.get(SLOW, Counter()) | found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """How many tests were left out as slow; with --collect-only which files have them, and why."""
    reasons = config.stash.get(SLOW, Counter[str]())
    if config.option.collectonly:
        for reason, count in sorted(reasons.items()):
            terminalreporter.write_line(f"{count:4} slow in {reason}")
    elif config.option.markexpr == "not slow":
        why = 'make test-all ARGS="--collect-only -qqq"'
        terminalreporter.write_line(f"{reasons.total()} slow tests wait for `make test-all`; why: {why}")
