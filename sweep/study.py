"""Optuna's part: what to try next, and the record of which cell has which outcome. The only importer of optuna.

An Optuna trial is a setting of what the stage searches; where the stage has several seeds, one trial has a cell for
each, and its value is their mean. Grids and draws are known beforehand: each setting is enqueued and asked for, so
that it runs exactly once whatever the sampler would have proposed. An adaptive sampler is asked for several settings
at once, and told before it is asked again. Cells are recognised by their key, in every study of the stage: a plan with
one more value in its grid makes a new study (Optuna's choices cannot grow), in which only the new cells run.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GridSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState

from core.errors import DamageError, InputError
from sweep.experiment import Stage
from sweep.journal import CheckedJournal, cut_torn_line
from sweep.parsing import Value
from sweep.space import Range, Space

optuna.logging.set_verbosity(optuna.logging.ERROR)

_PROPOSED = "proposed"
_OUTCOME = "outcome:"  # before a cell's key: the attribute of a trial that holds how that cell ended


@dataclass(frozen=True)
class Outcome:
    """How a cell's trial ended: "finished", "cut" when the budget was spent, "pruned", or "failed": it diverged.

    Figures are those of its best epoch; None if no epoch was finite. seconds is its share of the group's training,
    reason why it did not finish.
    """

    status: str
    run_id: str
    best_val_accuracy: float | None
    best_val_loss: float | None
    best_epoch: int
    epochs: int
    seconds: float = 0.0
    reason: str = ""


def draw(stage: Stage, seed: int) -> list[dict[str, Value]]:
    """The stage's draws by a sampler that does not learn: asking for more keeps those already drawn."""
    study = optuna.create_study(sampler=_sampler(stage, seed))
    draws = []
    for _ in range(stage.trials):
        trial = study.ask()
        draws.append(_suggest(trial, stage.space))
        study.tell(trial, 0.0)  # the quasi-random sampler goes by the trials that have ended
    return draws


def _suggest(trial: optuna.Trial, space: Space) -> dict[str, Value]:
    chosen: dict[str, Value] = {}
    for key, values in space.active(chosen):
        if not isinstance(values, Range):
            choice: Any = trial.suggest_categorical(key, values)
            chosen[key] = choice
        elif values.step:
            chosen[key] = trial.suggest_int(key, int(values.low), int(values.high), step=values.step, log=values.log)
        else:  # Optuna's ranges have their upper end, ours do not
            chosen[key] = trial.suggest_float(key, *values.ends, log=values.log)
    return chosen


