"""The journal of an experiment: which cell has which outcome, and what was proposed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from core.errors import DamageError, InputError, reason
from sweep.experiment.checks import Value
from sweep.experiment.stage import Stage
from sweep.records.journal_file import CheckedJournal, cut_torn_line
from sweep.search.means import mean
from sweep.search.outcome import Outcome
from sweep.search.samplers import experimental

WAVE = "wave:"  # before a wave's number: the attribute of a study that holds it
MOST_ASKED = 10  # times in a wave, for settings that repeat none before them
OUTCOME = "outcome:"  # before a cell's key: the attribute of a trial that holds how that cell ended


@dataclass(frozen=True)
class Wave:
    """What an adaptive sampler proposed at once.

    others    settings that it had not proposed, and was told of since the wave before
    settings  its proposals
    possible  those of them that can be trained
    asked     every batch asked for, repeats included; empty if one batch sufficed
    """

    others: list[dict[str, Value]]
    settings: list[dict[str, Value]]
    possible: list[dict[str, Value]]
    asked: list[list[dict[str, Value]]] = field(default_factory=list)


Keys = Callable[[Mapping[str, Value]], Sequence[str]]


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
                with experimental():
                    self._opened = JournalStorage(CheckedJournal(self.path))
            return self._opened
        except InputError:
            raise
        except (ValueError, LookupError, TypeError, AssertionError, AttributeError, OSError) as error:
            raise DamageError(f"{self.path} is damaged: {reason(error)}") from None

    def reread(self) -> None:
        """Read it from its beginning when it is next asked for: it was changed, or read only in part."""
        self._opened = None

    def outcomes(self, stage: str, runs: Mapping[str, str] | None = None) -> dict[str, Outcome]:
        """The outcome of every cell that has ended in any study of the stage, by key. Read only.

        runs  old run id -> present one; others are left out. None: all, as they are
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
        name, waves = study_name(stage, identity), self.waves(stage, identity)
        settings = [setting for wave in waves for setting in (*wave.others, *wave.possible)]
        trials = [trial for study, trial in self._trials(stage.name) if study == name and "cells" in trial.user_attrs]
        tried = [{key: t.params[key] for key in stage.space.dimensions if key in t.params} for t in trials]
        settings += [point for point in stage.every_point if point in tried]  # in the order they have in the file
        settings += tried
        return list({text_of(setting): setting for setting in settings}.values()), sum(len(w.settings) for w in waves)

    def waves(self, stage: Stage, identity: str) -> list[Wave]:
        """What an adaptive sampler has proposed in the study of this identity, in its order. Read only."""
        name = study_name(stage, identity)
        found = [study for study in self._studies(stage.name) if study.study_name == name]
        return [wave for study in found for wave in waves_of(study.user_attrs)]

    def _trials(self, stage: str) -> Iterator[tuple[str, FrozenTrial]]:
        """All trials of the stage, with the name of their study."""
        for study in self._studies(stage):
            for trial in self.storage.get_all_trials(study._study_id, deepcopy=False):
                yield study.study_name, trial

    def _studies(self, stage: str) -> list[FrozenStudy]:
        every = self.storage.get_all_studies() if self.path.exists() else []
        return [study for study in every if study.user_attrs.get("stage") == stage]

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
                if not tell_trial(study, trial.number, trial.user_attrs):
                    study.tell(trial.number, state=TrialState.FAIL)
                    closed += 1
        return closed


def study_name(stage: Stage, identity: str) -> str:
    """Like "grid-1a2b3c4d"."""
    return f"{stage.name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _outcomes(attributes: Mapping[str, Any]) -> dict[str, Outcome]:
    mine = {name: value for name, value in attributes.items() if name.startswith(OUTCOME)}
    return {name.removeprefix(OUTCOME): Outcome(**value) for name, value in mine.items()}


def waves_of(attributes: Mapping[str, Any]) -> list[Wave]:
    """The waves that a study's attributes tell, in their order."""
    numbers = sorted(int(name.removeprefix(WAVE)) for name in attributes if name.startswith(WAVE))
    return [Wave(**attributes[f"{WAVE}{number}"]) for number in numbers]


def text_of(setting: Mapping[str, Value]) -> str:
    """The same for equal settings, whatever their order."""
    return json.dumps(setting, sort_keys=True)


def state_of(outcomes: Collection[Outcome]) -> tuple[TrialState, float | None]:
    """How a trial ends whose cells ended like this; its value is the mean of theirs."""
    statuses = {outcome.status for outcome in outcomes}
    if "failed" in statuses:
        return TrialState.FAIL, None
    if "pruned" in statuses:
        return TrialState.PRUNED, None
    return TrialState.COMPLETE, mean(outcome.best_val_accuracy or 0.0 for outcome in outcomes)


def tell_trial(study: optuna.Study, number: int, attributes: Mapping[str, Any]) -> bool:
    """End a trial if all its cells have ended. Returns whether it ended."""
    ended = _outcomes(attributes)
    if not ended or ended.keys() != set(attributes.get("cells", ())):
        return False
    state, value = state_of(ended.values())
    study.tell(number, value, state=state)
    return True
