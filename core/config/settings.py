"""What a trial is: its settings, each declared once, with all that is known of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from core.config.augmentation import ARRAY, AugmentationSettings
from core.config.network import NetworkSettings
from core.config.optimiser import OptimiserSettings
from core.config.schedule import ScheduleSettings
from core.config.setting import Setting
from core.config.training import TrainingSettings
from core.errors import InputError


@dataclass(frozen=True)
class Settings(AugmentationSettings, NetworkSettings, OptimiserSettings, ScheduleSettings, TrainingSettings):
    """Everything that decides one trial's result, besides the data. Raises InputError on a value out of range.

    Their order, in files too, begins with those of the last base.
    """

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not _DEFAULTS[name]:
                check_setting(name, value)

    def effective(self) -> dict[str, Any]:
        """The settings that the result depends on, by which a stored trial is known.

        Without those of a schedule or an optimiser that is not used, and without later ones at their defaults.
        """
        idle = self.idle()
        left_out = idle.keys() | {name for name in _LATER if getattr(self, name) == _DEFAULTS[name]}
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def idle(self) -> dict[str, str]:
        """The settings that do nothing beside the others, and which one's value is why: {"momentum": "optimiser"}."""
        return {
            name: other
            for name, needed in _ONLY.items()
            for other, values in needed.items()
            if getattr(self, other) not in values
        }


DECLARED: dict[str, Setting] = {field.name: field.metadata["setting"] for field in fields(Settings)}
COLUMNS = {name: declared.column for name, declared in DECLARED.items() if declared.column}
AUGMENTATIONS = tuple(name for name, column in COLUMNS.items() if column.array == ARRAY)
BY_GROUP = tuple(name for name, declared in DECLARED.items() if declared.by_group)
_DEFAULTS = {field.name: field.default for field in fields(Settings)}
_RULES = {name: declared.rule for name, declared in DECLARED.items()}
_ONLY = {name: declared.only for name, declared in DECLARED.items() if declared.only}
_LATER = frozenset(name for name, declared in DECLARED.items() if declared.later)
CHOICES = {name: rule.choices for name, rule in _RULES.items() if rule.choices}


def check_setting(name: str, value: object) -> None:
    """Raise InputError unless value is allowed for the setting called name."""
    rule = _RULES[name]
    if not rule.admits(value):
        raise InputError(f"{name} is {value!r}: it must be {rule.expected}")
