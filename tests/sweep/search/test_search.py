"""Adaptive samplers, seeds, pruning and budgets on a small data set, with the real Optuna and the real MLflow."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.backends import registry as backends
from core.config.settings import Settings
from core.data import registry as datasets
from core.tracking.entities import RunInfo
from core.tracking.tracker import Tracker
from core.training.progress import TrialResult
from sweep.__main__ import main
from sweep.executors.in_process import InProcessExecutor
from sweep.results.augmented_samples import augmented_samples
from sweep.results.ranking import Row
from sweep.search.cell import Cell
from sweep.search.outcome import Outcome
from sweep.terminal.display import Display, Work
from tests.helpers import forked
from tests.helpers.slow import slow

REPOSITORY = Path(__file__).resolve().parents[3]
HEAD = 'seed = 1\ndata = "small.npz"\n[settings]\nepochs = 4\nbatch_size = 16\npatience = 4\nfilters = "2"\n'
TPE = """
[stages.search]
sampler = "tpe"
trials = 5
at_once = 2
seeds = 2
[stages.search.space]
optimiser = ["sgd", "adam"]
lr = { low = 0.001, high = 0.3, log = true }
momentum = { choices = [0.0, 0.9], when = { optimiser = "sgd" } }
beta1 = { low = 0.5, high = 0.95, when = { optimiser = "adam" } }
"""
GRID = """
[stages.search]
sampler = "grid"
[stages.search.space]
lr = [0.0001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3]
"""


def write(project: Path, text: str) -> None:
    (project / "experiments" / "adaptive.toml").write_text(HEAD + text)


def sweep(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> list[dict]:
    """The stages, from the JSON that a run of the command line prints."""
    assert main(["run", "adaptive", "--json", "--quiet", *arguments]) == status
    stages: list[dict] = json.loads(capsys.readouterr().out)["stages"]
    return stages


def runs(**tags: str) -> list[RunInfo]:
    tracker = Tracker()
    found = datasets.load("small.npz")
    return tracker.lookup.runs(tracker.experiment(f"adaptive-small-{found.sha256[:8]}"), kind="trial", **tags)


def without_runs(stage: dict) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "run_id"} for row in stage["trials"]]


def test_an_adaptive_stage_trains_each_setting_with_each_seed(project: Path, capsys) -> None:
    write(project, TPE)
    (stage,) = sweep(capsys)
    assert (stage["trained"], len(stage["trials"])) == (10, 5)
    trials = runs()
    assert Counter(run.params["seed"] for run in trials) == {"1": 5, "2": 5}
    for run in trials:
        adam = run.params["optimiser"] == "adam"
        assert ("beta1" in run.params, "momentum" in run.params) == (adam, not adam)
    for row in stage["trials"]:
        same = [run for run in trials if run.name.startswith(row["trial"] + ".")]
        accuracies = [run.metrics["best_val_accuracy"] for run in same]
        assert row["best_val_accuracy"] == pytest.approx(sum(accuracies) / 2)
        assert row["spread"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
        assert row["seeds"] == 2
    (winner,) = runs(winner="true")
    assert winner.run_id == stage["winner"]["run_id"]
    assert sweep(capsys)[0]["trained"] == 0


KILLED = """
import os
import sweep.records.study as study
tell, calls = study.Study.tell, []
def killing(*arguments):
    tell(*arguments)
    calls.append(1)
    if len(calls) == 5:
        os._exit(9)
