"""The Optuna side: every cell once, through restarts and changed plans."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from bench.search import measure
from core import data
from sweep import experiment, plan
from sweep.plan import Cell
from sweep.space import Range, Space
from sweep.study import Journal, Outcome, Study, draw


def outcome(run_id: str, accuracy: float | None = 0.5) -> Outcome:
    return Outcome("failed" if accuracy is None else "finished", run_id, accuracy, 1.0, 1, 1)


@pytest.fixture
def stage_and_cells(project: Path) -> tuple[experiment.Stage, list[Cell]]:
    loaded = experiment.load("small")
    stage = loaded.stages["grid"]
    return stage, plan.cells(loaded, stage, {}, data.load("small.npz"), plan.settings(loaded, stage))


def ask(study: Study, cells: list[Cell]) -> list[optuna.Trial]:
    """Optuna trials of these cells, one each."""
    trials = study.enqueue([cell.searched for cell in cells])
    for cell, trial in zip(cells, trials, strict=True):
        study.describe(trial, cell.name, [cell.key], {})
    return trials


@pytest.fixture
def journal(project: Path) -> Journal:
    return Journal(project / "optuna.journal")


def test_every_cell_is_asked_once_and_told_through_a_restart(stage_and_cells, journal) -> None:
    stage, cells = stage_and_cells
    first = Study(journal, stage, "plan")
    for cell, trial in zip(cells[:2], ask(first, cells[:2]), strict=True):
        assert trial.params == cell.searched
        first.tell(trial, cell.key, outcome(cell.name))
    assert journal.outcomes(stage.name).keys() == {cell.key for cell in cells[:2]}

    second = Study(journal, stage, "plan")
    for cell, trial in zip(cells[2:], ask(second, cells[2:]), strict=True):
        second.tell(trial, cell.key, outcome(cell.name))
    found = journal.outcomes(stage.name)
    assert {found[cell.key].run_id for cell in cells} == {cell.name for cell in cells}
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal.path)))
    (stored,) = storage.get_all_studies()
    assert [t.state.name for t in storage.get_all_trials(stored._study_id)] == ["COMPLETE"] * 4


def test_a_failed_cell_is_done_and_a_broken_off_one_is_open(stage_and_cells, journal) -> None:
    stage, cells = stage_and_cells
    study = Study(journal, stage, "plan")
    diverged, _ = ask(study, cells[:2])
    study.tell(diverged, cells[0].key, outcome("run", None))
    assert journal.close_abandoned() == 1
    found = journal.outcomes(stage.name)
    assert found.keys() == {cells[0].key}
    assert found[cells[0].key] == outcome("run", None)


def test_what_a_dead_process_left_is_found(stage_and_cells, journal) -> None:
    stage, cells = stage_and_cells
    dead = Study(journal, stage, "plan")
    ask(dead, cells[:2])
    dead._study.enqueue_trial(cells[2].searched, user_attrs={"key": cells[2].key})  # killed between enqueue and ask

    assert journal.close_abandoned() == 3
    assert journal.close_abandoned() == 0
    study = Study(journal, stage, "plan")
    assert [trial.params for trial in ask(study, cells)] == [cell.searched for cell in cells]


def test_a_torn_last_line_is_cut_off(stage_and_cells, journal) -> None:
    stage, cells = stage_and_cells
    study = Study(journal, stage, "plan")
    (trial,) = ask(study, cells[:1])
    study.tell(trial, cells[0].key, outcome("run"))
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole + b'{"op_code": 4, "worker')
    assert journal.outcomes(stage.name).keys() == {cells[0].key}
    assert journal.close_abandoned() == 0
    ask(Study(journal, stage, "plan"), cells[1:2])
    assert journal.path.read_bytes().startswith(whole)
    assert journal.outcomes(stage.name).keys() == {cells[0].key}


def test_a_plan_that_grew_keeps_what_is_done(stage_and_cells, journal, project) -> None:
    stage, cells = stage_and_cells
    study = Study(journal, stage, "plan")
    for cell, trial in zip(cells, ask(study, cells), strict=True):
        study.tell(trial, cell.key, outcome("run"))
    wider = replace(stage, space=Space(stage.space.dimensions | {"lr": (0.01, 0.1, 0.2)}))
    loaded = experiment.load("small")
    more = plan.cells(loaded, wider, {}, data.load("small.npz"), plan.settings(loaded, wider))
    assert journal.outcomes(wider.name).keys() == {cell.key for cell in cells}
    new = [cell for cell in more if cell.settings.lr == 0.2]
    assert [trial.params["lr"] for trial in ask(Study(journal, wider, "wider plan"), new)] == [0.2, 0.2]


def test_stages_do_not_share_outcomes(stage_and_cells, journal) -> None:
    stage, cells = stage_and_cells
    study = Study(journal, stage, "plan")
    for cell, trial in zip(cells, ask(study, cells), strict=True):
        study.tell(trial, cell.key, outcome("run"))
    assert journal.outcomes("other") == {}


def test_a_grid_of_one_cell(stage_and_cells, journal) -> None:
    stage, cells = stage_and_cells
    single = replace(stage, space=Space({"lr": (0.01,)}))
    study = Study(journal, single, "single")
    (trial,) = ask(study, [replace(cells[0], searched={"lr": 0.01})])
    study.tell(trial, cells[0].key, outcome("run"))
    assert journal.outcomes(single.name).keys() == {cells[0].key}


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe", "cmaes"])
def test_draws_stay_within_their_ranges_whose_upper_end_is_left_out(stage_and_cells, journal, sampler: str) -> None:
    dimensions = {"dropout": Range(0.25, 0.5), "lr": Range(1e-4, 1.0, log=True), "crop": Range(0, 4, step=2)}
    if sampler != "cmaes":
        dimensions["filters"] = ("2", "3")
    stage = replace(stage_and_cells[0], sampler=sampler, space=Space(dimensions), trials=60)
    if stage.adaptive:
        study = Study(journal, stage, "all")
        draws = []
        while len(draws) < 60:
            for trial, searched in study.propose(20):
                draws.append(searched)
                study.describe(trial, "", [str(len(draws))], {}, is_proposal=True)
                study.tell(trial, str(len(draws)), outcome("run", searched["dropout"]))
    else:
        draws = draw(stage, seed=3)
        assert draw(replace(stage, trials=30), seed=3) == draws[:30]
        assert draw(stage, seed=4) != draws
    assert all(stage.space.contains(searched) for searched in draws)
    assert {searched["crop"] for searched in draws} == {0, 2, 4}
    assert len({searched["dropout"] for searched in draws}) == 60
    lr = np.log10([searched["lr"] for searched in draws])
    assert lr.min() < -3
    assert lr.max() > -1


CONDITIONAL = Space(
    {"optimiser": ("sgd", "adam"), "momentum": (0.0, 0.9), "beta1": Range(0.5, 0.9)},
    {"momentum": {"optimiser": ("sgd",)}, "beta1": {"optimiser": ("adam",)}},
)


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe"])
def test_a_condition_decides_what_is_drawn(stage_and_cells, journal, sampler: str) -> None:
    stage = replace(stage_and_cells[0], sampler=sampler, space=CONDITIONAL, trials=30)
    study = Study(journal, stage, "all")
    for searched in draw(stage, 0) if not stage.adaptive else [searched for _, searched in study.propose(30)]:
        assert list(searched) == ["optimiser", "momentum" if searched["optimiser"] == "sgd" else "beta1"]
        assert stage.space.contains(searched)


def test_a_setting_ends_with_the_last_of_its_seeds_and_has_their_mean(stage_and_cells, journal) -> None:
    stage, cells = stage_and_cells
    study = Study(journal, stage, "plan")
    (trial,) = study.enqueue([cells[0].searched])
    study.describe(trial, "name", ["a", "b", "c"], {"a": outcome("before", 0.2)})
    study.tell(trial, "b", outcome("run b", 0.4))
    assert journal.outcomes(stage.name) == {}  # the trial has not ended
    assert journal.close_abandoned() == 1  # killed here: what is known stays
    assert journal.outcomes(stage.name) == {"a": outcome("before", 0.2), "b": outcome("run b", 0.4)}
    (again,) = study.enqueue([cells[0].searched])
    study.describe(again, "name", ["a", "b", "c"], journal.outcomes(stage.name))
    study.tell(again, "c", outcome("run c", 0.9))
    stored = study._study.trials[-1]
    assert (stored.state.name, stored.value) == ("COMPLETE", pytest.approx(0.5))


@pytest.mark.parametrize(("status", "state"), [("pruned", "PRUNED"), ("failed", "FAIL")])
def test_one_seed_that_was_stopped_decides_for_all(stage_and_cells, journal, status: str, state: str) -> None:
    stage, cells = stage_and_cells
    study = Study(journal, stage, "plan")
    (trial,) = study.enqueue([cells[0].searched])
    study.describe(trial, "name", ["a", "b"], {})
    study.report(trial, 1, 0.3)
    study.report(trial, 2, float("nan"))
    study.tell(trial, "a", outcome("run a"))
    study.tell(trial, "b", replace(outcome("run b"), status=status))
    assert study._study.trials[0].state.name == state
    assert study.curves() == ({"a": [0.3]} if state == "PRUNED" else {})


def test_an_adaptive_sampler_goes_on_where_it_was_stopped(stage_and_cells, journal) -> None:
    stage = replace(stage_and_cells[0], sampler="tpe", space=Space({"lr": Range(0.0, 1.0), "reg": Range(0.0, 1.0)}))

    def batch(study: Study, described: int, ended: int) -> list[dict]:
        asked = study.propose(4)
        for trial, searched in asked[:described]:
            study.describe(trial, "", [str(searched)], {}, is_proposal=True)
        for trial, searched in asked[:ended]:
            study.tell(trial, str(searched), outcome("run", searched["lr"]))
        return [searched for _, searched in asked]

    study = Study(journal, stage, "same", seed=5)
    first = [searched for _ in range(4) for searched in batch(study, 4, 4)]
    lost = batch(study, 0, 0)  # killed before they were noted: proposed once more
    journal.close_abandoned()
    assert journal.proposals(stage, "same") == (first, 16)
    assert journal.proposals(stage, "other") == ([], 0)
    study = Study(journal, stage, "same", seed=5)
    assert batch(study, 4, 1) == lost  # killed when one of them had ended: the others are to be trained
    journal.close_abandoned()
    assert journal.proposals(stage, "same") == (first + lost, 20)
    assert batch(Study(journal, stage, "other seed", seed=6), 4, 4) != first[:4]


def test_what_failed_is_not_proposed_again(stage_and_cells, journal) -> None:
    stage = replace(stage_and_cells[0], sampler="tpe", space=Space({"lr": Range(0.0, 1.0)}))
    study = Study(journal, stage, "fails")
    draws = set()
    for number in range(8):
        ((trial, searched),) = study.propose(1)
        draws.add(searched["lr"])
        study.describe(trial, "", [str(number)] if number % 2 else [], {}, is_proposal=True)
        if number % 2:
            study.tell(trial, str(number), outcome("run", None))
        else:
            study.end(trial)  # it cannot be trained at all
    assert len(draws) == 8
    assert [trial.state.name for trial in study._study.trials] == ["FAIL"] * 8
    settings, count = journal.proposals(stage, "fails")
    assert (len(settings), count) == (4, 8)


def test_reading_makes_no_file(journal: Journal) -> None:
    assert journal.outcomes("grid") == {}
    assert not journal.path.exists()


def test_asking_for_eight_at_once_loses_nothing_against_one_at_a_time() -> None:
    one, eight = (measure("tpe", trials=48, at_once=n, seeds=10) for n in (1, 8))
    noise = math.hypot(one["standard_error"], eight["standard_error"])
    assert eight["best"] > one["best"] - 2 * noise
    assert eight["best"] > measure("random", trials=48, at_once=48, seeds=10)["best"] + noise
    assert eight["near_duplicates"] < 0.002
