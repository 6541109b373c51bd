"""The declaration of one setting: all that is known of it, from which everything else derives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.config.rules import Rule


@dataclass(frozen=True)
class Column:
    """What a training step reads of a setting: an entry for each trial of a group, in an array of Hyperparameters.

    dtype   of the array
    entry   what is made of the setting's value; None: it is taken as it is
    array   the array's name; "": the setting's. Settings with one name are the columns of one array (T, K).
    update  read by the update of the parameters, and so kept on the device
    """

    dtype: type = np.float64
    entry: Callable[[Any], float] | None = None
    array: str = ""
    update: bool = False


@dataclass(frozen=True)
class Setting:
    """What is declared of a setting.

    rule      which values it may have
    help      what it means, in one line
    column    what a training step reads of it; None: it reads nothing
    only      the values of other settings with which alone it does something
    by_group  whether all trials of a group have the same value: it decides shapes, or which code trains
    synonyms  names that other libraries have for it
    later     declared after trials were stored: at its default it is not recorded, so that their keys stay
    """

    rule: Rule
    help: str
    column: Column | None = None
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    by_group: bool = False
    synonyms: tuple[str, ...] = ()
    later: bool = False


def setting(
    default: str | float,
    rule: Rule,
    help: str,
    *,
    column: Column | None = None,
    only: Mapping[str, tuple[str, ...]] | None = None,
    by_group: bool = False,
    synonyms: str = "",
    later: bool = False,
) -> Any:
    """A field of the dataclass Settings; synonyms are separated by blanks."""
    declared = Setting(rule, help, column, only or {}, by_group, tuple(synonyms.split()), later)
    return field(default=default, metadata={"setting": declared})
