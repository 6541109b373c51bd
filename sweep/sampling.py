"""What to try next: Optuna's samplers, what they draw beforehand, and what adaptive ones propose as they learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GridSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from sweep.experiment import Stage
from sweep.parsing import Value
from sweep.space import Range, Space

Told = Callable[[Mapping[str, Value]], FrozenTrial | None]  # what came of a setting; None: it could not be trained


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
        elif values.step:
            chosen[key] = trial.suggest_int(key, int(values.low), int(values.high), step=values.step, log=values.log)
        else:  # Optuna's ranges have their upper end, ours do not
            chosen[key] = trial.suggest_float(key, *values.ends, log=values.log)
    return chosen


class Proposer:
    """An adaptive sampler, with a study of its own in memory, whose trials are its proposals in their order.

    What was broken off, trained again or read back is not seen there, so what is proposed next depends on nothing but
    what came of the proposals, and a stage that was stopped goes on as it would have. CMA-ES keeps itself in its study
    as a pickle, which like this is never read from a file.
    """

    def __init__(self, stage: Stage, seed: int) -> None:
        self._stage, self._seed = stage, seed
        self._study = optuna.create_study(direction="maximize")
        self._open: list[tuple[optuna.Trial | None, dict[str, Value]]] = []
        self._made = 0

    def ask(self, count: int) -> list[dict[str, Value]]:
        """Its next proposals, all at once. What came of those before must have been told."""
        self._study.sampler = sampler(self._stage, self._seed + self._made)
        trials = [self._study.ask() for _ in range(count)]
        self._made += count
        settings = [suggest(trial, self._stage.space) for trial in trials]
        self._open = list(zip(trials, settings, strict=True))
        return settings

    def ask_again(self, made: Sequence[dict[str, Value]]) -> None:
        """Make the proposals of before. Where others come, as from another version of Optuna, those of before count."""
        self.ask(len(made))
        for place, setting in enumerate(made):
            trial, given = self._open[place]
            if trial and given != setting:
                self._study.tell(trial, state=TrialState.FAIL)
                self._open[place] = (None, setting)

    def tell(self, told: Told, others: Sequence[Mapping[str, Value]]) -> None:
        """Learn what came of the last proposals, and of other settings that were trained since those."""
        for trial, proposed in self._open:
            self._end(trial, told(proposed))
        self._open = []
        for setting in others:
            self._end(None, told(setting))

    def _end(self, trial: optuna.Trial | None, found: FrozenTrial | None) -> None:
        """End a trial as the one that was found did; take that one where there is none."""
        if trial is None:
            if found is not None:
                self._study.add_trial(_plain(found))
        elif found is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            for epoch, accuracy in found.intermediate_values.items():
                trial.report(accuracy, epoch)
            self._study.tell(trial, found.value if found.state == TrialState.COMPLETE else None, state=found.state)


def _plain(trial: FrozenTrial) -> FrozenTrial:
    """The trial without its attributes, in which CMA-ES would look for a pickle."""
    value = trial.value if trial.state == TrialState.COMPLETE else None
    return optuna.create_trial(
        state=trial.state,
        value=value,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=trial.intermediate_values,
    )


def sampler(stage: Stage, seed: int) -> BaseSampler:
    """The stage's sampler as Optuna has it; a random one where Optuna's cannot be told of what is planned."""
    with experimental():
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
def experimental() -> Iterator[None]:
    """Without Optuna's warnings that something is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
