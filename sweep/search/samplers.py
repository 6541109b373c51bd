"""What to try next: Optuna's samplers, what they draw beforehand, and what adaptive ones propose as they learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GridSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from sweep.experiment.checks import Value
from sweep.experiment.space import Range, Space
from sweep.experiment.stage import Stage


def draw(stage: Stage, seed: int) -> list[dict[str, Value]]:
    """The stage's draws by a sampler that does not learn: asking for more keeps those already drawn."""
    study = optuna.create_study(sampler=sampler(stage, seed))
    draws = []
    for _ in range(stage.trials):
        trial = study.ask()
        draws.append(suggest(trial, stage.space))
        study.tell(trial, 0.0)  # the quasi-random sampler goes by the trials that have ended
    return draws


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Value]:
    """The trial's setting of what is searched."""
    chosen: dict[str, Value] = {}
    for key, values in space.active(chosen):
        if not isinstance(values, Range):
            choice: Any = trial.suggest_categorical(key, values)
            chosen[key] = choice
        elif isinstance(values.step, float):
            given = trial.suggest_float(key, values.low, values.high, step=values.step)
            chosen[key] = values.nearest(given)  # of steps of 0.1 Optuna makes 0.30000000000000004
        elif values.step:
            chosen[key] = trial.suggest_int(key, int(values.low), int(values.high), step=values.step, log=values.log)
        else:  # Optuna's ranges have their upper end, ours do not
            chosen[key] = trial.suggest_float(key, *values.ends, log=values.log)
    return chosen


@dataclass(frozen=True)
class ProposalResult:
    """What came of a setting: how its trial ended, with what value, and its accuracies epoch by epoch."""

    state: TrialState
    value: float | None = None
    curve: Sequence[float] = ()


class Proposer:
    """An adaptive sampler, with a study of its own in memory, whose trials are its proposals in their order.

    What was broken off, trained again or read back is not seen there, so what is proposed next depends on nothing but
    what came of the proposals, and a stage that was stopped goes on as it would have. CMA-ES keeps itself in its study
    as a pickle, which like this is never in a file.
    """

    def __init__(self, stage: Stage, seed: int) -> None:
        self._stage, self._seed = stage, seed
        self._study = optuna.create_study(direction="maximize")
        self._last: list[tuple[optuna.Trial, dict[str, Value]]] = []
        self._made = 0

    def ask(self, count: int) -> list[dict[str, Value]]:
        """Further proposals, all at once; it does not know yet what comes of those since it was last told."""
        self._study.sampler = sampler(self._stage, self._seed + self._made)
        trials = [self._study.ask() for _ in range(count)]
        self._made += count
        asked = [(trial, suggest(trial, self._stage.space)) for trial in trials]
        self._last += asked
        return [setting for _, setting in asked]

    def ask_again(self, made: Sequence[dict[str, Value]]) -> None:
        """Make the proposals of before. Where others come, as from another version of Optuna, those of before count."""
        before = len(self._last)
        self.ask(len(made))
        for place, setting in enumerate(made, start=before):
            trial, given = self._last[place]
            if given != setting:
                self._study.tell(trial, state=TrialState.FAIL)
                self._last[place] = (self._given(setting), setting)

    def tell(
        self, result_of: Callable[[Mapping[str, Value]], ProposalResult], others: Sequence[Mapping[str, Value]]
    ) -> None:
        """Learn what came of the last proposals, and of other settings that were trained since those."""
        for trial, setting in [*self._last, *((self._given(setting), setting) for setting in others)]:
            found = result_of(setting)
            for epoch, accuracy in enumerate(found.curve, start=1):
                trial.report(accuracy, epoch)
            self._study.tell(trial, found.value, state=found.state)
        self._last = []

    def _given(self, setting: Mapping[str, Value]) -> optuna.Trial:
        """A trial of a setting that the sampler does not propose."""
        self._study.sampler = RandomSampler()
        self._study.enqueue_trial(dict(setting))
        trial = self._study.ask()
        suggest(trial, self._stage.space)
        return trial


def sampler(stage: Stage, seed: int) -> BaseSampler:
    """The stage's sampler as Optuna has it; a random one where Optuna's cannot be told of what is planned."""
    with experimental():
        return MAKERS[stage.sampler](stage, seed % 2**32)


def _grid(stage: Stage, seed: int) -> BaseSampler:
    if not _spans_a_grid(stage.space):
        return _random(stage, seed)
    return GridSampler({key: list(v) for key, v in stage.space.dimensions.items() if not isinstance(v, Range)})


def _random(stage: Stage, seed: int) -> BaseSampler:
    return RandomSampler(seed=seed)


def _qmc(stage: Stage, seed: int) -> BaseSampler:
    others = RandomSampler(seed=seed)  # draws the settings given as lists
    return QMCSampler(scramble=True, seed=seed, independent_sampler=others, warn_independent_sampling=False)


def _tpe(stage: Stage, seed: int) -> BaseSampler:
    """In groups: a parameter that is searched only sometimes has a model of its own."""
    return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def _cmaes(stage: Stage, seed: int) -> BaseSampler:
    return CmaEsSampler(seed=seed, warn_independent_sampling=False)


# How each of sweep.experiment.sampler.SAMPLERS is made, for a stage and a seed below 2**32.
MAKERS: dict[str, Callable[[Stage, int], BaseSampler]] = {
    "grid": _grid,
    "random": _random,
    "qmc": _qmc,
    "tpe": _tpe,
    "cmaes": _cmaes,
}


def _spans_a_grid(space: Space) -> bool:
    """GridSampler raises KeyError when an enqueued trial is told of a grid of one cell, or with a value missing."""
    return not space.conditions and any(not isinstance(v, Range) and len(v) > 1 for v in space.dimensions.values())


@contextmanager
def experimental() -> Iterator[None]:
    """Without Optuna's warnings that something is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
