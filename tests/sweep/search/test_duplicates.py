"""Settings that come to the same training: asked for again, counted, and said."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.config.settings import Settings
from core.data import registry as datasets
from core.data.dataset import Dataset
from core.errors import InputError
from sweep.__main__ import main
from sweep.experiment import file as experiments
from sweep.experiment.checks import Value
from sweep.experiment.space import Range, Space
from sweep.experiment.stage import Stage
from sweep.records.journal import Journal, Wave
from sweep.records.study import Study
from sweep.search import duplicates, plan
from sweep.search.cell import Cell
from sweep.search.outcome import Outcome

HEAD = 'data = "small.npz"\n[settings]\nepochs = 1\nbatch_size = 16\nfilters = "2"\n[stages.s]\n'
SMALL = Space({"optimiser": ("sgd", "adam"), "momentum": (0.0, 0.5, 0.9), "crop": Range(0, 3, step=1)})  # 16 trainings
STEPS = Space({"crop": Range(0, 4, step=1), "cutout": Range(0, 4, step=1)})  # 25


def training(setting: Mapping[str, Value]) -> list[str]:
    """The key of a setting's one cell."""
    values: dict[str, Any] = dict(setting)
    return [json.dumps(Settings(**values).effective())]


def refuse(error: InputError) -> None:
    raise error


def search(journal: Journal, stage: Stage, waves: int, *, killed: bool = False) -> list[list[dict[str, Value]]]:
    """So many waves of 4 proposals, all trained; where it is killed, each is proposed by a process of its own."""
    study, known, made = Study(journal, stage, "same", seed=3), dict[str, Outcome](), list[list[dict[str, Value]]]()
    for _ in range(waves):
        study = Study(Journal(journal.path), stage, "same", seed=3) if killed else study
        made.append(study.propose(4, training, known, refuse))
        known |= {training(s)[0]: Outcome("finished", "run", float(s["crop"]) / 10, 1.0, 1, 1) for s in made[-1]}
    return made


@pytest.mark.parametrize(("sampler", "space"), [("tpe", SMALL), ("cmaes", STEPS)])
def test_a_proposal_that_repeats_another_is_asked_for_again_also_after_a_kill(
    tmp_path: Path, sampler: str, space: Space
) -> None:
    stage = Stage("s", sampler, space, {}, trials=12, at_once=4)
    waves = search(Journal(tmp_path / "undisturbed"), stage, 3)
    assert len({training(setting)[0] for wave in waves for setting in wave}) == 12
    (stored,) = Journal(tmp_path / "undisturbed").storage.get_all_studies()
    assert any(len(stored.user_attrs[f"wave:{number}"]["asked"]) > 1 for number in range(3))
    assert search(Journal(tmp_path / "killed"), stage, 3, killed=True) == waves
    assert Journal(tmp_path / "killed").proposals(stage, "same")[1] == 12


def test_a_space_that_is_used_up_ends_all_the_same(tmp_path: Path) -> None:
    stage = Stage("s", "tpe", Space({"crop": Range(0, 2, step=1)}), {}, trials=8, at_once=4)
    journal = Journal(tmp_path / "journal")
    search(journal, stage, 2)
    settings, proposed = journal.proposals(stage, "same")
    assert proposed == 8
    assert sorted(setting["crop"] for setting in settings) == [0, 1, 2]


def test_a_wave_looks_at_no_earlier_setting_again(tmp_path: Path) -> None:
    stage = Stage("s", "tpe", Space({"lr": Range(0.01, 0.1)}), {})
    study, asked = Study(Journal(tmp_path / "journal"), stage, "same", seed=3), list[str]()

    def keys(setting: Mapping[str, Value]) -> list[str]:
        asked.append(json.dumps(setting))
        return training(setting)

    made = [setting for _ in range(5) for setting in study.propose(4, keys, {}, refuse)]
    counts = Counter(asked)
    assert [counts[json.dumps(s)] for s in made] == [2] * 16 + [1] * 4  # when proposed, and when told of to the sampler


