"""What derives from the declarations of settings: defaults that are allowed, and the table in the manual."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.config.settings import AUGMENTATIONS, BY_GROUP, CHOICES, DECLARED, Settings, check_setting
from sweep.experiment.synonyms import nearest

MANUAL = Path(__file__).resolve().parents[3] / "docs/experiments.md"


@pytest.mark.parametrize("name", DECLARED)
def test_a_default_is_allowed(name: str) -> None:
    check_setting(name, getattr(Settings, name))


def in_manual(name: str) -> str:
    """The row of a setting in the manual's table."""
    value = getattr(Settings, name)
    default = f'`"{value}"`' if isinstance(value, str) else f"{value:g}".replace("e-0", "e-")
    default = str(value).lower() if isinstance(value, bool) else default
    return f"| `{name}` | {default} | {DECLARED[name].help} |"


def test_the_manual_tells_every_setting_as_it_is_declared() -> None:
    table = MANUAL.read_text().partition("## Settings\n")[2].partition("|---|---|---|\n")[2].partition("\n\n")[0]
    assert table.split("\n") == [in_manual(name) for name in DECLARED if name != "seed"]


def test_what_derives_from_them() -> None:
    assert BY_GROUP == ("filters", "batch_size", "optimiser", "pool", "residual", "global_pool")
    assert AUGMENTATIONS == ("flip", "crop", "rotate", "brightness", "contrast", "saturation", "noise", "cutout")
    assert set(CHOICES) == {"initial", "gradient", "schedule", "optimiser"}
    assert CHOICES["gradient"] == ("mean", "sum")


def test_what_makes_a_setting_idle_is_a_choice_that_there_is() -> None:
    needed = [pair for declared in DECLARED.values() for pair in declared.only.items()]
    assert needed
    assert all(set(values) <= set(CHOICES[other]) for other, values in needed)


@pytest.mark.parametrize("name", DECLARED)
def test_a_setting_is_found_by_its_names_elsewhere(name: str) -> None:
    assert all(f'"{name}"' in nearest(other, [name]) for other in DECLARED[name].synonyms)