study.Study.tell = killing
from sweep.__main__ import main
main(["run", "adaptive", "--quiet"])
"""


@pytest.mark.parametrize("at_once", [3, *slow("searches three times, one setting at a time", 1)])
def test_a_killed_adaptive_stage_ends_as_if_it_had_not_been(
    project: Path, capsys, empty_store: Path, at_once: int
) -> None:
    write(project, TPE.replace("at_once = 2", f"at_once = {at_once}"))
    (undisturbed,) = sweep(capsys)
    for path in (project / "mlruns").iterdir():
        path.rename(project / f"old-{path.name}")
    (project / "mlflow.db").write_bytes(empty_store.read_bytes())
    assert forked.python(KILLED).returncode == 9
    (stage,) = sweep(capsys)
    assert without_runs(stage) == without_runs(undisturbed)
    assert stage["trained"] == 5
    assert {run.status for run in runs()} == {"FINISHED"}  # those that were broken off went on
    assert len(runs()) == 10


@pytest.mark.slow("sweeps four times, with up to three seeds")
def test_more_trials_and_more_seeds_keep_what_is_done(project: Path, capsys) -> None:
    write(project, TPE)
    (first,) = sweep(capsys)
    write(project, TPE.replace("trials = 5", "trials = 7"))
    (more,) = sweep(capsys)
    assert (more["trained"], len(more["trials"])) == (4, 7)
    before = {row["lr"] for row in first["trials"]}
    assert before < {row["lr"] for row in more["trials"]}

    grid = GRID.replace('sampler = "grid"', 'sampler = "grid"\nseeds = 2')
    write(project, grid)
    assert sweep(capsys)[0]["trained"] == 16
    write(project, grid.replace("seeds = 2", "seeds = 3"))
    (third,) = sweep(capsys)
    assert (third["trained"], {row["seeds"] for row in third["trials"]}) == (8, {3})


def test_a_setting_that_comes_up_again_is_not_trained_again(project: Path, capsys) -> None:
    write(project, TPE.partition("optimiser =")[0].replace("seeds = 2", "") + "lr = [0.05, 0.1]\n")
    (stage,) = sweep(capsys)
    assert stage["trained"] == len(stage["trials"]) <= 2
    assert len(runs()) == stage["trained"]
    assert sweep(capsys)[0]["trained"] == 0


def test_a_setting_with_a_diverged_seed_takes_no_others_place(project: Path, capsys, monkeypatch) -> None:
    grid = GRID.partition("lr =")[0].replace(
        '"grid"', '"grid"\nseeds = 2\npruner = { kind = "halving", min_epochs = 2 }'
    )
    write(project, grid + "lr = [0.01, 0.05, 0.3]\n")
    record = TrialResult.record

    def diverging(self: TrialResult, settings: Settings, metrics: dict, weights: dict, seconds: float) -> None:
        if settings.lr == 0.3:
            metrics["val_accuracy"] = 1.0
            if settings.seed == 2:
                metrics["val_loss"] = float("nan")
        record(self, settings, metrics, weights, seconds)

    monkeypatch.setattr(TrialResult, "record", diverging)
    (stage,) = sweep(capsys, status=3)
    assert [row["status"] for row in stage["trials"]] == ["finished", "pruned", "failed"]
    assert stage["winner"]["lr"] != 0.3


def test_a_point_that_is_proposed_too_does_not_keep_the_stage_open(project: Path, capsys) -> None:
    stage = TPE.partition("optimiser =")[0].replace("seeds = 2", "") + "lr = [0.1]\n"
    points = "[stages.search.points]\np = [{ lr = 0.1 }]\n"
    following = '[stages.next]\nsampler = "grid"\nafter = "search"\ninherit = ["lr"]\nspace = { reg = [0.0] }\n'
    write(project, stage + points + following)
    assert [stage["trained"] for stage in sweep(capsys)] == [1, 1]


def test_where_a_condition_does_not_hold_the_files_own_setting_does(project: Path, capsys) -> None:
    text = GRID.partition("lr =")[0] + "lr = [0.01, 0.1]\nmomentum = { choices = [0.5], when = { lr = 0.1 } }\n"
    (project / "experiments" / "adaptive.toml").write_text(HEAD + "momentum = 0.9\n" + text)
    sweep(capsys)
    assert {run.params["lr"]: run.params["momentum"] for run in runs()} == {"0.01": "0.9", "0.1": "0.5"}
    assert main(["plan", "adaptive"]) == 0
    assert "grid-" not in capsys.readouterr().out.splitlines()[0]


def test_a_plan_shows_the_groups_of_each_asking(project: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, TPE.partition("optimiser =")[0] + "lr = { low = 0.001, high = 0.3 }\n")
    assert main(["plan", "adaptive", "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    groups = [group["trials"] for group in stage["groups"]]
    assert groups == [4, 4, 2]  # two settings at once, two seeds each
    assert stage["seconds"] == pytest.approx(sum(group["seconds"] for group in stage["groups"]))
    trained = []
    train = InProcessExecutor.train

    def spy(self: InProcessExecutor, asked: Iterable[Any]) -> None:
        asked = list(asked)
        trained.extend(len(group.task.trials) for group in asked)
        train(self, asked)

    monkeypatch.setattr(InProcessExecutor, "train", spy)
    sweep(capsys)
    assert trained == groups


def test_overrides_and_points_on_conditions(project: Path, capsys) -> None:
    text = GRID.partition("lr =")[0] + "epochs = [2, 3]\ncrop = { choices = [1, 2], when = { epochs = 2 } }\n"
    points = "[stages.search.points]\np = [{ epochs = 2, crop = 1 }]\nq = [{ epochs = 3 }]\n"
    write(project, text + points)
    for epochs, trained in (("1", 1), ("2", 2)):
        assert sweep(capsys, "--epochs", epochs, "--points", "p", "--points", "q")[0]["trained"] == trained


def test_what_a_sampler_could_propose_is_checked_before_training(project: Path, capsys) -> None:
    write(project, TPE + "crop = { low = 0, high = 7 }\n")
    assert main(["run", "adaptive", "--quiet"]) == 2
    assert "crop is 7: larger than images of 6x7 pixels" in capsys.readouterr().err
    assert runs() == []


def test_what_was_trained_for_another_search_is_not_trained_again(project: Path, capsys) -> None:
    write(project, TPE)
    (first,) = sweep(capsys)
    write(project, TPE.replace('["sgd", "adam"]', '["sgd", "adam", "adamw"]').replace("trials = 5", "trials = 1"))
    assert sweep(capsys)[0]["trained"] <= 2
    write(project, TPE.replace("trials = 5", "trials = 6"))
    (again,) = sweep(capsys)
    assert again["trained"] == 2
    assert {row["run_id"] for row in first["trials"]} < {row["run_id"] for row in again["trials"]}
    patience = HEAD.replace("patience = 4", "patience = 5") + TPE
    (project / "experiments" / "adaptive.toml").write_text(patience)
    assert sweep(capsys)[0]["trained"] == 10  # other settings
    (project / "experiments" / "adaptive.toml").write_text(
        patience.replace("momentum = { choices", "reg = [0.005]\nmomentum = { choices")
    )
    assert sweep(capsys)[0]["trained"] < 10  # another space, in which the same settings come up


def test_a_proposal_that_cannot_be_trained_is_left_out(project: Path, capsys) -> None:
    """A combination far behind the thousand that are checked beforehand."""
    space = 'filters = ["2", "2x2"]\npool = ["auto", "yes"]\n'  # "yes" speaks of one block
    pairs = {"lr": "0.01, 0.1", "reg": "0.0, 0.1", "dropout": "0.0, 0.1", "flip": "0.0, 0.1", "noise": "0.0, 0.1"}
    pairs |= {"crop": "0, 1", "cutout": "0, 1", "rotate": "0.0, 1.0", "contrast": "0.0, 0.1", "brightness": "0.0, 0.1"}
    space += "".join(f"{key} = [{values}]\n" for key, values in pairs.items())
    write(
        project, TPE.partition("optimiser =")[0].replace("seeds = 2", "").replace("trials = 5", "trials = 12") + space
    )
    assert main(["run", "adaptive", "--json", "--quiet", "--epochs", "1"]) == 0
    shown = capsys.readouterr()
    (stage,) = json.loads(shown.out)["stages"]
    left_out = shown.err.count("left out what tpe proposed: pool speaks of 1 blocks")
    assert left_out == 12 - len(stage["trials"]) > 0
    assert {(row["filters"], row["pool"]) for row in stage["trials"]} <= {("2", "auto"), ("2", "yes"), ("2x2", "auto")}
    assert sweep(capsys, "--epochs", "1")[0]["trained"] == 0
    journal = next(project.glob("mlruns/*/optuna.journal")).read_text()
    names = [run.name.partition(" ")[2] for run in runs()]  # without the number, which Optuna's record has itself
    assert all(f'"{name}"' in journal for name in names)


def test_a_budget_of_epochs_cuts_and_a_larger_one_trains_again_what_was_cut(project: Path, capsys) -> None:
    grid = GRID.replace("lr =", 'filters = ["2", "3"]\nlr =') + "[stages.search.budget]\nepochs = 50\n"
    write(project, grid)
    (stage,) = sweep(capsys)
    assert Counter((row["status"], row["epochs"]) for row in stage["trials"]) == {("finished", 4): 8, ("cut", 3): 8}
    assert {run.tags["reason"] for run in runs(outcome="cut")} == {"the stage's 50 epochs are spent"}
    assert sweep(capsys)[0]["trained"] == 0
    write(project, grid.replace("epochs = 50", "epochs = 500"))
    (stage,) = sweep(capsys)
    assert stage["trained"] == 8
    assert Counter((row["status"], row["epochs"]) for row in stage["trials"]) == {("finished", 4): 16}
    assert sweep(capsys)[0]["trained"] == 0


def test_a_budget_of_time_ends_the_stage_after_the_epoch(project: Path, capsys) -> None:
    write(project, GRID + "[stages.search.budget]\nminutes = 0.00001\n")
    (stage,) = sweep(capsys)
    assert [(row["status"], row["epochs"]) for row in stage["trials"]] == [("cut", 1)] * 8
    assert stage["winner"] == stage["trials"][0]
    assert sweep(capsys)[0]["trained"] == 0


def test_a_stage_whose_budget_is_spent_can_be_built_on(project: Path, capsys) -> None:
    write(
        project,
        TPE + "[stages.search.budget]\nepochs = 9\n"
        '[stages.next]\nsampler = "grid"\nafter = "search"\ninherit = ["lr", "optimiser"]\n'
        "[stages.next.space]\nreg = [0.0, 0.01]\n",
    )
    search, following = sweep(capsys)
    assert len(search["trials"]) < 5
    assert {run.params["lr"] for run in runs(stage="next")} == {str(search["winner"]["lr"])}
    assert following["trained"] == 2


@pytest.mark.parametrize(
    "pruner",
    [
        '"median"',
        *slow("sweeps three times", *(f'{{ kind = "{kind}", reduction = 2 }}' for kind in ("halving", "hyperband"))),
    ],
)
def test_pruned_trials_leave_the_group_and_close_with_what_they_had(
    project: Path, capsys, monkeypatch: pytest.MonkeyPatch, pruner: str
) -> None:
    begun: list[Work] = []
    monkeypatch.setattr(Display, "begin", lambda screen, stage, trials, done, work: begun.append(work))
    write(project, GRID.replace('sampler = "grid"', f'sampler = "grid"\npruner = {pruner}'))
    (stage,) = sweep(capsys)
    pruned = [row for row in stage["trials"] if row["status"] == "pruned"]
    assert 1 <= len(pruned) <= 7
    assert stage["winner"]["status"] == "finished"
    assert all(row["epochs"] < 4 for row in pruned)
    assert [row["status"] for row in stage["trials"]] == ["finished"] * (8 - len(pruned)) + ["pruned"] * len(pruned)
    for run in runs(outcome="pruned"):
        row = next(row for row in pruned if row["run_id"] == run.run_id)
        assert run.status == "FINISHED"
        assert run.tags["reason"].startswith("pruned by ")
        assert run.tags["reason"].endswith(f"after epoch {row['epochs']}")
        assert run.metrics["best_val_accuracy"] == row["best_val_accuracy"]
        assert Tracker().artifacts.path(run, "model.npz").exists()
    assert len(runs(outcome="pruned")) == len(pruned)
    assert sweep(capsys)[0]["trained"] == 0
    assert len(begun[-1].known) == 8 - len(pruned)  # only these can be the best
    write(project, GRID)
    (stage,) = sweep(capsys)
    assert stage["trained"] == len(pruned)
    assert {row["status"] for row in stage["trials"]} == {"finished"}


@pytest.mark.slow("draws all pictures of a stage")
def test_a_stage_that_augments_has_a_picture_of_it(project: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("SWEEP_FIGURES", "all")
    write(
        project,
        GRID.partition("lr =")[0] + "crop = [0, 1]\n" + '[stages.plain]\nsampler = "grid"\nspace = { lr = [0.1] }\n',
    )
    augmenting, plain = sweep(capsys)
    tracker = Tracker()
    folders = [
        tracker.artifacts.path(tracker.lookup.find(s["run_id"]), "summary.csv").parent / "figures"
        for s in (augmenting, plain)
    ]
    assert [(folder / "augmented.png").exists() for folder in folders] == [True, False]
    assert (folders[0] / "augmented.png").read_bytes().startswith(b"\x89PNG")


def test_samples_show_each_kind_of_augmentation_beside_the_images_as_they_are(project: Path) -> None:
    found = datasets.load("small.npz")
    rows = [
        Row((Cell("s", n, {}, settings, str(n)),), (Outcome("finished", str(n), 0.5, 1.0, 1, 1),))
        for n, settings in enumerate([Settings(noise=0.5), Settings(), Settings(flip=1.0), Settings(flip=1.0, lr=0.5)])
    ]
    lines = augmented_samples(backends.load(), found, 0, rows)
    assert [name for name, _ in lines] == ["as they are", "noise 0.5", "", "flip 1", ""]
    still = lines[0][1]
    assert still.shape == (8, 1, 6, 7)
    np.testing.assert_array_equal(lines[3][1], still[..., ::-1])
    assert 0.3 < (lines[1][1] - still).std() < 0.7
    assert augmented_samples(backends.load(), found, 0, rows[1:2]) == []


SHIPPED = {path.stem for path in (REPOSITORY / "experiments").glob("*.toml")}


@pytest.mark.parametrize("name", ["report", *slow("trains a whole experiment", *sorted(SHIPPED - {"report"}))])
def test_every_shipped_experiment_runs_at_toy_size(project: Path, capsys, name: str) -> None:
    text = (REPOSITORY / "experiments" / f"{name}.toml").read_text()
    text = re.sub(r'"(\d+(x\d+)+)"', lambda filters: re.sub(r"\d+", lambda n: str(int(n[0]) // 16), filters[0]), text)
    (project / "experiments" / "adaptive.toml").write_text(text)
    stages = sweep(capsys, "--data", "small.npz", "--epochs", "1")
    assert all(stage["winner"] for stage in stages)
    assert all(stage["trained"] for stage in stages)
