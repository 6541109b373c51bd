"""The Optuna side: every cell once, through restarts and changed plans."""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from bench.search import measure
from core.data import registry as datasets
from core.errors import InputError
from sweep.experiment import file as experiments
from sweep.experiment.checks import Value
from sweep.experiment.sampler import SAMPLERS
from sweep.experiment.space import Range, Space
from sweep.experiment.stage import Stage
from sweep.records.journal import Journal, Wave
from sweep.records.study import Study
from sweep.search import plan
from sweep.search.cell import Cell
from sweep.search.outcome import Outcome
from sweep.search.samplers import MAKERS, draw


def outcome(run_id: str, accuracy: float | None = 0.5) -> Outcome:
    return Outcome("failed" if accuracy is None else "finished", run_id, accuracy, 1.0, 1, 1)


@pytest.fixture
def stage_and_cells(project: Path) -> tuple[Stage, list[Cell]]:
    loaded = experiments.load("small")
    stage = loaded.stages["grid"]
    return stage, plan.cells(loaded, stage, {}, datasets.load("small.npz"), plan.settings(loaded, stage))


def ask(study: Study, cells: list[Cell]) -> list[optuna.Trial]:
    """Optuna trials of these cells, one each."""
    trials = study.enqueue([cell.point for cell in cells])
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
        assert trial.params == cell.point
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
    dead._study.enqueue_trial(cells[2].point, user_attrs={"key": cells[2].key})  # killed between enqueue and ask

    assert journal.close_abandoned() == 3
    assert journal.close_abandoned() == 0
    study = Study(journal, stage, "plan")
    assert [trial.params for trial in ask(study, cells)] == [cell.point for cell in cells]


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
    loaded = experiments.load("small")
    more = plan.cells(loaded, wider, {}, datasets.load("small.npz"), plan.settings(loaded, wider))
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
    (trial,) = ask(study, [replace(cells[0], point={"lr": 0.01})])
    study.tell(trial, cells[0].key, outcome("run"))
    assert journal.outcomes(single.name).keys() == {cells[0].key}


DRAWING = [name for name in SAMPLERS if name != "grid"]
ADAPTIVE = [name for name, sampler in SAMPLERS.items() if sampler.adaptive]


def test_every_sampler_that_a_stage_may_name_can_be_made() -> None:
    assert set(MAKERS) == set(SAMPLERS) > set(ADAPTIVE)


@pytest.mark.parametrize("sampler", DRAWING)
def test_draws_stay_within_their_ranges_whose_upper_end_is_left_out(stage_and_cells, journal, sampler: str) -> None:
    dimensions = {"dropout": Range(0.25, 0.5), "lr": Range(1e-4, 1.0, log=True), "crop": Range(0, 4, step=2)}
    dimensions["noise"] = Range(0.1, 0.4, step=0.1)
    if sampler != "cmaes":
        dimensions["filters"] = ("2", "3")
    stage = replace(stage_and_cells[0], sampler=sampler, space=Space(dimensions), trials=60)
    if stage.adaptive:
        study, known = Study(journal, stage, "all"), dict[str, Outcome]()
        draws = []
        while len(draws) < 60:
            wave = study.propose(20, key_of, known, fail)
            draws += wave
            for trial, searched in zip(study.enqueue(wave), wave, strict=True):
                (key,) = key_of(searched)
                known[key] = outcome("run", searched["dropout"])
                study.describe(trial, "", [key], {})
                study.tell(trial, key, known[key])
    else:
        draws = draw(stage, seed=3)
        assert draw(replace(stage, trials=30), seed=3) == draws[:30]
        assert draw(stage, seed=4) != draws
    assert all(stage.space.contains(searched) for searched in draws)
    assert {searched["crop"] for searched in draws} == {0, 2, 4}
    assert {searched["noise"] for searched in draws} == {0.1, 0.2, 0.3, 0.4}
    assert len({searched["dropout"] for searched in draws}) == 60
    lr = np.log10([searched["lr"] for searched in draws])
    assert lr.min() < -3
    assert lr.max() > -1


CONDITIONAL = Space(
    {"optimiser": ("sgd", "adam"), "momentum": (0.0, 0.9), "beta1": Range(0.5, 0.9)},
    {"momentum": {"optimiser": ("sgd",)}, "beta1": {"optimiser": ("adam",)}},
)


@pytest.mark.parametrize("sampler", [name for name in DRAWING if name != "cmaes"])
def test_a_condition_decides_what_is_drawn(stage_and_cells, journal, sampler: str) -> None:
    stage = replace(stage_and_cells[0], sampler=sampler, space=CONDITIONAL, trials=30)
    study = Study(journal, stage, "all")
    for searched in draw(stage, 0) if not stage.adaptive else study.propose(30, key_of, {}, fail):
        assert list(searched) == ["optimiser", "momentum" if searched["optimiser"] == "sgd" else "beta1"]
        assert stage.space.contains(searched)


