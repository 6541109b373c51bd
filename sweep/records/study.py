"""Optuna's record of which cell has which outcome, and of what an adaptive sampler has proposed.

An Optuna trial is a setting of what the stage searches; where the stage has several seeds, one trial has a cell for
each, and its value is their mean. Each setting, planned or proposed, is enqueued and asked for, so that it runs exactly
once whatever the study's sampler would have chosen. Cells are recognised by their key, in every study of the stage: a
plan with one more value in its grid makes a new study (Optuna's choices cannot grow), in which only the new cells run.
What is proposed together is a wave, which is recorded in one line of the journal before anything of it is trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

import optuna
from optuna.trial import TrialState

from core.errors import InputError
from sweep.experiment.checks import Value
from sweep.experiment.stage import Stage
from sweep.records.journal import (
    MOST_ASKED,
    OUTCOME,
    WAVE,
    Journal,
    Keys,
    Wave,
    state_of,
    study_name,
    tell_trial,
    text_of,
    waves_of,
)
from sweep.search.means import mean
from sweep.search.outcome import Outcome
from sweep.search.samplers import ProposalResult, Proposer, sampler, suggest

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Study:
    """The Optuna study of one stage."""

    def __init__(self, journal: Journal, stage: Stage, identity: str, seed: int = 0) -> None:
        """Open or create the study. Only the holder of the experiment's lock may.

        identity  what must be equal for the study to go on: another makes another study of the stage
        seed      of an adaptive sampler
        """
        self._stage = stage
        self._proposer, self._replayed = Proposer(stage, seed), 0  # how many stored waves were replayed
        self._trainings = set[str]()  # of the settings in those waves
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

        def result_of(setting: Mapping[str, Value]) -> ProposalResult:
            try:
                cells = keys(setting)
            except InputError:
                cells = []
            ended = [known[key] for key in cells if key in known]
            if not ended or len(ended) < len(cells):
                return ProposalResult(TrialState.FAIL)
            return ProposalResult(*state_of(ended), curves.get(cells[0], []))

        waves = waves_of(self._study.user_attrs)
        before = waves[self._replayed :]  # of a process before this one
        for wave in before:
            self._proposer.tell(result_of, wave.others)
            for asked in wave.asked or [wave.settings]:
                self._proposer.ask_again(asked)
        others = self._others(waves, result_of)
        self._proposer.tell(result_of, others)
        earlier = [setting for wave in before for setting in (*wave.others, *wave.settings)]
        wave = self._wave(count, keys, [*earlier, *others], refuse)
        self.record(replace(wave, others=others))
        self._replayed = len(waves) + 1
        return wave.possible

    def _wave(
        self, count: int, keys: Keys, earlier: Sequence[dict[str, Value]], refuse: Callable[[InputError], None]
    ) -> Wave:
        """So many new proposals, that repeat neither one another nor these nor the waves before, if there are such."""

        def training(setting: Mapping[str, Value]) -> tuple[str, InputError | None]:
            """What two settings have in common that are the same training; or why it is impossible."""
            try:
                return " ".join(keys(setting)), None
            except InputError as error:
                return text_of(setting), error

        known = self._trainings
        known.update(training(setting)[0] for setting in earlier)
        wave, repeats = Wave([], [], []), list[tuple[dict[str, Value], InputError | None]]()
        while len(wave.settings) < count and len(wave.asked) < MOST_ASKED:
            wave.asked.append(self._proposer.ask(count - len(wave.settings)))
            repeats = []
            for setting in wave.asked[-1]:
                found, error = training(setting)
                if found in known:
                    repeats.append((setting, error))
                    continue
                known.add(found)
                wave.settings.append(setting)
                if error:
                    refuse(error)
                else:
                    wave.possible.append(setting)
        wave.settings.extend(setting for setting, _ in repeats)
        wave.possible.extend(setting for setting, error in repeats if not error)
        return wave if len(wave.asked) > 1 else replace(wave, asked=[])

    def _others(
        self, waves: Sequence[Wave], result_of: Callable[[Mapping[str, Value]], ProposalResult]
    ) -> list[dict[str, Value]]:
        """The stage's points that were trained and that no wave has, in their order."""
        known = [setting for wave in waves for setting in (*wave.others, *wave.settings)]
        points = [point for point in self._stage.every_point if point not in known]
        return [point for point in points if result_of(point).state != TrialState.FAIL]

    def record(self, wave: Wave) -> None:
        """Note a wave, as the last."""
        number = len(waves_of(self._study.user_attrs))
        self._study.set_user_attr(f"{WAVE}{number}", asdict(wave))

    def describe(self, trial: optuna.Trial, name: str, cells: Sequence[str], known: Mapping[str, Outcome]) -> None:
        """Note a trial's name, the keys of its cells, and how those of them ended that were trained before."""
        trial.set_user_attr("name", name)
        trial.set_user_attr("cells", list(cells))
        for key, outcome in known.items():
            trial.set_user_attr(OUTCOME + key, asdict(outcome))

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
        trial.set_user_attr(OUTCOME + key, asdict(outcome))
        self.end(trial)

    def end(self, trial: optuna.Trial) -> None:
        """End the trial if all its cells have ended."""
        tell_trial(self._study, trial.number, trial.user_attrs)
