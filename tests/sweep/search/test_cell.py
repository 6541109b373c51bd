"""Keys of cells: a stored trial is found by its key, so the same settings have the same key for ever."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.config import settings
from core.config.settings import Settings
from core.data.formats import digits
from sweep.search.cell import cell_key

KEYS: list[tuple[dict[str, Any], str]] = [
    ({}, "a7fd0843cff44a5d"),
    ({"optimiser": "adam", "beta1": 0.8}, "55dc215f1e4b9ec9"),
    ({"optimiser": "adamw", "adam_eps": 1e-6, "schedule": "cosine", "lr_min": 0.001}, "583fad3c755961c7"),
    ({"schedule": "one-cycle", "warmup": 2.0, "cycle_rise": 0.2}, "bdbdc3c660ce0001"),
    ({"schedule": "step", "step_epochs": 3}, "76b81e809335f04f"),
    ({"residual": True, "global_pool": True, "pool": "yes/no", "filters": "8x16"}, "07f66df0ccfcbb02"),
    ({"flip": 0.5, "crop": 2, "noise": 0.1, "cutout": 3, "rotate": 5.0}, "c5827819061784b2"),
    (
        {"clip": 0.0, "clip_global": 1.0, "gradient": "sum", "nesterov": True, "momentum": 0.9}
        | {"dropout": 0.9999999999},
        "690326dd578b1783",
    ),
]


@pytest.mark.parametrize(("values", "key"), KEYS)
def test_keys_stay_as_they_are_stored(values: dict[str, Any], key: str) -> None:
    assert cell_key(Settings(**values), replace(digits.load(), sha256="0" * 64), 3) == key


def test_a_later_setting_changes_no_key_until_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if noise and beta1 had been declared after these trials were stored."""
    data = replace(digits.load(), sha256="0" * 64)
    before = {name: value for name, value in Settings().effective().items() if name != "noise"}
    monkeypatch.setattr(settings, "_LATER", settings._LATER | {"noise", "beta1"})
    assert Settings().effective() == before
    assert Settings(optimiser="adam").effective().keys() == before.keys() - {"momentum", "nesterov"} | {
        "beta2",
        "adam_eps",
    }
    assert Settings(noise=0.1).effective() == before | {"noise": 0.1}
    assert cell_key(Settings(noise=0.1), data, 3) != cell_key(Settings(), data, 3)
