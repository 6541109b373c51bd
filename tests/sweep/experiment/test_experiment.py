"""Experiment files: what is read, and one clear line for everything that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import InputError
from sweep.experiment import file as experiments
from sweep.experiment.space import Range

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "experiments").glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_experiments_are_valid_and_say_what_they_are_for(path: Path) -> None:
    loaded = experiments.load(str(path))
    assert loaded.stages
    for word in ("# Question", "# Cost", "# Expect"):
        assert word in loaded.text


def test_the_report_is_as_the_report_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_ROOT", str(REPOSITORY))
    report = experiments.load("report")
    grid, dropout = report.stages["grid"], report.stages["dropout"]
    assert grid.sampler == "grid"
    assert grid.space.dimensions == {
        "lr": (0.01, 0.05, 0.1),
        "reg": (0.001, 0.005, 0.01),
        "filters": ("32x64", "32x32", "16x32"),
    }
    assert grid.settings["dropout"] == 0.5
    assert grid.settings["epochs"] == 20
    assert (dropout.sampler, dropout.after, dropout.trials) == ("random", "grid", 8)
    assert dropout.inherit == ("lr", "reg", "filters")
    assert dropout.space.dimensions == {"dropout": Range(0.0, 1.0)}
    assert [point["dropout"] for point in dropout.points["report"]] == [0.0, 0.3, 0.5, 0.7]


def test_overrides_beat_the_file_in_every_stage(project: Path) -> None:
    loaded = experiments.load("small", {"epochs": 7, "seed": 5})
    assert loaded.seed == 5
    assert [stage.settings["epochs"] for stage in loaded.stages.values()] == [7, 7]


def test_whole_numbers_become_floats_where_the_setting_is_one(project: Path) -> None:
    text = experiments.find("small").read_text().replace("lr = [0.01, 0.1]", "lr = [1, 2]")
    experiments.find("small").write_text(text)
    assert [type(lr) for lr in experiments.load("small").stages["grid"].space.dimensions["lr"]] == [float, float]


BAD = {
    "misspelt key": ("sampler = ", "samplr = ", 'did you mean "sampler"'),
    "misspelt setting": ("epochs = 3", "epoch = 3", 'did you mean "epochs"'),
    "misspelt space": ("lr = [0.01, 0.1]", "lrr = [0.01]", 'did you mean "lr"'),
    "unknown sampler": ('"random"', '"rndom"', "one of grid, random, qmc, tpe, cmaes"),
    "lr zero": ("0.01, 0.1]", "0.0, 0.1]", "lr is 0.0"),
    "lr negative": ("0.01, 0.1]", "-1.0, 0.1]", "lr is -1.0"),
    "lr text": ("0.01, 0.1]", '"fast"]', "lr is 'fast'"),
    "lr true": ("0.01, 0.1]", "true]", "lr is True"),
    "lr nan": ("0.01, 0.1]", "nan]", "lr is nan"),
    "lr twice": ("0.01, 0.1]", "0.1, 0.1]", "names a value twice"),
    "no values": ("[0.01, 0.1]", "[]", "empty list"),
    "not a list": ("[0.01, 0.1]", "0.1", "list of values"),
    "range in a grid": ("[0.01, 0.1]", "{ low = 0.1, high = 1.0 }", "a grid needs a list"),
    "dropout one": ("dropout = 0.25", "dropout = 1.0", "dropout is 1.0"),
    "dropout range": ("high = 1.0 }", "high = 1.5 }", "dropout is"),
    "range reversed": ("low = 0.0, high = 1.0", "low = 1.0, high = 0.0", "low must be below high"),
    "range without high": ("low = 0.0, high = 1.0", "low = 0.0", "high is None"),
    "range misspelt": ("low = 0.0, high = 1.0", "low = 0.0, hihg = 1.0", 'did you mean "high"'),
    "filters open": ('"3x4", "2"', '"3x"', 'filters is "3x"'),
    "filters zero": ('"3x4", "2"', '"0x4"', 'filters is "0x4"'),
    "epochs zero": ("epochs = 3", "epochs = 0", "epochs is 0"),
    "epochs float": ("epochs = 3", "epochs = 2.5", "epochs is 2.5"),
    "batch of one": ("batch_size = 16", "batch_size = 1", "batch_size is 1"),
    "unknown stage": ('after = "grid"', 'after = "gird"', 'did you mean "grid"'),
    "inherit unknown": ('["lr", "filters"]', '["lrs"]', 'did you mean "lr"'),
    "inherit and search": ('["lr", "filters"]', '["dropout"]', "keep one"),
    "inherit alone": ('after = "grid"\n', "", "needs stages.dropout.after"),
    "trials zero": ("trials = 3", "trials = 0", "trials is 0"),
    "trials in a grid": ('sampler = "grid"', 'sampler = "grid"\ntrials = 4', "as many trials as cells"),
    "points of another setting": ("{ dropout = 0.5 }]", "{ lr = 0.5 }]", "must set exactly dropout"),
    "points outside": ("{ dropout = 0.5 }]", "{ dropout = 1.0 }]", "outside the stage's space"),
    "seed negative": ("seed = 1", "seed = -1", "seed is -1"),
    "data number": ('data = "small.npz"', "data = 3", "data is 3"),
    "settings no table": ("[settings]\nepochs = 3\nbatch_size = 16", "settings = 3", "settings is 3"),
    "after a list": ('after = "grid"', 'after = ["grid"]', "it must be a stage's name"),
    "lr beyond float": ("0.01, 0.1]", f"1{'0' * 400}]", "stages.grid.space.lr"),
    "range beyond float": ("high = 1.0 }", f"high = 1{'0' * 400} }}", "it must be a number"),
    "epochs without end": ("epochs = 3", "epochs = 10000000", "epochs is 10000000"),
    "too many cells": (
        "lr = [0.01, 0.1]",
        f"epochs = {[*range(1, 1001)]}\nlr = {[n / 1000 for n in range(1, 1001)]}",
        "100000",
    ),
    "too many trials": ("trials = 3", "trials = 1000\nseeds = 101", "more than 100000 trials"),
    "brackets": ("seed = 1", f"seed = {'[' * 5000}", "not valid TOML"),
    "broken toml": ("seed = 1", "seed = = 1", "not valid TOML"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_get_one_clear_line_with_the_file_name(project: Path, case: str) -> None:
    old, new, expected = BAD[case]
    path = experiments.find("small")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        experiments.load("small")
    message = str(caught.value)
    assert expected in message
    assert str(path) in message
    assert "\n" not in message


def test_files_without_stages_that_are_missing_or_not_text(project: Path) -> None:
    (project / "experiments" / "empty.toml").write_text("seed = 1\n")
    (project / "experiments" / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name, expected in {
        "empty": "stages is missing",
        "binary": "not valid TOML",
        "smal": 'did you mean "small"',
        "nowhere/else.toml": "there is no experiment",
    }.items():
        with pytest.raises(InputError, match=expected):
            experiments.load(name)
