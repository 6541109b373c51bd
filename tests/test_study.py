"""The Optuna side: every cell once, through restarts and changed plans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from core import data
from sweep import experiment, plan
from sweep.experiment import Range
from sweep.plan import Cell
from sweep.study import Outcome, Study, close_abandoned, draw, outcomes


def outcome(run_id: str, accuracy: float | None = 0.5) -> Outcome:
    return Outcome("failed" if accuracy is None else "finished", run_id, accuracy, 1.0, 1, 1)


@pytest.fixture
def stage_and_cells(project: Path) -> tuple[experiment.Stage, list[Cell]]:
    loaded = experiment.load("small")
    stage = loaded.stages["grid"]
    return stage, plan.cells(loaded, stage, {}, data.load("small.npz"))


@pytest.fixture
def journal(project: Path) -> Path:
    return project / "optuna.journal"


def test_every_cell_is_asked_once_and_told_through_a_restart(stage_and_cells, journal) -> None:
    stage, cells = stage_and_cells
    first = Study(journal, stage, cells)
    for cell, trial in zip(cells[:2], first.ask(cells[:2]), strict=True):
        assert trial.params == cell.searched
        first.tell(trial, outcome(cell.name))
    assert outcomes(journal, stage.name).keys() == {cell.key for cell in cells[:2]}

    second = Study(journal, stage, cells)
    for cell, trial in zip(cells[2:], second.ask(cells[2:]), strict=True):
        second.tell(trial, outcome(cell.name))
    found = outcomes(journal, stage.name)
    assert {found[cell.key].run_id for cell in cells} == {cell.name for cell in cells}
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    (stored,) = storage.get_all_studies()
    assert [t.state.name for t in storage.get_all_trials(stored._study_id)] == ["COMPLETE"] * 4


def test_a_failed_cell_is_done_and_a_broken_off_one_is_open(stage_and_cells, journal) -> None:
    stage, cells = stage_and_cells
    study = Study(journal, stage, cells)
    diverged, _ = study.ask(cells[:2])
    study.tell(diverged, outcome("run", None))
    assert close_abandoned(journal) == 1
    found = outcomes(journal, stage.name)
    assert found.keys() == {cells[0].key}
    assert found[cells[0].key] == outcome("run", None)


def test_what_a_dead_process_left_is_found(stage_and_cells, journal) -> None:
    stage, cells = stage_and_cells
    dead = Study(journal, stage, cells)
    dead.ask(cells[:2])
    dead._study.enqueue_trial(cells[2].searched, user_attrs={"key": cells[2].key})  # killed between enqueue and ask

    assert close_abandoned(journal) == 3
    assert close_abandoned(journal) == 0
    study = Study(journal, stage, cells)
    assert [trial.params for trial in study.ask(cells)] == [cell.searched for cell in cells]


def test_a_torn_last_line_is_cut_off(stage_and_cells, journal) -> None:
    stage, cells = stage_and_cells
    study = Study(journal, stage, cells)
    (trial,) = study.ask(cells[:1])
    study.tell(trial, outcome("run"))
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "worker')
    assert outcomes(journal, stage.name).keys() == {cells[0].key}
    assert close_abandoned(journal) == 0
    Study(journal, stage, cells).ask(cells[1:2])
    assert journal.read_bytes().startswith(whole)
    assert outcomes(journal, stage.name).keys() == {cells[0].key}


def test_a_plan_that_grew_keeps_what_is_done(stage_and_cells, journal, project) -> None:
    stage, cells = stage_and_cells
    study = Study(journal, stage, cells)
    for trial in study.ask(cells):
        study.tell(trial, outcome("run"))
    wider = replace(stage, space=stage.space | {"lr": (0.01, 0.1, 0.2)})
    more = plan.cells(experiment.load("small"), wider, {}, data.load("small.npz"))
    assert outcomes(journal, wider.name).keys() == {cell.key for cell in cells}
    new = [cell for cell in more if cell.settings.lr == 0.2]
    assert [trial.params["lr"] for trial in Study(journal, wider, more).ask(new)] == [0.2, 0.2]


def test_stages_do_not_share_outcomes(stage_and_cells, journal) -> None:
    stage, cells = stage_and_cells
    study = Study(journal, stage, cells)
    for trial in study.ask(cells):
        study.tell(trial, outcome("run"))
    assert outcomes(journal, "other") == {}


def test_a_grid_of_one_cell(stage_and_cells, journal) -> None:
    stage, cells = stage_and_cells
    single = replace(stage, space={"lr": (0.01,)})
    study = Study(journal, single, cells[:1])
    (trial,) = study.ask([replace(cells[0], searched={"lr": 0.01})])
    study.tell(trial, outcome("run"))
    assert outcomes(journal, single.name).keys() == {cells[0].key}


def test_draws_mix_choices_and_ranges_and_never_reach_the_upper_end() -> None:
    space = {"dropout": Range(0.25, 0.5), "filters": ("2", "3")}
    draws = draw(space, 200, seed=3)
    assert {d["filters"] for d in draws} == {"2", "3"}
    assert all(0.25 <= d["dropout"] < 0.5 for d in draws)
    assert len({d["dropout"] for d in draws}) == 200


def test_reading_makes_no_file(journal: Path) -> None:
    assert outcomes(journal, "grid") == {}
    assert not journal.exists()
