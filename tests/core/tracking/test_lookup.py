"""Reading: what is there is as it was, and what is not there is not made."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from core.errors import InputError
from core.evaluate.__main__ import main as evaluate
from core.figures.__main__ import main as figures
from core.tracking.tracker import Tracker
from sweep.__main__ import main as sweep


@pytest.fixture
def empty(project: Path) -> Path:
    """A project without a store."""
    (project / "mlflow.db").unlink()
    return project


def test_a_store_is_made_by_its_first_experiment(empty: Path) -> None:
    tracker = Tracker()
    assert tracker.lookup.experiments() == tracker.lookup.runs("1") == tracker.model("some").versions() == []
    assert tracker.lookup.experiment_id("some") is None
    assert not tracker.lookup.deleted("0" * 32)
    assert tracker.model("some").due() == (None, "")
    with pytest.raises(InputError, match=r"^no run id begins with"):
        tracker.lookup.find("0")
    with pytest.raises(InputError, match=r"^the tracking store sqlite:.* has no runs yet$"):
        tracker.lookup.metrics("0" * 32, ["loss"])
    assert not list(empty.glob("*.db*"))
    experiment = tracker.experiment("some")
    assert [found.name for found in tracker.lookup.experiments() if found.experiment_id == experiment] == ["some"]
    assert Tracker().lookup.experiment_id("some") == experiment


def test_a_database_without_tables_stays_without_them_until_something_is_written(empty: Path) -> None:
    with closing(sqlite3.connect(empty / "mlflow.db")) as database:
        database.execute("PRAGMA user_version = 1")
        database.commit()
    tracker = Tracker()
    assert tracker.lookup.experiments() == []
    with closing(sqlite3.connect(empty / "mlflow.db")) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == []
    tracker.experiment("some")
    assert Tracker().lookup.experiment_id("some") is not None


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (evaluate, ["--run-id", "abc"], "no run id begins with"),
        (figures, ["--run-id", "abc"], "no run id begins with"),
        (sweep, ["compare", "abc", "def"], "no run id begins with"),
        (sweep, ["verify", "abc"], "no run id begins with"),
        (sweep, ["report", "small"], "nothing of small was trained"),
        (sweep, ["doctor", "small"], "nothing of small was trained"),
        (sweep, ["plan", "small", "--stage", "grid"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_that_reads_leaves_nothing_behind(
    empty: Path, capsys: pytest.CaptureFixture[str], command: object, arguments: list[str], said: str
) -> None:
    assert callable(command)
    before = sorted(empty.rglob("*"))
    assert command(arguments) == (2 if said else 0)
    assert said in capsys.readouterr().err
    assert sorted(empty.rglob("*")) == before
