"""experiments/*.toml -> validated, typed stages. An experiment is data: nothing in the file is executed."""

from __future__ import annotations

import difflib
import itertools
import math
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from core.config import Settings, check_setting
from core.errors import InputError
from core.project import root

SAMPLERS = ("grid", "random")
_SETTINGS = tuple(field.name for field in fields(Settings) if field.name != "seed")
_TOP = ("seed", "data", "data_dir", "backend", "settings", "stages")
_STAGE = ("sampler", "space", "settings", "after", "inherit", "trials", "points")

Value = str | int | float


@dataclass(frozen=True)
class Range:
    """Numbers from low up to, not including, high."""

    low: float
    high: float


@dataclass(frozen=True)
class Stage:
    """One round of the search.

    space     for each searched setting its choices, or a range to draw from
    settings  the same for all trials of the stage
    after     the stage whose winner gives the settings named in inherit
    trials    number of random draws
    points    named sets of fixed points that can be asked for beside the draws
    """

    name: str
    sampler: str
    space: dict[str, tuple[Value, ...] | Range]
    settings: dict[str, Value]
    after: str | None
    inherit: tuple[str, ...]
    trials: int
    points: dict[str, tuple[dict[str, Value], ...]]


@dataclass(frozen=True)
class Experiment:
    """A whole file. text is kept so that it can be stored with the runs."""

    name: str
    path: Path
    text: str
    seed: int
    data: str | None
    data_dir: str | None
    backend: str | None
    stages: dict[str, Stage]


def find(name: str) -> Path:
    """The file of an experiment given by its name in experiments/, or by a path ending in .toml."""
    path = Path(name) if name.endswith(".toml") else root() / "experiments" / f"{name}.toml"
    if path.is_file():
        return path
    known = sorted(p.stem for p in (root() / "experiments").glob("*.toml"))
    raise InputError(f'there is no experiment "{name}" ({path}){_nearest(name, known)}; there are: {", ".join(known)}')


def load(name: str, overrides: Mapping[str, Value] | None = None) -> Experiment:
    """Read and check an experiment. overrides (settings, and seed) replace what the file says for every stage.

    Raises InputError naming the file, the key and the nearest valid key.
    """
    path = find(name)
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None
    try:
        return _experiment(path, text, content, dict(overrides or {}))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _experiment(path: Path, text: str, content: dict[str, Any], overrides: dict[str, Any]) -> Experiment:
    _check_keys("", content, _TOP)
    for key in ("data", "data_dir", "backend"):
        _typed(key, content.get(key), str, "text")
    seed = overrides.pop("seed", content.get("seed", 0))
    check_setting("seed", seed)
    shared = _settings("settings", content.get("settings", {}))
    tables = _typed("stages", content.get("stages"), dict, "a table of stages")
    if not tables:
        raise InputError("stages is missing: an experiment needs at least one, like [stages.grid]")
    stages: dict[str, Stage] = {}
    for name, table in tables.items():
        _typed(f"stages.{name}", table, dict, "a table")
        stages[name] = _stage(name, table, shared, overrides, stages)
    return Experiment(
        path.stem, path, text, seed, content.get("data"), content.get("data_dir"), content.get("backend"), stages
    )


def _stage(
    name: str, table: dict[str, Any], shared: dict[str, Value], overrides: dict[str, Value], earlier: dict[str, Stage]
) -> Stage:
    where = f"stages.{name}"
    _check_keys(where, table, _STAGE)
    if not name.replace("_", "").replace("-", "").isalnum():
        raise InputError(f'{where}: a stage\'s name may hold letters, digits, - and _; this is "{name}"')
    sampler = table.get("sampler")
    if sampler not in SAMPLERS:
        raise InputError(f"{where}.sampler is {sampler!r}: it must be one of {', '.join(SAMPLERS)}")
    space = {
        key: _dimension(f"{where}.space.{key}", key, value, sampler)
        for key, value in _known_settings(f"{where}.space", table.get("space", {})).items()
    }
    if not space:
        raise InputError(f"{where}.space is missing: name the settings to search, like lr = [0.01, 0.1]")
    settings = shared | _settings(f"{where}.settings", table.get("settings", {})) | overrides
    after, inherit = _inheritance(where, table, earlier)
    for key in inherit:
        settings.pop(key, None)
    _once(where, space, table.get("settings", {}), inherit)
    return Stage(
        name,
        sampler,
        {key: value for key, value in space.items() if key not in overrides},
        {key: value for key, value in settings.items() if key in overrides or key not in space},
        after,
        inherit,
        _trials(where, table, sampler),
        _points(where, table.get("points", {}), space, overrides),
    )


