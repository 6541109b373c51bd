"""Which settings and architectures exist, and what is said of those that do not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from core.config.architecture import Architecture, parse_filters, parse_pool
from core.config.hyperparameters import Hyperparameters
from core.config.settings import AUGMENTATIONS, DECLARED, Settings
from core.errors import InputError


def test_the_reports_network_has_the_reports_shapes() -> None:
    report = Architecture((3, 32, 32), (32, 32), 10)
    assert report.conv_shapes == ((32, 34, 34), (32, 19, 19))
    assert report.shapes == [(3, 32, 32), (32, 17, 17), (32, 9, 9)]
    assert report.features == 2592
    assert [(layer.number, layer.channels, layer.filters, layer.pad, layer.pool) for layer in report.layers] == [
        (1, 3, 32, 2, 2),
        (2, 32, 32, 2, 2),
    ]
    assert {(layer.shortcut, layer.ends_block) for layer in report.layers} == {("", True)}


def test_any_number_of_blocks_and_any_image() -> None:
    assert Architecture((1, 8, 5), (2, 3, 4), 7).shapes == [(1, 8, 5), (2, 5, 3), (3, 3, 2), (4, 2, 2)]


def test_a_residual_block_is_two_convolutions_of_unchanged_size_and_a_shortcut() -> None:
    deep = Architecture((3, 9, 8), (3, 4, 4), 7, residual=True)
    assert deep.conv_shapes == ((3, 9, 8), (3, 9, 8), (4, 4, 4), (4, 4, 4), (4, 2, 2), (4, 2, 2))
    assert deep.shapes == [(3, 9, 8), (3, 9, 8), (3, 4, 4), (4, 4, 4), (4, 2, 2), (4, 2, 2), (4, 1, 1)]
    assert [layer.shortcut for layer in deep.layers] == ["", "identity", "", "projection", "", "identity"]
    assert [(layer.block, layer.source, layer.channels) for layer in deep.layers] == [
        *((1, 3, 3), (1, 3, 3), (2, 3, 3), (2, 3, 4), (3, 4, 4), (3, 4, 4))
    ]
    assert [layer.ends_block for layer in deep.layers] == [False, True] * 3
    assert [layer.number for layer in deep.layers] == [1, 2, 3, 4, 5, 6]
    assert {layer.pad for layer in deep.layers} == {1}


@pytest.mark.parametrize(
    ("pool", "shapes"),
    [
        ((), [(2, 5, 3), (3, 3, 2)]),
        ((True, True), [(2, 5, 3), (3, 3, 2)]),
        ((True, False), [(2, 5, 3), (3, 7, 5)]),
        ((False, True), [(2, 10, 7), (3, 6, 4)]),
        ((False, False), [(2, 10, 7), (3, 12, 9)]),
    ],
)
def test_each_block_pools_or_not(pool: tuple[bool, ...], shapes: list[tuple[int, int, int]]) -> None:
    assert Architecture((1, 8, 5), (2, 3), 7, pool).shapes[1:] == shapes


def test_without_a_word_a_block_pools_where_there_is_something_to_pool() -> None:
    deep = Architecture((1, 4, 4), (2, 2, 2, 2), 3, residual=True)
    assert [layer.pool for layer in deep.layers] == [1, 2, 1, 2, 1, 1, 1, 1]
    assert deep.shapes[-1] == (2, 1, 1)
    assert [layer.pool for layer in Architecture((1, 1, 9), (2,), 3, residual=True).layers] == [1, 1]


@pytest.mark.parametrize(("global_pool", "features"), [(False, 4 * 3 * 2), (True, 4)])
def test_the_linear_layer_reads_pixels_or_means(global_pool: bool, features: int) -> None:
    assert Architecture((1, 4, 2), (4,), 7, global_pool=global_pool).features == features


@pytest.mark.parametrize("pool", [(True,), (True, True, False)])
def test_pool_must_speak_of_every_block(pool: tuple[bool, ...]) -> None:
    with pytest.raises(InputError, match=rf"pool speaks of {len(pool)} blocks, but there are 2"):
        Architecture((1, 8, 5), (2, 3), 7, pool)


def test_pooling_a_single_pixel_away_is_refused() -> None:
    with pytest.raises(InputError, match=r"images of 4x3 pixels leave none after block 2 of 3: use fewer blocks, less"):
        Architecture((1, 4, 3), (2, 2, 2), 7, (True, True, False), residual=True)


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


@pytest.mark.parametrize(
    ("text", "pool"), [("auto", ()), ("yes", (True,)), ("no/yes", (False, True)), ("no/no/no", (False,) * 3)]
)
def test_pool_is_read(text: str, pool: tuple[bool, ...]) -> None:
    assert parse_pool(text) == pool


@pytest.mark.parametrize("text", ["", "/", "yes/", "/no", "Yes", "true", "yes,no", "yes / no", "auto/yes", "no\n"])
def test_bad_pool_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r'write "auto", or yes or no for each block, like "yes/no"'):
        parse_pool(text)


SWITCH = [0, 1, "yes", None, 1.0]
SHARE = [-0.1, 1.01, math.inf, math.nan, "0.5", True]
PIXELS = [-1, 1.0, "1", True]
BETA = [-0.1, 1, 1.0, math.nan, "0.9", False]
BAD: dict[str, list[Any]] = {
    "filters": ["", "32,64", 32, None],
    "lr": [0, -0.1, math.inf, math.nan, "0.1", True, None],
    "reg": [-1e-9, 1.1e12, math.inf, math.nan, "0", False],
    "dropout": [-0.1, 1, 1.0, math.nan, "half"],
    "seed": [-1, 2**63, 1.0, "1", True],
    "epochs": [0, -1, 2.5, "20", True],
    "patience": [0, 5.0, 10**400],
    "batch_size": [1, 0, 16.0, 10**9 + 1],
    "initial": ["kaiming", "", 1],
    "gradient": ["average", None],
    "clip": [-1, math.inf, math.nan, "5"],
    "clip_global": [-1, math.inf, math.nan],
    "schedule": ["linear", 0],
    "decay": [0, 1.01, math.nan],
    "step_factor": [0, -0.5, 1.5],
    "step_epochs": [0, 1.5, 10**400],
    "exp_rate": [-0.1, math.inf, math.nan],
    "lr_min": [-0.1, math.inf, math.nan],
    "warmup": [-0.1, math.inf, math.nan, "1", True],
    "cycle_rise": [0, 1, 1.0, math.nan, "0.3"],
    "cycle_start": [0, 0.99, math.inf, math.nan],
    "cycle_end": [0, 0.99, math.inf, math.nan],
    "optimiser": ["SGD", "rmsprop", "", None],
    "momentum": BETA,
    "nesterov": SWITCH,
    "beta1": BETA,
    "beta2": BETA,
    "adam_eps": [0, 1e-13, -1e-8, math.inf, math.nan],
    "pool": ["", "maybe", "yes,no", True, None],
    "residual": SWITCH,
    "global_pool": SWITCH,
    "flip": SHARE,
    "crop": PIXELS,
    "rotate": [-1, 180.1, math.nan, "90"],
    "brightness": SHARE,
    "contrast": SHARE,
    "saturation": SHARE,
    "noise": [-0.1, 1.1e6, math.inf, math.nan, "0.1"],
    "cutout": PIXELS,
}
EDGES: dict[str, list[Any]] = {
    "filters": ["1", "99999x1"],
    "lr": [1e-300, 1, 1e6],
    "reg": [0, 0.0, 1e12],
    "dropout": [0, 0.0, 0.999, math.nextafter(1, 0)],
    "seed": [0, 2**63 - 1],
    "epochs": [1],
    "patience": [1, 10**9],
    "batch_size": [2, 10**9],
    "initial": ["he", "xavier", "normal"],
    "gradient": ["mean", "sum"],
    "clip": [0, 0.0, 1e9],
    "clip_global": [0, 1],
    "schedule": ["constant", "geometric", "step", "exponential", "cosine", "one-cycle"],
    "decay": [1, 1e-9],
    "step_factor": [1, 1e-9],
    "step_epochs": [1, 10**9],
    "exp_rate": [0],
    "lr_min": [0],
    "warmup": [0, 0.5, 1e6],
    "cycle_rise": [1e-9, 0.999],
    "cycle_start": [1, 1e9],
    "cycle_end": [1, 1e9],
    "optimiser": ["sgd", "adam", "adamw"],
    "momentum": [0, 0.999],
    "nesterov": [True, False],
    "beta1": [0, 0.999],
    "beta2": [0, 0.99999],
    "adam_eps": [1e-12, 1],
    "pool": ["auto", "yes", "no/yes/no"],
    "residual": [True, False],
    "global_pool": [True, False],
    "flip": [0, 1],
    "crop": [0, 1],
    "rotate": [0, 180],
    "brightness": [0, 1],
    "contrast": [0, 1],
    "saturation": [0, 1],
    "noise": [0, 1e6],
    "cutout": [0, 1],
}


def test_the_tables_name_every_setting() -> None:
    assert set(BAD) == set(EDGES) == set(vars(Settings()))


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_value_out_of_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{name} is .+: (it must be|write) .+$") as caught:  # one line
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
    assert (settings.optimiser, settings.momentum, settings.pool, settings.warmup) == ("sgd", 0, "auto", 0)
    assert not any(getattr(settings, name) for name in ("nesterov", "residual", "global_pool", *AUGMENTATIONS))


def test_hyperparameters_are_arrays_in_the_trials_order() -> None:
    trials = [
        Settings(reg=0.1, seed=2**62 + 1, clip=0, momentum=0.9, beta1=0.5, flip=0.5, crop=4, cutout=8),
        Settings(dropout=0.1, gradient="sum", clip_global=2, nesterov=True, beta2=0.99, adam_eps=1e-3, rotate=15),
    ]
    group = Hyperparameters.of(trials)
    assert {name: values.tolist() for name, values in vars(group).items()} == {
        "reg": [0.1, 0.005],
        "dropout": [0.5, 0.1],
        "seed": [2**62 + 1, 0],
        "sums": [False, True],
        "clip": [math.inf, 5.0],
        "clip_global": [math.inf, 2.0],
        "momentum": [0.9, 0.0],
        "nesterov": [False, True],
        "beta1": [0.5, 0.9],
        "beta2": [0.999, 0.99],
        "adam_eps": [1e-8, 1e-3],
        "augmentation": [[0.5, 4, 0, 0, 0, 0, 0, 8], [0, 0, 15, 0, 0, 0, 0, 0]],
    }
    assert all(
        values.tolist() == vars(group)[name].tolist()[1:] for name, values in vars(group.take(slice(1, 2))).items()
    )
    kinds = {name: values.dtype for name, values in vars(group).items()}
    assert kinds == dict.fromkeys(kinds, np.float64) | {"seed": np.uint64, "sums": np.bool_, "nesterov": np.bool_}


USED_BY: dict[str, set[str]] = {
    "constant": set(),
    "geometric": {"decay"},
    "step": {"step_factor", "step_epochs"},
    "exponential": {"exp_rate"},
    "cosine": {"lr_min"},
    "one-cycle": {"cycle_rise", "cycle_start", "cycle_end"},
    "sgd": {"momentum", "nesterov"},
    "adam": {"beta1", "beta2", "adam_eps"},
    "adamw": {"beta1", "beta2", "adam_eps"},
}


@pytest.mark.parametrize("schedule", EDGES["schedule"])
@pytest.mark.parametrize("optimiser", EDGES["optimiser"])
def test_settings_of_what_is_not_used_have_no_effect(schedule: str, optimiser: str) -> None:
    settings = Settings(schedule=schedule, optimiser=optimiser)
    unused = set().union(*USED_BY.values()) - USED_BY[schedule] - USED_BY[optimiser]
    unused |= {name for name, declared in DECLARED.items() if declared.later}  # which are at their defaults
    assert settings.effective() == {name: value for name, value in vars(settings).items() if name not in unused}
