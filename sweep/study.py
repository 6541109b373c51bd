"""Optuna's record of which cell has which outcome, and of what an adaptive sampler has proposed.

An Optuna trial is a setting of what the stage searches; where the stage has several seeds, one trial has a cell for
each, and its value is their mean. Each setting, planned or proposed, is enqueued and asked for, so that it runs exactly
once whatever the study's sampler would have chosen. Cells are recognised by their key, in every study of the stage: a
plan with one more value in its grid makes a new study (Optuna's choices cannot grow), in which only the new cells run.
What is proposed together is a wave, which is recorded in one line of the journal before anything of it is trained.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from core.errors import DamageError, InputError, reason
from sweep.experiment import Stage
from sweep.journal import CheckedJournal, cut_torn_line
from sweep.means import mean
from sweep.parsing import Value
from sweep.sampling import Proposer, Told, experimental, sampler, suggest

optuna.logging.set_verbosity(optuna.logging.ERROR)

_WAVE = "wave:"  # before a wave's number: the attribute of a study that holds it
_MOST_ASKED = 10  # times in a wave, for settings that repeat none before them
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


@dataclass(frozen=True)
class Wave:
    """What an adaptive sampler proposed at once.

    others    settings that it had not proposed, and was told of since the wave before
    settings  its proposals
    possible  those of them that can be trained
    asked     all that it proposed, also what only repeated an earlier setting and for which another was asked: as they
              were asked for together; empty if there is no more than settings
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
        name, waves = study_name(stage, identity), self.waves(stage, identity)
        settings = [setting for wave in waves for setting in (*wave.others, *wave.possible)]
        trials = [trial for study, trial in self._trials(stage.name) if study == name and "cells" in trial.user_attrs]
        tried = [{key: t.params[key] for key in stage.space.dimensions if key in t.params} for t in trials]
        settings += [point for point in stage.every_point if point in tried]  # in the order they have in the file
        settings += tried
        return list({_text(setting): setting for setting in settings}.values()), sum(len(w.settings) for w in waves)

    def waves(self, stage: Stage, identity: str) -> list[Wave]:
        """What an adaptive sampler has proposed in the study of this identity, in its order. Read only."""
        name = study_name(stage, identity)
        found = [study for study in self._studies(stage.name) if study.study_name == name]
        return [wave for study in found for wave in _waves(study.user_attrs)]

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
        self._stage = stage
        self._proposer, self._replayed = Proposer(stage, seed), 0  # waves of those that there are
        self._trainings = set[str | InputError]()  # of the settings in those waves
        self._study = optuna.create_study(
            storage=journal.storage,
            study_name=study_name(stage, identity),
            sampler=sampler(replace(stage, sampler="random") if stage.adaptive else stage, seed),
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
            if (given := suggest(trial, self._stage.space)) != searched:
                raise RuntimeError(f"asked Optuna for {searched}, was given {given}")
        return trials

    def propose(
        self, count: int, keys: Keys, known: Mapping[str, Outcome], refuse: Callable[[InputError], None]
    ) -> list[dict[str, Value]]:
        """The sampler's next wave of so many settings, without those that cannot be trained.

        For a setting that is the same training as an earlier one it is asked again, but not for ever: what is a
        repeat even then counts as proposed.

        keys    of the cells of a setting; raises InputError if it cannot be trained
        known   how cells ended, by key, in whichever study of the stage
        refuse  is told why a setting cannot be trained
        """
        curves = self.curves()

        def told(setting: Mapping[str, Value]) -> Told:
            try:
                cells = keys(setting)
            except InputError:
                cells = []
            ended = [known[key] for key in cells if key in known]
            if not ended or len(ended) < len(cells):
                return Told(TrialState.FAIL)
            return Told(*_state(ended), curves.get(cells[0], []))

        waves = _waves(self._study.user_attrs)
        before = waves[self._replayed :]  # of a process before this one
        for wave in before:
            self._proposer.tell(told, wave.others)
            for asked in wave.asked or [wave.settings]:
                self._proposer.ask_again(asked)
        others = self._others(waves, told)
        self._proposer.tell(told, others)
        earlier = [setting for wave in before for setting in (*wave.others, *wave.settings)]
        wave = self._wave(count, keys, [*earlier, *others], refuse)
        self.record(replace(wave, others=others))
        self._replayed = len(waves) + 1
        return wave.possible

    def _wave(
        self, count: int, keys: Keys, earlier: Sequence[dict[str, Value]], refuse: Callable[[InputError], None]
    ) -> Wave:
        """So many new proposals, that repeat neither one another nor these nor the waves before, if there are such."""

        def training(setting: Mapping[str, Value]) -> str | InputError:
            try:
                return " ".join(keys(setting))
            except InputError as error:
                return error

        known = self._trainings
        known.update(map(training, earlier))
        wave, repeats = Wave([], [], []), list[dict[str, Value]]()
        while len(wave.settings) < count and len(wave.asked) < _MOST_ASKED:
            wave.asked.append(self._proposer.ask(count - len(wave.settings)))
            repeats = []
            for setting in wave.asked[-1]:
                if (found := training(setting)) in known:
                    repeats.append(setting)
                    continue
                known.add(found)
                wave.settings.append(setting)
                if isinstance(found, InputError):
                    refuse(found)
                else:
                    wave.possible.append(setting)
        for settings in (wave.settings, wave.possible):
            settings.extend(repeats)
        return wave if len(wave.asked) > 1 else replace(wave, asked=[])

    def _others(self, waves: Sequence[Wave], told: Callable[[Mapping[str, Value]], Told]) -> list[dict[str, Value]]:
        """The stage's points that were trained and that no wave has, in their order."""
        known = [setting for wave in waves for setting in (*wave.others, *wave.settings)]
        points = [point for point in self._stage.every_point if point not in known]
        return [point for point in points if told(point).state != TrialState.FAIL]

    def record(self, wave: Wave) -> None:
        """Note a wave, as the last."""
        number = len(_waves(self._study.user_attrs))
        self._study.set_user_attr(f"{_WAVE}{number}", asdict(wave))

    def describe(self, trial: optuna.Trial, name: str, cells: Sequence[str], known: Mapping[str, Outcome]) -> None:
        """Note a trial's name, the keys of its cells, and how those of them ended that were trained before."""
        trial.set_user_attr("name", name)
        trial.set_user_attr("cells", list(cells))
        for key, outcome in known.items():
            trial.set_user_attr(_OUTCOME + key, asdict(outcome))

    def report(self, trial: optuna.Trial, epoch: int, accuracy: float) -> None:
        """The validation accuracy after an epoch (from 1)."""
        if math.isfinite(accuracy):
            trial.report(accuracy, epoch)

    def report_curves(self, trial: optuna.Trial, curves: Sequence[Sequence[float]]) -> None:
        """The accuracies that a trial's cells had, epoch by epoch; one that has ended counts with its last."""
        for epoch in range(1, max(map(len, curves), default=0) + 1):
            self.report(trial, epoch, mean(values[:epoch][-1] for values in curves))

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
        """End the trial if all its cells have ended."""
        _tell(self._study, trial.number, trial.user_attrs)


def study_name(stage: Stage, identity: str) -> str:
    """Like "grid-1a2b3c4d"."""
    return f"{stage.name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _outcomes(attributes: Mapping[str, Any]) -> dict[str, Outcome]:
    mine = {name: value for name, value in attributes.items() if name.startswith(_OUTCOME)}
    return {name.removeprefix(_OUTCOME): Outcome(**value) for name, value in mine.items()}


def _waves(attributes: Mapping[str, Any]) -> list[Wave]:
    numbers = sorted(int(name.removeprefix(_WAVE)) for name in attributes if name.startswith(_WAVE))
    return [Wave(**attributes[f"{_WAVE}{number}"]) for number in numbers]


def _text(setting: Mapping[str, Value]) -> str:
    return json.dumps(setting, sort_keys=True)


def _state(outcomes: Collection[Outcome]) -> tuple[TrialState, float | None]:
    """How a trial ends whose cells ended like this; its value is the mean of theirs."""
    statuses = {outcome.status for outcome in outcomes}
    if "failed" in statuses:
        return TrialState.FAIL, None
    if "pruned" in statuses:
        return TrialState.PRUNED, None
    return TrialState.COMPLETE, mean(outcome.best_val_accuracy or 0.0 for outcome in outcomes)


def _tell(study: optuna.Study, number: int, attributes: Mapping[str, Any]) -> bool:
    """End a trial if all its cells have ended. Returns whether it ended."""
    ended = _outcomes(attributes)
    if not ended or ended.keys() != set(attributes.get("cells", ())):
        return False
    state, value = _state(ended.values())
    study.tell(number, value, state=state)
    return True