def _inheritance(where: str, table: dict[str, Any], earlier: dict[str, Stage]) -> tuple[str | None, tuple[str, ...]]:
    after, inherit = table.get("after"), table.get("inherit", [])
    _typed(f"{where}.after", after, str, "a stage's name")
    _typed(f"{where}.inherit", inherit, list, "a list of settings")
    if after is None and inherit:
        raise InputError(f"{where}.inherit needs {where}.after: the stage whose winner to inherit from")
    if after is not None and after not in earlier:
        raise InputError(f"{where}.after is {after!r}: it must be a stage further up{_nearest(str(after), earlier)}")
    for key in inherit:
        if key not in _SETTINGS:
            raise InputError(f"{where}.inherit names {key!r}, which is no setting{_nearest(str(key), _SETTINGS)}")
    return after, tuple(inherit)


def _once(where: str, *sources: Iterable[str]) -> None:
    for key, times in Counter(itertools.chain(*sources)).items():
        if times > 1:
            raise InputError(f"{where}: {key} stands in more than one of space, settings and inherit; keep one")


def _trials(where: str, table: dict[str, Any], sampler: str) -> int:
    if sampler == "grid":
        if "trials" in table:
            raise InputError(f"{where}.trials is given, but a grid has as many trials as cells: remove it")
        return 0
    trials = table.get("trials", 8)
    if isinstance(trials, bool) or not isinstance(trials, int) or not 1 <= trials <= 100_000:
        raise InputError(f"{where}.trials is {trials!r}: it must be a whole number from 1 to 100000")
    return trials


def _points(
    where: str, sets: Any, space: Mapping[str, Any], overrides: Mapping[str, Value]
) -> dict[str, tuple[dict[str, Value], ...]]:
    _typed(f"{where}.points", sets, dict, "a table of named lists")
    for name, points in sets.items():
        _typed(f"{where}.points.{name}", points, list, "a list of tables")
        for point in points:
            _typed(f"{where}.points.{name}", point, dict, "a list of tables")
            if set(point) != set(space):
                raise InputError(f"{where}.points.{name}: a point must set exactly {', '.join(space)}; this is {point}")
            for key, value in point.items():
                if not _within(value, space[key]):
                    raise InputError(f"{where}.points.{name}: {key} = {value!r} lies outside the stage's space")
    checked = {name: [_settings(f"{where}.points.{name}", point) for point in points] for name, points in sets.items()}
    return {
        name: tuple({key: value for key, value in point.items() if key not in overrides} for point in points)
        for name, points in checked.items()
    }


def _within(value: Any, values: tuple[Value, ...] | Range) -> bool:
    if isinstance(values, Range):
        return isinstance(value, int | float) and values.low <= value < values.high
    return value in values


def _dimension(where: str, key: str, value: Any, sampler: str) -> tuple[Value, ...] | Range:
    if isinstance(value, list):
        if not value:
            raise InputError(f"{where} is an empty list: give at least one value")
        choices = tuple(_setting(where, key, choice) for choice in value)
        if len(set(choices)) < len(choices):
            raise InputError(f"{where} names a value twice: {value}")
        return choices
    if not isinstance(value, dict):
        raise InputError(f"{where} is {value!r}: it must be a list of values or {{ low = ..., high = ... }}")
    if sampler == "grid":
        raise InputError(f"{where} is a range, but a grid needs a list of values")
    _check_keys(where, value, ("low", "high"))
    if not _is_float(key):
        raise InputError(f"{where} is a range, but {key} does not take any number in between: give a list of values")
    low, high = (_bound(f"{where}.{name}", value.get(name)) for name in ("low", "high"))
    if not low < high:
        raise InputError(f"{where}: low is {low} and high is {high}; low must be below high")
    for edge in (low, math.nextafter(high, low)):
        _setting(where, key, edge)
    return Range(low, high)


def _bound(where: str, value: Any) -> float:
    try:
        bound = float("nan" if isinstance(value, bool | str) else value)
    except (TypeError, OverflowError):
        bound = math.nan
    if not math.isfinite(bound):
        raise InputError(f"{where} is {value!r}: it must be a number")
    return bound


def _settings(where: str, table: Any) -> dict[str, Value]:
    return {key: _setting(f"{where}.{key}", key, value) for key, value in _known_settings(where, table).items()}


def _setting(where: str, key: str, value: Any) -> Value:
    """The value checked, and made float if it is a whole number for a setting that is one."""
    try:
        check_setting(key, value)
        return float(value) if _is_float(key) else value
    except (InputError, OverflowError) as error:
        raise InputError(f"{where}: {error}") from None


def _is_float(key: str) -> bool:
    return isinstance(getattr(Settings, key), float)


def _known_settings(where: str, table: Any) -> dict[str, Any]:
    _check_keys(where, _typed(where, table, dict, "a table"), _SETTINGS)
    return dict(table)


def _check_keys(where: str, table: Mapping[str, Any], allowed: Iterable[str]) -> None:
    for key in table:
        if key not in allowed:
            place = f"{where}.{key}" if where else key
            raise InputError(f"{place} is not a key{_nearest(key, allowed)}; there are: {', '.join(allowed)}")


def _typed(where: str, value: Any, kind: type, expected: str) -> Any:
    if value is not None and not isinstance(value, kind):
        raise InputError(f"{where} is {value!r}: it must be {expected}")
    return value


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f': did you mean "{close[0]}"?' if close else ""
