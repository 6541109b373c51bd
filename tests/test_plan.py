"""Plans: which cells a stage has, what identifies them, and how they group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core import data
from core.data import Dataset
from core.errors import InputError
from sweep import experiment, plan
from sweep.experiment import Experiment, Stage
from sweep.plan import Cell
from sweep.space import Space


def cells_of(
    loaded: Experiment, stage: Stage, inherited: Mapping[str, Any], found: Dataset, points: Sequence[str] = ()
) -> list[Cell]:
    """The plan of a stage that knows its settings beforehand."""
    return plan.cells(loaded, stage, inherited, found, plan.settings(loaded, stage, points))


@pytest.fixture
def small(project: Path) -> Dataset:
    return data.load("small.npz")


def test_a_grid_has_every_combination_once_in_order(small: Dataset) -> None:
    loaded = experiment.load("small")
    cells = cells_of(loaded, loaded.stages["grid"], {}, small)
    assert [cell.name for cell in cells] == [
        "grid-01 lr=0.01 3x4",
        "grid-02 lr=0.01 2",
        "grid-03 lr=0.1 3x4",
        "grid-04 lr=0.1 2",
    ]
    assert cells[0].settings.dropout == 0.25
    assert cells[0].settings.seed == 1
    assert cells[0].settings.epochs == 3


def test_groups_share_architecture_batch_size_and_optimiser(small: Dataset) -> None:
    loaded = experiment.load("small")
    cells = cells_of(loaded, loaded.stages["grid"], {}, small)
    assert [[cell.index for cell in group] for group in plan.groups(cells)] == [[1, 3], [2, 4]]
    odd = replace(cells[0], settings=replace(cells[0].settings, batch_size=8))
    assert len(plan.groups([odd, cells[2]])) == 2
    adam = replace(cells[0], settings=replace(cells[0].settings, optimiser="adam"))
    assert len(plan.groups([cells[0], adam])) == 2


def test_random_draws_are_the_same_each_time_and_more_trials_keep_the_first(small: Dataset) -> None:
    loaded = experiment.load("small")
    stage = loaded.stages["dropout"]
    inherited = {"lr": 0.1, "filters": "2"}
    cells = cells_of(loaded, stage, inherited, small)
    draws = [cell.settings.dropout for cell in cells]
    assert len(set(draws)) == 3
    assert all(0 <= draw < 1 for draw in draws)
    assert cells_of(loaded, stage, inherited, small) == cells
    assert cells_of(loaded, replace(stage, trials=5), inherited, small)[:3] == cells
    assert cells[0].settings.lr == 0.1
    other = experiment.load("small", {"seed": 2})
    assert [c.settings.dropout for c in cells_of(other, stage, inherited, small)] != draws


def test_named_points_come_after_the_draws_and_unknown_ones_are_refused(small: Dataset) -> None:
    loaded = experiment.load("small")
    stage, inherited = loaded.stages["dropout"], {"lr": 0.1, "filters": "2"}
    cells = cells_of(loaded, stage, inherited, small, ["named"])
    assert [cell.settings.dropout for cell in cells[3:]] == [0.0, 0.5]
    assert cells[:3] == cells_of(loaded, stage, inherited, small)
    assert len(cells_of(loaded, stage, inherited, small, ["named", "named"])) == 5
    with pytest.raises(InputError, match=r'no points called "nmaed"; there are: named'):
        cells_of(loaded, stage, inherited, small, ["nmaed"])


def test_a_key_changes_with_every_setting_and_with_the_data(small: Dataset) -> None:
    loaded = experiment.load("small")
    settings = cells_of(loaded, loaded.stages["grid"], {}, small)[0].settings
    base = plan.cell_key(settings, small, 0)
    changed = {
        "lr": 0.2, "reg": 0.1, "dropout": 0.1, "seed": 9, "epochs": 9, "patience": 2, "batch_size": 9, "filters": "9",
        "initial": "xavier", "gradient": "sum", "clip": 1.0, "clip_global": 1.0, "schedule": "cosine", "decay": 0.5,
        "warmup": 1.0, "optimiser": "adam", "momentum": 0.5, "nesterov": True, "pool": "no/no", "residual": True,
        "global_pool": True, "flip": 0.5, "crop": 1, "rotate": 5.0, "brightness": 0.1, "contrast": 0.1,
        "saturation": 0.1, "noise": 0.1, "cutout": 1,
    }  # fmt: skip
    only = {
        "step": {"step_factor": 0.1, "step_epochs": 2}, "exponential": {"exp_rate": 0.1}, "cosine": {"lr_min": 0.001},
        "one-cycle": {"cycle_rise": 0.2, "cycle_start": 2.0, "cycle_end": 2.0},
        "adam": {"beta1": 0.5, "beta2": 0.5, "adam_eps": 0.5}, "adamw": {"beta1": 0.5, "beta2": 0.5, "adam_eps": 0.5},
    }  # fmt: skip
    assert set(changed).union(*only.values()) == set(settings.__dataclass_fields__)
    keys = {plan.cell_key(replace(settings, **{name: value}), small, 0) for name, value in changed.items()}
    keys |= {plan.cell_key(settings, small, 1), plan.cell_key(settings, replace(small, sha256="0"), 0)}
    assert len(keys | {base}) == len(changed) + 3
    for parent, values in only.items():
        where = replace(settings, **{"optimiser" if parent.startswith("adam") else "schedule": parent})
        there = {plan.cell_key(replace(where, **{name: value}), small, 0) for name, value in values.items()}
        assert len(there | {plan.cell_key(where, small, 0)}) == len(values) + 1
        assert {plan.cell_key(replace(settings, **{name: value}), small, 0) for name, value in values.items()} == {base}


def test_a_pad_of_2_keeps_a_pixel_through_any_number_of_blocks(small: Dataset) -> None:
    loaded = experiment.load("small")
    stage = replace(loaded.stages["grid"], space=Space({"filters": ("2x2x2x2x2x2x2x2",)}))
    tiny = replace(small, x=small.x[:, :, :1, :1])
    assert plan.architecture(cells_of(loaded, stage, {}, tiny)[0].settings, tiny).features == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 7}, "crop is 7: larger than images of 6x7 pixels"),
        ({"cutout": 7}, "cutout is 7: larger than images of 6x7 pixels"),
        ({"pool": "yes"}, "pool speaks of 1 blocks, but there are 2"),
        ({"filters": "2x2x2x2", "residual": True, "pool": "yes/yes/yes/yes"}, "leave none after block 3 of 4"),
    ],
)
def test_what_the_images_do_not_allow_is_refused(small: Dataset, settings: dict[str, Any], message: str) -> None:
    loaded = experiment.load("small")
    stage = loaded.stages["grid"]
    space = Space({"filters": (settings.pop("filters", "2x2"),)})
    with pytest.raises(InputError, match=message):
        cells_of(loaded, replace(stage, space=space, settings=stage.settings | settings), {}, small)
