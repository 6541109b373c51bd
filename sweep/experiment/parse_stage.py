"""A stage of an experiment file, read and checked."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from core.errors import InputError
from sweep.experiment import parse_space
from sweep.experiment.checks import SETTINGS, Value, check_keys, number, settings, typed, whole
from sweep.experiment.pruner import PRUNERS, Pruner
from sweep.experiment.sampler import SAMPLERS
from sweep.experiment.space import MOST_TRIALS, Space
from sweep.experiment.stage import Budget, Stage, most_epochs
from sweep.experiment.synonyms import nearest

_STAGE = (
    *("sampler", "space", "settings", "after", "inherit", "trials", "at_once", "points"),
    *("seeds", "pruner", "budget", "on_divergence"),
)
_ON_DIVERGENCE = {"fail": 0, "retry": 1}  # retries


def parse_stage(
    name: str, table: dict[str, Any], shared: dict[str, Value], overrides: dict[str, Value], earlier: dict[str, Stage]
) -> Stage:
    """A stage as its table says. Raises InputError naming the key."""
    where = f"stages.{name}"
    check_keys(where, table, _STAGE)
    if not name.replace("_", "").replace("-", "").isalnum():
        raise InputError(f'{where}: a stage\'s name may hold letters, digits, - and _; this is "{name}"')
    sampler = _sampler(f"{where}.sampler", table.get("sampler"))
    space = parse_space.parse_space(f"{where}.space", table.get("space", {}), sampler)
    own = settings(f"{where}.settings", table.get("settings", {}))
    after, inherit = _inheritance(where, table, earlier)
    _once(where, space.dimensions, own, inherit)
    if "pruner" in table and "epochs" in inherit:
        raise InputError(f"{where}: a pruner must know the epochs, which inherit names: put them into settings")
    fixed = {key: value for key, value in (shared | own).items() if key not in inherit} | overrides
    searched = space.without(overrides)
    free = fixed.keys() - (space.dimensions.keys() - space.conditions.keys() - overrides.keys())
    trials, at_once = _trials(where, table, sampler)
    seeds = whole(f"{where}.seeds", table.get("seeds", 1), 1, 1000)
    _check_count(where, trials, searched, seeds)
    return Stage(
        name=name,
        sampler=sampler,
        space=searched,
        settings={key: value for key, value in fixed.items() if key in free},
        after=after,
        inherit=inherit,
        trials=trials,
        at_once=at_once,
        points=_points(where, table.get("points", {}), space, overrides),
        seeds=seeds,
        pruner=_pruner(f"{where}.pruner", table.get("pruner"), most_epochs(searched, fixed), overrides),
        budget=_budget(f"{where}.budget", table.get("budget", {})),
        retries=_retries(f"{where}.on_divergence", table.get("on_divergence", "fail")),
    )


def _sampler(where: str, name: Any) -> str:
    if not isinstance(name, str) or name not in SAMPLERS:
        hint = nearest(str(name), SAMPLERS)
        raise InputError(f"{where} is {name!r}: it must be one of {', '.join(SAMPLERS)}{hint}")
    return name


def _retries(where: str, choice: Any) -> int:
    if not isinstance(choice, str) or choice not in _ON_DIVERGENCE:
        raise InputError(f"{where} is {choice!r}: it must be one of {', '.join(_ON_DIVERGENCE)}")
    return _ON_DIVERGENCE[choice]


def _pruner(where: str, table: Any, epochs: int, overrides: Mapping[str, Value]) -> Pruner | None:
    if table is None:
        return None
    table = {"kind": table} if isinstance(table, str) else typed(where, table, dict, "a table or a pruner's name")
    check_keys(where, table, ("kind", "min_epochs", "reduction"))
    if table.get("kind") not in PRUNERS:
        hint = nearest(str(table.get("kind")), PRUNERS)
        raise InputError(f"{where}.kind is {table.get('kind')!r}: it must be one of {', '.join(PRUNERS)}{hint}")
    given = {key: whole(f"{where}.{key}", value, 1, 10**6) for key, value in table.items() if key != "kind"}
    if "epochs" in overrides and epochs <= given.get("min_epochs", 1):
        return None  # a trial run that is too short for it
    try:
        return Pruner(kind=table["kind"], epochs=epochs, **given)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _budget(where: str, table: Any) -> Budget:
    check_keys(where, typed(where, table, dict, "a table like { minutes = 30 }"), ("minutes", "epochs"))
    minutes, epochs = table.get("minutes"), table.get("epochs")
    if minutes is not None and (minutes := number(f"{where}.minutes", minutes)) <= 0:
        raise InputError(f"{where}.minutes is {minutes:g}: it must be above 0")
    return Budget(minutes, epochs if epochs is None else whole(f"{where}.epochs", epochs, 1, 10**9))


def _inheritance(where: str, table: dict[str, Any], earlier: dict[str, Stage]) -> tuple[str | None, tuple[str, ...]]:
    after, inherit = table.get("after"), table.get("inherit", [])
    typed(f"{where}.after", after, str, "a stage's name")
    typed(f"{where}.inherit", inherit, list, "a list of settings")
    if after is None and inherit:
        raise InputError(f"{where}.inherit needs {where}.after: the stage whose winner to inherit from")
    if after is not None and after not in earlier:
        raise InputError(f"{where}.after is {after!r}: it must be a stage further up{nearest(str(after), earlier)}")
    for key in inherit:
        if key not in SETTINGS:
            raise InputError(f"{where}.inherit names {key!r}, which is no setting{nearest(str(key), SETTINGS)}")
    return after, tuple(inherit)


def _once(where: str, *sources: Iterable[str]) -> None:
    for key, times in Counter(itertools.chain(*sources)).items():
        if times > 1:
            raise InputError(f"{where}: {key} stands in more than one of space, settings and inherit; keep one")


def _trials(where: str, table: dict[str, Any], sampler: str) -> tuple[int, int]:
    if sampler == "grid" and "trials" in table:
        raise InputError(f"{where}.trials is given, but a grid has as many trials as cells: remove it")
    if not SAMPLERS[sampler].adaptive and "at_once" in table:
        raise InputError(f"{where}.at_once is given, but {sampler} knows all its trials beforehand: remove it")
    trials = 0 if sampler == "grid" else whole(f"{where}.trials", table.get("trials", 8), 1, MOST_TRIALS)
    return trials, whole(f"{where}.at_once", table.get("at_once", 8), 1, 10_000)


def _check_count(where: str, trials: int, searched: Space, seeds: int) -> None:
    count = trials or sum(1 for _ in itertools.islice(searched.combinations(), MOST_TRIALS + 1))
    if count * seeds > MOST_TRIALS:
        raise InputError(f"{where} has more than {MOST_TRIALS} trials: search fewer values, or draw some of them")


def _points(
    where: str, sets: Any, space: Space, overrides: Mapping[str, Value]
) -> dict[str, tuple[dict[str, Value], ...]]:
    typed(f"{where}.points", sets, dict, "a table of named lists")
    found: dict[str, tuple[dict[str, Value], ...]] = {}
    for name, points in sets.items():
        place = f"{where}.points.{name}"
        for point in typed(place, points, list, "a list of tables"):
            typed(place, point, dict, "a list of tables")
            needed = [key for key, _ in space.active(point)]
            if set(point) != set(needed):
                raise InputError(f"{place}: a point must set exactly {', '.join(needed)}; this is {point}")
            if not space.contains(point):
                raise InputError(f"{place}: {point} lies outside the stage's space")
        checked = [settings(place, point) for point in points]
        stripped = [{key: value for key, value in point.items() if key not in overrides} for point in checked]
        found[name] = tuple(point for point in stripped if space.without(overrides).contains(point))
    return found
