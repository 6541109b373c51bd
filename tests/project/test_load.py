"""Many trials in one experiment: what a trial's records cost does not grow with the number of those before it, but for
the ranks that it changes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy

from bench import load
from core.tracking.tracker import Tracker
from sweep.__main__ import main
from sweep.records import journal_file

RANK = 12  # statements that another rank costs a trial: a single request


@pytest.fixture
def load_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stage of small random trials."""
    load.project(tmp_path)
    monkeypatch.setenv("SWEEP_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(trials: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Grow the stage to so many trials; returns the statements that the database got, but for those of ranks that
    changed, and the lines of the journal that were verified.
    """
    Path("experiments/load.toml").write_text(load.EXPERIMENT.format(trials=trials))
    statements, lines, moved = [], [], []
    verified, set_tags = journal_file.verified, Tracker.set_tags

    def noted(line: bytes, where: str, number: int) -> dict[str, object]:
        lines.append(number)
        return verified(line, where, number)

    def executed(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    def tagged(self: Tracker, run_id: str, tags: dict, metrics: dict | None = None, logged: dict | None = None) -> None:
        if not tags and metrics and metrics.keys() <= (logged or {}).keys():
            moved.append(run_id)
        set_tags(self, run_id, tags, metrics, logged)

    with monkeypatch.context() as patch:
        patch.setattr("sweep.records.journal_file.verified", noted)
        patch.setattr(Tracker, "set_tags", tagged)
        sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", executed)
        try:
            assert main(["run", "load", "--figures", "none", "--quiet"]) == 0
        finally:
            sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", executed)
    return len(statements) - RANK * len(moved), len(lines)


@pytest.mark.slow("grows a stage three times")
def test_a_trial_costs_the_same_after_many_others(load_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(2, monkeypatch)  # makes the database
    early, _ = run(6, monkeypatch)
    run(22, monkeypatch)
    late, _ = run(26, monkeypatch)
    assert early > 8  # it is counted
    assert late == pytest.approx(early, rel=0.1)


def test_a_start_with_nothing_to_do_reads_each_line_once_and_asks_no_more_of_more_trials(
    load_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(2, monkeypatch)
    few, _ = run(2, monkeypatch)
    run(9, monkeypatch)
    many, read = run(9, monkeypatch)
    (journal,) = load_project.glob("mlruns/*/optuna.journal")
    assert read == journal.read_bytes().count(b"\n")
    assert many == few