class Journal:
    """The file with the studies of an experiment's stages, which survives being killed at any moment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: JournalStorage | None = None

    @property
    def storage(self) -> JournalStorage:
        """What Optuna reads in the file: all of it once, then what was added. Raises InputError if it is damaged."""
        try:
            if self._opened is None:
                with _experimental():
                    self._opened = JournalStorage(CheckedJournal(self.path))
            return self._opened
        except InputError:
            raise
        except (ValueError, LookupError, TypeError, AssertionError, AttributeError, OSError) as error:
            raise DamageError(f"{self.path} is damaged ({type(error).__name__})") from None

    def reread(self) -> None:
        """Read it from its beginning when it is next asked for: it was changed, or read only in part."""
        self._opened = None

    def outcomes(self, stage: str, runs: Mapping[str, str] | None = None) -> dict[str, Outcome]:
        """The outcome of every cell that has ended in any study of the stage, by key. Read only.

        runs  only of these run ids, which stand for others now; None: all, as they are
        """
        found: dict[str, Outcome] = {}
        for _, trial in self._trials(stage):
            for key, outcome in _outcomes(trial.user_attrs).items() if trial.state.is_finished() else ():
                if runs is None:
                    found[key] = outcome
                elif outcome.run_id in runs:
                    found[key] = replace(outcome, run_id=runs[outcome.run_id])
        return found

    def proposals(self, stage: Stage, identity: str) -> tuple[list[dict[str, Value]], int]:
        """The settings tried in the study of this identity, in their order, whether their trials have ended or not;
        and how many the sampler has proposed. Read only.
        """
        name = study_name(stage, identity)
        tried = [trial for study, trial in self._trials(stage.name) if study == name and "cells" in trial.user_attrs]
        settings: list[dict[str, Value]] = []
        for trial in tried:
            setting = {key: trial.params[key] for key in stage.space.dimensions if key in trial.params}
            if trial.user_attrs["cells"] and setting not in settings:
                settings.append(setting)
        return settings, sum(_PROPOSED in trial.user_attrs for trial in tried)

    def _trials(self, stage: str) -> Iterator[tuple[str, FrozenTrial]]:
        """All trials of the stage, with the name of their study."""
        if not self.path.exists():
            return
        for study in self.storage.get_all_studies():
            if study.user_attrs.get("stage") == stage:
                for trial in self.storage.get_all_trials(study._study_id, deepcopy=False):
                    yield study.study_name, trial

    def close_abandoned(self) -> int:
        """Record as failed what was left waiting or running in any study; returns how many trials had open cells.

        Only the holder of the experiment's lock may. Those cells are open again; outcomes that were recorded count.
        """
        Path(f"{self.path}.lock").unlink(missing_ok=True)  # of a killed process; Optuna would wait 30 s for it
        if not self.path.exists():
            return 0
        cut_torn_line(self.path)
        closed = 0
        for stored in self.storage.get_all_studies():
            study = optuna.load_study(study_name=stored.study_name, storage=self.storage)
            while study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
                study.ask()  # a waiting trial can be told only after it was asked for
            for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
                if not _tell(study, trial.number, trial.user_attrs):
                    study.tell(trial.number, state=TrialState.FAIL)
                    closed += 1
        return closed


class Study:
    """The Optuna study of one stage."""

    def __init__(self, journal: Journal, stage: Stage, identity: str, seed: int = 0) -> None:
        """Open or create the study. Only the holder of the experiment's lock may.

        identity  what must be equal for the study to go on: another makes another study of the stage
        seed      of an adaptive sampler
        """
        self._stage, self._seed = stage, seed
        self._study = optuna.create_study(
            storage=journal.storage,
            study_name=study_name(stage, identity),
            sampler=_sampler(stage, seed),
            direction="maximize",
            load_if_exists=True,
        )
        self._study.set_user_attr("stage", stage.name)

    def enqueue(self, settings: Sequence[Mapping[str, Value]]) -> list[optuna.Trial]:
        """Trials for these settings, in their order."""
        for searched in settings:
            self._study.enqueue_trial(dict(searched))
        trials = [self._study.ask() for _ in settings]
        for searched, trial in zip(settings, trials, strict=True):
            if (given := _suggest(trial, self._stage.space)) != searched:
                raise RuntimeError(f"asked Optuna for {searched}, was given {given}")
        return trials

    def propose(self, count: int) -> list[tuple[optuna.Trial, dict[str, Value]]]:
        """Trials and their settings, which the sampler proposes all at once.

        The draws depend on the experiment's seed and on how many proposals there were, so that those of a stage that
        was stopped go on as they would have.
        """
        made = sum(_PROPOSED in trial.user_attrs for trial in self._study.get_trials(deepcopy=False))
        self._study.sampler = _sampler(self._stage, self._seed + made)
        trials = [self._study.ask() for _ in range(count)]
        return [(trial, _suggest(trial, self._stage.space)) for trial in trials]

    def describe(
        self,
        trial: optuna.Trial,
        name: str,
        cells: Sequence[str],
        known: Mapping[str, Outcome],
        is_proposal: bool = False,
    ) -> None:
        """Note a trial's name, the keys of its cells (none: it cannot be trained), how those of them ended that were
        trained before, and whether the sampler proposed it.
        """
        trial.set_user_attr("name", name)
        trial.set_user_attr("cells", list(cells))
        if is_proposal:
            trial.set_user_attr(_PROPOSED, True)
        for key, outcome in known.items():
            trial.set_user_attr(_OUTCOME + key, asdict(outcome))

    def report(self, trial: optuna.Trial, epoch: int, accuracy: float) -> None:
        """The validation accuracy after an epoch (from 1)."""
        if math.isfinite(accuracy):
            trial.report(accuracy, epoch)

    def curves(self) -> dict[str, list[float]]:
        """The reported accuracies, epoch by epoch, of this study's trials that did not fail, by their first cell."""
        states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING]
        trials = [t for t in self._study.get_trials(deepcopy=False, states=states) if t.user_attrs.get("cells")]
        reported = {t.user_attrs["cells"][0]: t.intermediate_values for t in trials}
        return {key: [values[epoch] for epoch in sorted(values)] for key, values in reported.items()}

    def tell(self, trial: optuna.Trial, key: str, outcome: Outcome) -> None:
        """Record how a cell ended; with its last cell the trial ends."""
        trial.set_user_attr(_OUTCOME + key, asdict(outcome))
        self.end(trial)

    def end(self, trial: optuna.Trial) -> None:
        """End the trial if all its cells have ended; as failed, if it has none."""
        if trial.user_attrs["cells"]:
            _tell(self._study, trial.number, trial.user_attrs)
        else:
            self._study.tell(trial.number, state=TrialState.FAIL)


def study_name(stage: Stage, identity: str) -> str:
    """Like "grid-1a2b3c4d"."""
    return f"{stage.name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _outcomes(attributes: Mapping[str, Any]) -> dict[str, Outcome]:
    mine = {name: value for name, value in attributes.items() if name.startswith(_OUTCOME)}
    return {name.removeprefix(_OUTCOME): Outcome(**value) for name, value in mine.items()}


def _tell(study: optuna.Study, number: int, attributes: Mapping[str, Any]) -> bool:
    """End a trial if all its cells have ended; its value is the mean of theirs. Returns whether it ended."""
    ended = _outcomes(attributes)
    if not ended or ended.keys() != set(attributes.get("cells", ())):
        return False
    statuses = {outcome.status for outcome in ended.values()}
    if "failed" in statuses:
        study.tell(number, state=TrialState.FAIL)
    elif "pruned" in statuses:
        study.tell(number, state=TrialState.PRUNED)
    else:
        study.tell(number, sum(outcome.best_val_accuracy or 0.0 for outcome in ended.values()) / len(ended))
    return True


def _sampler(stage: Stage, seed: int) -> BaseSampler:
    with _experimental():
        match stage.sampler:
            case "tpe":  # groups: a parameter that is searched only sometimes has a model of its own
                return TPESampler(seed=seed % 2**32, multivariate=True, group=True, constant_liar=True)
            case "cmaes":
                return CmaEsSampler(seed=seed % 2**32, warn_independent_sampling=False)
            case "qmc":
                others = RandomSampler(seed=seed % 2**32)  # draws the settings given as lists
                return QMCSampler(
                    scramble=True, seed=seed % 2**32, independent_sampler=others, warn_independent_sampling=False
                )
            case "grid" if _spans_a_grid(stage.space):
                return GridSampler(
                    {key: list(v) for key, v in stage.space.dimensions.items() if not isinstance(v, Range)}
                )
    return RandomSampler(seed=seed % 2**32)


def _spans_a_grid(space: Space) -> bool:
    """GridSampler raises KeyError when an enqueued trial is told of a grid of one cell, or with a value missing."""
    return not space.conditions and any(not isinstance(v, Range) and len(v) > 1 for v in space.dimensions.values())


@contextmanager
def _experimental() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
