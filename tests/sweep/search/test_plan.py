"""Plans: which cells a stage has, what identifies them, and how they group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import ops
from core.backends import registry as backends
from core.config.settings import Settings
from core.data import registry as datasets
from core.data.dataset import Dataset
from core.errors import InputError
from core.machine import threads
from core.network.parameters import parameter_shapes
from sweep.experiment import file as experiments
from sweep.experiment.space import Space
from sweep.experiment.stage import Experiment, Stage
from sweep.search import cost as estimate
from sweep.search import grouping, plan
from sweep.search.cell import Cell, cell_key
from sweep.search.cost import GroupCost


def cells_of(
    loaded: Experiment, stage: Stage, inherited: Mapping[str, Any], found: Dataset, points: Sequence[str] = ()
) -> list[Cell]:
    """The plan of a stage that knows its settings beforehand."""
    return plan.cells(loaded, stage, inherited, found, plan.settings(loaded, stage) + plan.named(stage, points))


@pytest.fixture
def small(project: Path) -> Dataset:
    return datasets.load("small.npz")


def test_a_grid_has_every_combination_once_in_order(small: Dataset) -> None:
    loaded = experiments.load("small")
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
    loaded = experiments.load("small")
    cells = cells_of(loaded, loaded.stages["grid"], {}, small)
    assert [[cell.index for cell in group] for group in grouping.groups(cells)] == [[1, 3], [2, 4]]
    odd = replace(cells[0], settings=replace(cells[0].settings, batch_size=8))
    assert len(grouping.groups([odd, cells[2]])) == 2
    adam = replace(cells[0], settings=replace(cells[0].settings, optimiser="adam"))
    assert len(grouping.groups([cells[0], adam])) == 2


def test_random_draws_are_the_same_each_time_and_more_trials_keep_the_first(small: Dataset) -> None:
    loaded = experiments.load("small")
    stage = loaded.stages["dropout"]
    inherited = {"lr": 0.1, "filters": "2"}
    cells = cells_of(loaded, stage, inherited, small)
    draws = [cell.settings.dropout for cell in cells]
    assert len(set(draws)) == 3
    assert all(0 <= draw < 1 for draw in draws)
    assert cells_of(loaded, stage, inherited, small) == cells
    assert cells_of(loaded, replace(stage, trials=5), inherited, small)[:3] == cells
    assert cells[0].settings.lr == 0.1
    other = experiments.load("small", {"seed": 2})
    assert [c.settings.dropout for c in cells_of(other, stage, inherited, small)] != draws


def test_named_points_come_after_the_draws_and_unknown_ones_are_refused(small: Dataset) -> None:
    loaded = experiments.load("small")
    stage, inherited = loaded.stages["dropout"], {"lr": 0.1, "filters": "2"}
    cells = cells_of(loaded, stage, inherited, small, ["named"])
    assert [cell.settings.dropout for cell in cells[3:]] == [0.0, 0.5]
    assert cells[:3] == cells_of(loaded, stage, inherited, small)
    assert len(cells_of(loaded, stage, inherited, small, ["named", "named"])) == 5
    with pytest.raises(InputError, match=r'no points called "nmaed"; there are: named'):
        cells_of(loaded, stage, inherited, small, ["nmaed"])


def test_a_key_changes_with_every_setting_and_with_the_data(small: Dataset) -> None:
    loaded = experiments.load("small")
    settings = cells_of(loaded, loaded.stages["grid"], {}, small)[0].settings
    base = cell_key(settings, small, 0)
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
    keys = {cell_key(replace(settings, **{name: value}), small, 0) for name, value in changed.items()}
    keys |= {cell_key(settings, small, 1), cell_key(settings, replace(small, sha256="0"), 0)}
    assert len(keys | {base}) == len(changed) + 3
    for parent, values in only.items():
        where = replace(settings, **{"optimiser" if parent.startswith("adam") else "schedule": parent})
        there = {cell_key(replace(where, **{name: value}), small, 0) for name, value in values.items()}
        assert len(there | {cell_key(where, small, 0)}) == len(values) + 1
        assert {cell_key(replace(settings, **{name: value}), small, 0) for name, value in values.items()} == {base}


def test_a_pad_of_2_keeps_a_pixel_through_any_number_of_blocks(small: Dataset) -> None:
    loaded = experiments.load("small")
    stage = replace(loaded.stages["grid"], space=Space({"filters": ("2x2x2x2x2x2x2x2",)}))
    tiny = replace(small, x=small.x[:, :, :1, :1])
    assert grouping.architecture(cells_of(loaded, stage, {}, tiny)[0].settings, tiny).features == 2


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
    loaded = experiments.load("small")
    stage = loaded.stages["grid"]
    space = Space({"filters": (settings.pop("filters", "2x2"),)})
    with pytest.raises(InputError, match=message):
        cells_of(loaded, replace(stage, space=space, settings=stage.settings | settings), {}, small)


def test_a_group_is_cut_between_settings_into_equal_parts(small: Dataset) -> None:
    loaded = experiments.load("small")
    stage = replace(loaded.stages["grid"], seeds=2, space=Space({"lr": (0.1, 0.2, 0.3, 0.4, 0.5), "filters": ("2",)}))
    (group,) = grouping.groups(cells_of(loaded, stage, {}, small))
    assert grouping.parts(group, 1) == [group]
    assert [[cell.index for cell in part] for part in grouping.parts(group, 2)] == [[1, 1, 2, 2], [3, 3, 4, 4, 5, 5]]
    assert [len(part) for part in grouping.parts(group, 5)] == [2] * 5
    assert [cell for part in grouping.parts(group, 3) for cell in part] == group


def group_of(small: Dataset, settings: int, seeds: int = 1) -> list[Cell]:
    loaded = experiments.load("small")
    space = Space({"lr": tuple(0.01 * n for n in range(1, settings + 1)), "filters": ("3x4",)})
    (group,) = grouping.groups(cells_of(loaded, replace(loaded.stages["grid"], seeds=seeds, space=space), {}, small))
    return group


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_group_that_memory_is_too_small_for_comes_in_the_fewest_parts_that_fit(small: Dataset, backend: str) -> None:
    chosen, group = backends.load(backend), group_of(small, 9)
    shape = grouping.architecture(group[0].settings, small)

    def needed(trials: int) -> int:
        return chosen.step_memory(shape, trials, group[0].settings.batch_size)

    assert estimate.fitting(chosen, small, group, needed(9)) == ([group], "")
    for memory, sizes in (
        (needed(9) - 1, [4, 5]),
        (needed(5), [4, 5]),
        (needed(4), [3, 3, 3]),
        (needed(3) - 1, [1, 2, 2, 2, 2]),
        (needed(1), [1] * 9),
    ):
        parts, note = estimate.fitting(chosen, small, group, memory)
        assert [len(part) for part in parts] == sizes
        assert [cell for part in parts for cell in part] == group
        assert max(needed(len(part)) for part in parts) <= memory
        assert note.startswith("3x4, batch 16: 9 together would take ")
        assert note.endswith(f" MiB are free: in {len(sizes)} parts")
    parts, note = estimate.fitting(chosen, small, group, needed(1) - 1)
    assert [len(part) for part in parts] == [1] * 9
    assert note.endswith("in 9 parts, and even so it may run out")


def test_the_seeds_of_a_setting_stay_together_even_if_memory_is_too_small(small: Dataset) -> None:
    group, fast = group_of(small, 3, seeds=4), backends.load("cpu")
    eight = fast.step_memory(grouping.architecture(group[0].settings, small), 8, group[0].settings.batch_size)
    parts, _ = estimate.fitting(fast, small, group, eight)
    assert [len(part) for part in parts] == [4, 8]
    parts, _ = estimate.fitting(fast, small, group, eight - 1)
    assert [[cell.index for cell in part] for part in parts] == [[1] * 4, [2] * 4, [3] * 4]
    assert estimate.fitting(fast, small, group, 0)[0] == parts
    parts, note = estimate.fitting(fast, small, parts[0], 0)
    assert [len(part) for part in parts] == [4]
    assert "even so it may run out" in note


def test_memory_grows_with_what_computes_at_once(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = grouping.architecture(Settings(filters="32x64"), replace(small, x=np.zeros((1, 3, 32, 32), np.uint8)))
    reference = backends.load("reference")

    def needed(backend: ops.Ops, trials: int, batch_size: int = 128) -> int:
        return backend.step_memory(shape, trials, batch_size)

    weights = 20 * sum(math.prod(values) for values in parameter_shapes(shape).values())
    monkeypatch.setattr(threads, "_count", 2)
    assert needed(reference, 9) == needed(reference, 2) + 7 * weights
    monkeypatch.setattr(threads, "_count", 4)
    assert needed(reference, 9) == needed(reference, 4) + 5 * weights > 2 * needed(reference, 2) - 4 * weights
    fast = backends.load("cpu")
    assert needed(fast, 9) == pytest.approx(9 * needed(fast, 1))
    assert needed(fast, 1) < needed(reference, 1)
    assert needed(fast, 1, 256) == pytest.approx(2 * needed(fast, 1) - weights)


def test_a_reserve_and_the_data_are_left_out_of_the_memory(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = backends.load("reference")
    monkeypatch.setattr("core.machine.hardware.available_memory", lambda: 10**9)
    assert estimate.usable_memory(reference, small) == 8 * 10**8 - small.x.nbytes
    monkeypatch.setattr("core.machine.hardware.available_memory", lambda: 0)
    assert estimate.usable_memory(reference, small) == 0


def test_a_process_that_is_free_takes_the_next_group_and_a_wave_waits_for_the_one_before() -> None:
    def seconds(processes: int, *waves: Sequence[float], share: bool = False) -> float:
        costs = [[GroupCost("", 1, 1, 1, seconds) for seconds in wave] for wave in waves]
        return estimate.stage_seconds(costs, replace(backends.load(), processes_share_device=share), processes)

    assert seconds(1, [1, 2, 3]) == 6
    assert seconds(2, [1, 5, 4]) == 5
    assert seconds(2, [1, 1, 4]) == 5  # in the order of the plan, although another would end after 4
    assert seconds(3, [1, 1, 4]) == 4
    assert seconds(4, [1, 1, 4], [2, 2], []) == 6
    assert seconds(2, [1, 1, 4], share=True) == 10  # each has half of the threads
    assert seconds(1, [1, 1, 4], share=True) == 6


def test_groups_that_are_alike_are_measured_once(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    group, measured = group_of(small, 7), []

    def measure(backend: ops.Ops, found: Dataset, cells: Sequence[Cell]) -> GroupCost:
        measured.append(cells)
        return GroupCost("", len(cells), 1, 1, cells[0].settings.epochs)

    monkeypatch.setattr(estimate, "group_cost", measure)
    longer = [replace(cell, settings=replace(cell.settings, epochs=9)) for cell in group[:2]]
    waves = [[group[:2], group[2:4]], [group[4:6], group[6:]], [longer]]
    found = estimate.costs(backends.load(), small, waves)
    assert [[(cost.trials, cost.seconds) for cost in wave] for wave in found] == [
        [(2, 3)] * 2,
        [(2, 3), (1, 3)],
        [(2, 9)],
    ]
    assert measured == [group[:2], group[6:], longer]