def test_a_wave_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Which asked no second time: what repeated counted."""
    stage = Stage("s", "tpe", SMALL, {}, trials=8, at_once=4)
    journal, made = Journal(tmp_path / "journal"), [{"optimiser": "adam", "momentum": m, "crop": 1} for m in (0.0, 0.9)]
    study = Study(journal, stage, "same", seed=3)
    study._study.set_user_attr("wave:0", {"others": [], "settings": made, "possible": made})
    assert Journal(journal.path).waves(stage, "same") == [Wave([], made, made)]
    (later,) = search(journal, stage, 1)
    assert {training(setting)[0] for setting in later}.isdisjoint(training(setting)[0] for setting in made)


@pytest.fixture
def small(project: Path) -> Dataset:
    return datasets.load("small.npz")


def cells(*settings: dict[str, Any]) -> list[Cell]:
    return [Cell("s", n, each, Settings(**each), str(n)) for n, each in enumerate(settings, start=1)]


def said(sampler: str, asked: int, *settings: dict[str, Any], data: Dataset) -> list[str]:
    return duplicates.duplicate_notes(Stage("s", sampler, SMALL, {}), asked, cells(*settings), data)


def test_what_does_nothing_is_said_with_what_it_does_nothing(small: Dataset) -> None:
    sgd, adam = {"optimiser": "sgd", "momentum": 0.9}, {"optimiser": "adam", "momentum": 0.9}
    line = "momentum does nothing with adam"
    assert said("grid", 4, sgd, adam, data=small) == [f"s: 4 combinations are 2 different trainings: {line}"]
    assert said("random", 8, adam, data=small) == [f"s: 8 draws are the same training: {line}"]
    assert said("random", 8, {"lr": 0.1}, {"lr": 0.2}, data=small) == ["s: 8 draws are 2 different trainings"]
    assert said("grid", 2, sgd, adam, data=small) == []  # each is trained
    (advice,) = said("tpe", 0, sgd, adam, data=small)
    assert advice.startswith(f"s: {line}; with `when`, tpe searches it only where it does something")
    several = {"optimiser": "adam", "momentum": 0.9, "nesterov": True, "schedule": "cosine", "decay": 0.9}
    assert duplicates.idle_settings(cells(several, several | {"optimiser": "adamw"})) == (
        "decay does nothing with cosine; momentum and nesterov do nothing with adam or adamw"
    )


@pytest.mark.parametrize(
    ("first", "second", "third", "line"),
    [
        ({"batch_size": 47}, {"batch_size": 10**5}, {"batch_size": 46}, "47 and 100000 are the same training (one"),
        ({"pool": "auto"}, {"pool": "yes"}, {"pool": "no"}, "auto and yes are the same training (the same network"),
        ({"nesterov": False}, {"nesterov": True}, {"nesterov": True, "momentum": 0.9}, "false and true are the same"),
        ({"patience": 20}, {"patience": 30}, {"patience": 19}, "20 and 30 are the same training (no trial has more"),
    ],
)  # fmt: skip
def test_values_that_mean_the_same_are_named(
    small: Dataset, first: dict[str, Any], second: dict[str, Any], third: dict[str, Any], line: str
) -> None:
    assert small.training_images == 48
    base = {"filters": "2"}
    found = said("grid", 3, *(base | each for each in (first, second, third)), data=small)
    assert len(found) == 1
    assert found[0].startswith(f"s: {next(iter(first))} {line}")
    assert found[0].endswith("; each is trained")


def test_the_plan_and_the_run_say_what_is_the_same(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = 'sampler = "grid"\nspace = { optimiser = ["sgd", "adam"], momentum = [0.9, 0.0] }\n'
    following = '[stages.t]\nsampler = "grid"\nafter = "s"\ninherit = ["momentum"]\nspace = { optimiser = ["adam"] }\n'
    (project / "experiments" / "same.toml").write_text(HEAD + grid + following)
    line = "s: 4 combinations are 3 different trainings: momentum does nothing with adam\n"
    assert main(["plan", "same"]) == 0
    shown = capsys.readouterr()
    assert line in shown.err
    assert "s-03\tadam\t\t" in shown.out
    assert main(["plan", "same", "--json", "--stage", "s"]) == 0
    assert json.loads(capsys.readouterr().out)["stages"][0]["said"] == [line.strip()]
    assert main(["run", "same"]) == 0
    shown = capsys.readouterr()
    assert shown.err.count(line) == 1
    assert "\ts-03\tadam\t\t" in shown.out
    assert main(["report", "same"]) == 0
    page = next((project / "reports").glob("**/*.md")).read_text()
    assert "optimiser=adam" in page
    assert "From the winner of the stage before" not in page  # momentum, which does nothing here


def test_a_search_trains_as_many_settings_as_it_was_asked_for_where_there_are_so_many(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = (
        'sampler = "tpe"\ntrials = 7\nat_once = 4\nspace = { optimiser = ["sgd", "adam"], momentum = [0.9, 0.0] }\n'
    )
    path = project / "experiments" / "same.toml"
    path.write_text(HEAD + search.replace("momentum", "lr = [0.1, 0.2, 0.3], momentum"))
    assert main(["run", "same", "--json"]) == 0
    shown = capsys.readouterr()
    assert len(json.loads(shown.out)["stages"][0]["trials"]) == 7  # of 9
    assert "different trainings" not in shown.err
    path.write_text(HEAD + search)
    assert main(["run", "same", "--json"]) == 0
    shown = capsys.readouterr()
    assert len(json.loads(shown.out)["stages"][0]["trials"]) == 3
    assert "s: 7 proposals are 3 different trainings: momentum does nothing with adam\n" in shown.err


def test_what_a_training_goes_by_is_equal_for_equal_trainings_alone(small: Dataset) -> None:
    loaded = experiments.load("small")
    grid = plan.cells(loaded, loaded.stages["grid"], {}, small, plan.settings(loaded, loaded.stages["grid"]))
    assert len({duplicates.effective_training(cell.settings, small) for cell in grid}) == len(grid)
    one = replace(grid[0].settings, optimiser="adam")
    assert duplicates.effective_training(one, small) == duplicates.effective_training(replace(one, momentum=0.5), small)