def test_a_setting_ends_with_the_last_of_its_seeds_and_has_their_mean(stage_and_cells, journal) -> None:
    stage, cells = stage_and_cells
    study = Study(journal, stage, "plan")
    (trial,) = study.enqueue([cells[0].point])
    study.describe(trial, "name", ["a", "b", "c"], {"a": outcome("before", 0.2)})
    study.tell(trial, "b", outcome("run b", 0.4))
    assert journal.outcomes(stage.name) == {}  # the trial has not ended
    assert journal.close_abandoned() == 1  # killed here: what is known stays
    assert journal.outcomes(stage.name) == {"a": outcome("before", 0.2), "b": outcome("run b", 0.4)}
    (again,) = study.enqueue([cells[0].point])
    study.describe(again, "name", ["a", "b", "c"], journal.outcomes(stage.name))
    study.tell(again, "c", outcome("run c", 0.9))
    stored = study._study.trials[-1]
    assert (stored.state.name, stored.value) == ("COMPLETE", pytest.approx(0.5))


@pytest.mark.parametrize(("status", "state"), [("pruned", "PRUNED"), ("failed", "FAIL")])
def test_one_seed_that_was_stopped_decides_for_all(stage_and_cells, journal, status: str, state: str) -> None:
    stage, cells = stage_and_cells
    study = Study(journal, stage, "plan")
    (trial,) = study.enqueue([cells[0].point])
    study.describe(trial, "name", ["a", "b"], {})
    study.report(trial, 1, 0.3)
    study.report(trial, 2, float("nan"))
    study.tell(trial, "a", outcome("run a"))
    study.tell(trial, "b", replace(outcome("run b"), status=status))
    assert study._study.trials[0].state.name == state
    assert study.curves() == ({"a": [0.3]} if state == "PRUNED" else {})


def key_of(setting: Mapping[str, Value]) -> list[str]:
    """The one cell of a setting."""
    return [str(sorted(setting.items()))]


def fail(error: InputError) -> None:
    raise error


def worth(setting: Mapping[str, Value]) -> float:
    return 1 - abs(float(setting["lr"]) - 0.3) - abs(float(setting["reg"]) - 0.6)


def train(study: Study, settings: Sequence[dict[str, Value]], known: dict[str, Outcome]) -> None:
    for trial, setting in zip(study.enqueue(settings), settings, strict=True):
        (key,) = key_of(setting)
        study.describe(trial, "", [key], {})
        for epoch in (1, 2):
            study.report(trial, epoch, worth(setting) - 0.1 / epoch)
        known[key] = replace(outcome("run", worth(setting)), status="pruned" if worth(setting) < 0.4 else "finished")
        study.tell(trial, key, known[key])


POINTS: list[dict[str, Value]] = [{"lr": 0.5, "reg": 0.5}, {"lr": 0.25, "reg": 0.5}]


def searching(stage: Stage, sampler: str) -> Stage:
    space = Space({"lr": Range(0.0, 1.0), "reg": Range(0.0, 1.0)})
    return replace(stage, sampler=sampler, space=space, points={"named": tuple(POINTS)})


@pytest.mark.parametrize("sampler", ADAPTIVE)
def test_a_search_that_is_broken_off_goes_on_as_it_would_have(stage_and_cells, tmp_path, sampler: str) -> None:
    """Whichever part of a wave was trained, in whichever order, and however often; also of its points."""
    stage = searching(stage_and_cells[0], sampler)

    def begin(name: str) -> tuple[Journal, Study, dict[str, Outcome]]:
        journal = Journal(tmp_path / name)
        study = Study(journal, stage, "same", seed=5)
        return journal, study, journal.outcomes(stage.name)

    def possible(setting: Mapping[str, Value]) -> list[str]:
        if float(setting["lr"]) > 0.6:
            raise InputError("it is too large")
        return key_of(setting)

    refused = list[InputError]()
    journal, study, known = begin("undisturbed")
    train(study, POINTS, known)
    waves = []
    for _ in range(6):
        waves.append(study.propose(4, possible, known, refused.append))
        train(study, waves[-1], known)
    assert refused
    assert journal.proposals(stage, "same") == (POINTS + list(chain(*waves)), 24)
    assert journal.proposals(stage, "other") == ([], 0)

    journal, study, known = begin("broken off")
    train(study, POINTS[::-1], known)
    assert journal.proposals(stage, "same") == (POINTS, 0)
    for number, wave in enumerate(waves):
        assert study.propose(4, possible, known, refused.append) == wave
        train(study, wave[2 : 2 + number % 3], known)
        for trial in study.enqueue(wave[:1]):  # killed before it was described
            if number % 2:
                study.describe(trial, "", key_of(wave[0]), {})
                study.report(trial, 1, 0.0)
        journal.close_abandoned()
        assert journal.proposals(stage, "same") == (POINTS + list(chain(*waves[: number + 1])), 4 * number + 4)
        journal, study, known = begin("broken off")
        train(study, [setting for setting in reversed(wave) if setting not in wave[2 : 2 + number % 3]], known)
    assert Study(journal, stage, "other seed", seed=6).propose(4, possible, known, refused.append) != waves[0]
    assert b"cma:optimizer" not in journal.path.read_bytes()  # a pickle


