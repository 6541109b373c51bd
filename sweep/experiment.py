"""experiments/*.toml -> validated, typed stages. An experiment is data: nothing in the file is executed."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.config import Settings, check_setting
from core.errors import InputError, reason
from core.project import root
from sweep import space as spaces
from sweep.parsing import SETTINGS, Value, check_keys, number, settings, typed, whole
from sweep.pruning import PRUNERS, Pruner
from sweep.space import MOST_TRIALS, Range, Space
from sweep.synonyms import nearest

SAMPLERS = ("grid", "random", "qmc", "tpe", "cmaes")
ADAPTIVE = ("tpe", "cmaes")  # what they propose depends on what came out
_TEXTS = ("data", "data_dir", "backend", "precision")
_TOP = ("seed", *_TEXTS, "settings", "stages")
_STAGE = (
    *("sampler", "space", "settings", "after", "inherit", "trials", "at_once", "points"),
    *("seeds", "pruner", "budget", "on_divergence"),
)
_ON_DIVERGENCE = {"fail": 0, "retry": 1}  # retries


@dataclass(frozen=True)
class Budget:
    """What a stage may spend on training; None: no limit. Trials still training when it is spent end there."""

    minutes: float | None = None
    epochs: int | None = None  # over all trials

    def spent(self, seconds: float, epochs: int) -> str:
        """Which limit is reached, in words; "" if none is."""
        if self.minutes is not None and seconds >= 60 * self.minutes:
            return f"the stage's {self.minutes:g} minutes of training are spent"
        if self.epochs is not None and epochs >= self.epochs:
            return f"the stage's {self.epochs} epochs are spent"
        return ""


@dataclass(frozen=True)
class Stage:
    """One round of the search.

    space     what is searched
    settings  the same for all trials of the stage
    after     the stage whose winner gives the settings named in inherit
    trials    how many settings a sampler draws; a grid has all of its own
    at_once   how many an adaptive sampler is asked for at a time; they train together
    points    named sets of fixed points that can be asked for beside the draws
    seeds     trains each setting so many times, from seeds that follow each other
    pruner    which trials end early for doing worse than others; None: none
    budget    what the stage may spend
    retries   how often a trial that diverged is trained again, each time from another seed
    """

    name: str
    sampler: str
    space: Space
    settings: dict[str, Value]
    after: str | None = None
    inherit: tuple[str, ...] = ()
    trials: int = 0
    at_once: int = 0
    points: Mapping[str, tuple[dict[str, Value], ...]] = field(default_factory=dict)
    seeds: int = 1
    pruner: Pruner | None = None
    budget: Budget = Budget()
    retries: int = 0

    @property
    def adaptive(self) -> bool:
        """Whether the sampler learns from what came out."""
        return self.sampler in ADAPTIVE

    @property
    def every_point(self) -> list[dict[str, Value]]:
        """The points of all names, in their order."""
        return [point for named in self.points.values() for point in named]

    def reopens(self, status: str) -> bool:
        """Whether a trial that ended so is to be trained again: the budget, or the pruner, is not what ended it now."""
        return status == "cut" or (status == "pruned" and self.pruner is None)

    @property
    def longest_training(self) -> int:
        """The most epochs that a trial of the stage may have."""
        return _most_epochs(self.space, self.settings)


@dataclass(frozen=True)
class Experiment:
    """A whole file. text is kept so that it can be stored with the runs; overrides are what a command line replaced."""

    name: str
    path: Path
    text: str
    seed: int
    data: str | None
    data_dir: str | None
    backend: str | None
    precision: str | None
    stages: dict[str, Stage]
    overrides: Mapping[str, Value] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """What a command line calls it by, whatever the current folder: see find."""
        known = self.path.resolve() == root() / "experiments" / f"{self.name}.toml"
        return self.name if known else str(self.path.absolute())


def names() -> list[str]:
    """What experiments there are in experiments/."""
    return sorted(path.stem for path in (root() / "experiments").glob("*.toml"))


def find(name: str) -> Path:
    """The file of an experiment given by its name in experiments/, or by a path ending in .toml."""
    path = Path(name) if name.endswith(".toml") else root() / "experiments" / f"{name}.toml"
    if path.is_file():
        return path
    known = names()
    raise InputError(f'there is no experiment "{name}" ({path}){nearest(name, known)}; there are: {", ".join(known)}')


def load(name: str, overrides: Mapping[str, Value] | None = None) -> Experiment:
    """Read and check an experiment. overrides (settings, and seed) replace what the file says for every stage.

    Raises InputError naming the file, the key and the nearest valid key.
    """
    path = find(name)
    if not re.fullmatch(r"[\w .-]+", path.stem):  # it becomes the name of a folder, a model, an MLflow experiment
        raise InputError(f"{path}: an experiment's name may hold letters, digits, blanks and . _ -; rename the file")
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not valid TOML: {reason(error)}") from None
    try:
        return _experiment(path, text, content, dict(overrides or {}))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _experiment(path: Path, text: str, content: dict[str, Any], overrides: dict[str, Any]) -> Experiment:
    check_keys("", content, _TOP)
    for key in _TEXTS:
        typed(key, content.get(key), str, "text")
    seed = overrides.pop("seed", content.get("seed", 0))
    check_setting("seed", seed)
    shared = settings("settings", content.get("settings", {}))
    tables = typed("stages", content.get("stages"), dict, "a table of stages")
    if not tables:
        raise InputError("stages is missing: an experiment needs at least one, like [stages.grid]")
    stages: dict[str, Stage] = {}
    for name, table in tables.items():
        typed(f"stages.{name}", table, dict, "a table")
        stages[name] = _stage(name, table, shared, overrides, stages)
    texts = {key: content.get(key) for key in _TEXTS}
    return Experiment(path.stem, path, text, seed, stages=stages, overrides=overrides, **texts)


def _stage(
    name: str, table: dict[str, Any], shared: dict[str, Value], overrides: dict[str, Value], earlier: dict[str, Stage]
) -> Stage:
    where = f"stages.{name}"
    check_keys(where, table, _STAGE)
    if not name.replace("_", "").replace("-", "").isalnum():
        raise InputError(f'{where}: a stage\'s name may hold letters, digits, - and _; this is "{name}"')
    sampler = table.get("sampler")
    if sampler not in SAMPLERS:
        hint = nearest(str(sampler), SAMPLERS)
        raise InputError(f"{where}.sampler is {sampler!r}: it must be one of {', '.join(SAMPLERS)}{hint}")
    space = spaces.parse(f"{where}.space", table.get("space", {}), sampler)
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
    count = trials or sum(1 for _ in itertools.islice(searched.combinations(), MOST_TRIALS + 1))
    if count * seeds > MOST_TRIALS:
        raise InputError(f"{where} has more than {MOST_TRIALS} trials: search fewer values, or draw some of them")
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
        pruner=_pruner(f"{where}.pruner", table.get("pruner"), _most_epochs(searched, fixed), overrides),
        budget=_budget(f"{where}.budget", table.get("budget", {})),
        retries=_retries(f"{where}.on_divergence", table.get("on_divergence", "fail")),
    )


def _retries(where: str, choice: Any) -> int:
    if not isinstance(choice, str) or choice not in _ON_DIVERGENCE:
        raise InputError(f"{where} is {choice!r}: it must be one of {', '.join(_ON_DIVERGENCE)}")
    return _ON_DIVERGENCE[choice]


def _most_epochs(space: Space, fixed: Mapping[str, Value]) -> int:
    searched = space.dimensions.get("epochs", ())
    epochs = [*(searched.ends if isinstance(searched, Range) else searched)]
    if not epochs or "epochs" in space.conditions:
        epochs.append(fixed.get("epochs", Settings.epochs))
    return max(int(value) for value in epochs)


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
    if sampler not in ADAPTIVE and "at_once" in table:
        raise InputError(f"{where}.at_once is given, but {sampler} knows all its trials beforehand: remove it")
    trials = 0 if sampler == "grid" else whole(f"{where}.trials", table.get("trials", 8), 1, MOST_TRIALS)
    return trials, whole(f"{where}.at_once", table.get("at_once", 8), 1, 10_000)


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
