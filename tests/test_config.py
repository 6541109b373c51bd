"""Which settings and architectures exist, and what is said of those that do not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from core.config import Architecture, Hyperparameters, Settings, parse_filters
from core.errors import InputError


def test_the_reports_network_has_the_reports_shapes() -> None:
    report = Architecture((3, 32, 32), (32, 32), 10)
    assert report.conv_shapes == [(32, 34, 34), (32, 19, 19)]
    assert report.shapes == [(3, 32, 32), (32, 17, 17), (32, 9, 9)]
    assert report.features == 2592


def test_any_number_of_blocks_and_any_image() -> None:
    assert Architecture((1, 8, 5), (2, 3, 4), 7).shapes == [(1, 8, 5), (2, 5, 3), (3, 3, 2), (4, 2, 2)]


@pytest.mark.parametrize(("height", "width"), [(0, 9), (9, 0)])
def test_an_image_without_pixels_is_refused(height: int, width: int) -> None:
    with pytest.raises(InputError, match=rf"images of {height}x{width} pixels leave none after block 0 of 1"):
        Architecture((1, height, width), (2,), 3)


@pytest.mark.parametrize(("text", "filters"), [("32x64", (32, 64)), ("7", (7,)), ("1x2x3", (1, 2, 3))])
def test_filters_are_read(text: str, filters: tuple[int, ...]) -> None:
    assert parse_filters(text) == filters


@pytest.mark.parametrize(
    "text", ["", "x", "32x", "x32", "0x32", "32x-1", "3.5", "32 x 64", "32X64", "32x64\n", "1٣", "999999"]
)
def test_bad_filters_are_refused(text: str) -> None:
    with pytest.raises(InputError, match='write the output channels of each block, like "32x64"'):
        parse_filters(text)


BAD: dict[str, list[Any]] = {
    "filters": ["", "32,64", 32, None],
    "lr": [0, -0.1, math.inf, math.nan, "0.1", True, None],
    "reg": [-1e-9, math.inf, math.nan, "0", False],
    "dropout": [-0.1, 1, 1.0, math.nan, "half"],
    "seed": [-1, 2**63, 1.0, "1", True],
    "epochs": [0, -1, 2.5, "20", True],
    "patience": [0, 5.0],
    "batch_size": [1, 0, 16.0],
    "initial": ["kaiming", "", 1],
    "gradient": ["average", None],
    "clip": [-1, math.inf, math.nan, "5"],
    "clip_global": [-1, math.inf, math.nan],
    "schedule": ["linear", 0],
    "decay": [0, 1.01, math.nan],
    "step_factor": [0, -0.5, 1.5],
    "step_epochs": [0, 1.5],
    "exp_rate": [-0.1, math.inf, math.nan],
    "lr_min": [-0.1, math.inf, math.nan],
}
EDGES: dict[str, list[Any]] = {
    "filters": ["1", "99999x1"],
    "lr": [1e-300, 1, 1e6],
    "reg": [0, 0.0],
    "dropout": [0, 0.0, 0.999],
    "seed": [0, 2**63 - 1],
    "epochs": [1],
    "patience": [1],
    "batch_size": [2],
    "initial": ["he", "xavier", "normal"],
    "gradient": ["mean", "sum"],
    "clip": [0, 0.0, 1e9],
    "clip_global": [0, 1],
    "schedule": ["constant", "geometric", "step", "exponential", "cosine"],
    "decay": [1, 1e-9],
    "step_factor": [1, 1e-9],
    "step_epochs": [1],
    "exp_rate": [0],
    "lr_min": [0],
}


def test_the_tables_name_every_setting() -> None:
    assert set(BAD) == set(EDGES) == set(vars(Settings()))


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_value_out_of_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{name} is .+: (it must be|write) .+$") as caught:
        Settings(**{name: value})
    assert str(value) in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in EDGES.items() for value in values])
def test_a_value_at_the_edge_is_taken(name: str, value: Any) -> None:
    assert getattr(Settings(**{name: value}), name) == value


def test_the_defaults_are_the_reports() -> None:
    settings = Settings()
    assert (settings.batch_size, settings.epochs, settings.patience, settings.clip) == (128, 20, 5, 5.0)
    assert (settings.schedule, settings.decay, settings.initial, settings.gradient) == (
        "geometric",
        0.995,
        "he",
        "mean",
    )


def test_hyperparameters_are_arrays_in_the_trials_order() -> None:
    trials = [Settings(reg=0.1, seed=2**62 + 1, clip=0), Settings(dropout=0.1, gradient="sum", clip_global=2)]
    group = Hyperparameters.of(trials)
    assert {name: values.tolist() for name, values in vars(group).items()} == {
        "reg": [0.1, 0.005],
        "dropout": [0.5, 0.1],
        "seed": [2**62 + 1, 0],
        "sums": [False, True],
        "clip": [math.inf, 5.0],
        "clip_global": [math.inf, 2.0],
    }
    assert all(
        values.tolist() == vars(group)[name].tolist()[1:] for name, values in vars(group.take(slice(1, 2))).items()
    )
    assert group.seed.dtype == np.uint64