def test_what_another_study_knows_is_told(stage_and_cells, journal) -> None:
    stage = searching(stage_and_cells[0], "tpe")
    first, known = Study(journal, stage, "first", seed=5), dict[str, Outcome]()
    for _ in range(4):
        train(first, first.propose(4, key_of, known, fail), known)
    second = Study(journal, stage, "second", seed=5)  # as after the space has grown
    for _ in range(4):
        second.propose(4, key_of, journal.outcomes(stage.name), fail)
    values = [trial.value for trial in second._proposer._study.trials if trial.value is not None]
    assert len(values) >= 8


def test_proposals_by_another_version_of_optuna_are_learned_from(stage_and_cells, journal) -> None:
    stage = searching(stage_and_cells[0], "tpe")
    study, known = Study(journal, stage, "same", seed=5), dict[str, Outcome]()
    made: list[dict[str, Value]] = [{"lr": n / 20, "reg": 7 * n % 20 / 20} for n in range(20)]
    study.record(Wave([], made, made))
    train(study, made, known)
    proposed = study.propose(10, key_of, known, fail)
    assert np.mean([worth(setting) for setting in proposed]) > np.mean([worth(setting) for setting in made]) + 0.1


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


def test_no_pickle_in_a_journal_is_read(stage_and_cells, journal, tmp_path) -> None:
    stage = searching(stage_and_cells[0], "cmaes")
    study, known = Study(journal, stage, "same"), dict[str, Outcome]()
    (trial,) = study.enqueue(POINTS[:1])
    harm = pickle.dumps(Harm(tmp_path / "made")).hex()
    journal.storage.set_trial_system_attr(trial._trial_id, "cma:optimizer:0", harm)
    study.describe(trial, "", key_of(POINTS[0]), {})
    study.tell(trial, *key_of(POINTS[0]), outcome("run"))
    for _ in range(3):
        train(study, study.propose(4, key_of, known | journal.outcomes(stage.name), fail), known)
        study = Study(journal, stage, "same")
    assert not (tmp_path / "made").exists()


def test_what_failed_is_not_proposed_again(stage_and_cells, journal) -> None:
    stage = replace(stage_and_cells[0], sampler="tpe", space=Space({"lr": Range(0.0, 1.0)}))
    study = Study(journal, stage, "fails")
    draws, refused, known = list[dict[str, Value]](), list[InputError](), dict[str, Outcome]()

    def every_second(setting: Mapping[str, Value]) -> list[str]:
        if setting not in draws:
            draws.append(dict(setting))
        if draws.index(dict(setting)) % 2:
            return key_of(setting)
        raise InputError("it cannot be trained at all")

    for _ in range(8):
        wave = study.propose(1, every_second, known, refused.append)
        for setting, trial in zip(wave, study.enqueue(wave), strict=True):
            (key,) = key_of(setting)
            known[key] = outcome("run", None)
            study.describe(trial, "", [key], {})
            study.tell(trial, key, known[key])
    assert (len(draws), len(refused)) == (8, 4)
    settings, count = journal.proposals(stage, "fails")
    assert (settings, count) == (draws[1::2], 8)


def test_a_setting_that_cannot_be_trained_is_refused_once(stage_and_cells, journal) -> None:
    """Proposed again it is a repeat, like one that can: another is asked for; also after a restart."""
    stage = replace(stage_and_cells[0], sampler="tpe", space=Space({"lr": (0.1, 0.2, 0.3)}))
    refused, known = list[str](), dict[str, Outcome]()

    def possible(setting: Mapping[str, Value]) -> list[str]:
        if setting["lr"] == 0.3:
            raise InputError("it is too large")
        return key_of(setting)

    for _ in range(3):
        study = Study(journal, stage, "choices")
        wave = study.propose(3, possible, known, lambda error: refused.append(str(error)))
        assert all(setting["lr"] < 0.3 for setting in wave)
        known |= {key: outcome("run") for setting in wave for key in key_of(setting)}
    waves = journal.waves(stage, "choices")
    assert sorted(float(setting["lr"]) for setting in waves[0].settings) == [0.1, 0.2, 0.3]
    assert [len(wave.settings) for wave in waves] == [3, 3, 3]  # repeats at last count as proposed
    assert refused == ["it is too large"]


def test_reading_makes_no_file(journal: Journal) -> None:
    assert journal.outcomes("grid") == {}
    assert not journal.path.exists()


@pytest.mark.slow("searches thirty times, with 48 trials each")
def test_asking_for_eight_at_once_loses_nothing_against_one_at_a_time() -> None:
    one, eight = (measure("tpe", trials=48, at_once=n, seeds=10) for n in (1, 8))
    noise = math.hypot(one["standard_error"], eight["standard_error"])
    assert eight["best"] > one["best"] - 2 * noise
    assert eight["best"] > measure("random", trials=48, at_once=48, seeds=10)["best"] + noise
    assert eight["near_duplicates"] < 0.002
