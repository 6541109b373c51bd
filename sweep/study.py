"""Optuna's part: draws, and the record of which cell of a plan has which outcome. The only importer of optuna.

The plan decides which cells exist; each is enqueued and asked for, so that it runs exactly once whatever the sampler
would have proposed. Cells are recognised by their key, in every study of the stage: a plan with one more value in its
grid makes a new study (Optuna's choices cannot grow), in which only the new cells run.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import optuna.storages.journal
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, GridSampler, RandomSampler
from optuna.trial import TrialState

from core.errors import InputError
from sweep.experiment import Range, Stage, Value

if TYPE_CHECKING:
    from sweep.plan import Cell

optuna.logging.set_verbosity(optuna.logging.ERROR)

Space = Mapping[str, tuple[Value, ...] | Range]


@dataclass(frozen=True)
class Outcome:
    """How a cell's trial ended: "finished", or "failed" because it diverged.

    Figures are those of its best epoch; None if no epoch was finite.
    """

    status: str
    run_id: str
    best_val_accuracy: float | None
    best_val_loss: float | None
    best_epoch: int
    epochs: int


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    return {
        key: FloatDistribution(values.low, values.high)
        if isinstance(values, Range)
        else CategoricalDistribution(values)
        for key, values in space.items()
    }


def draw(space: Space, trials: int, seed: int) -> list[dict[str, Value]]:
    """The first `trials` draws of Optuna's RandomSampler with this seed: asking for more keeps those already drawn.

    A float drawn exactly at a range's upper end (Optuna's ranges are closed) is drawn again.
    """
    sampler = RandomSampler(seed=seed % 2**32)
    study = optuna.create_study(sampler=sampler)
    draws: list[dict[str, Value]] = []
    while len(draws) < trials:
        values = study.ask(_distributions(space)).params
        if not any(isinstance(r, Range) and values[key] >= r.high for key, r in space.items()):
            draws.append(values)
    return draws


class Study:
    """The Optuna study of one stage, kept in a journal file that survives being killed at any moment."""

    def __init__(self, journal: Path, stage: Stage, plan: Sequence[Cell]) -> None:
        """Open or create the study for this plan. Only the holder of the experiment's lock may."""
        content = repr((stage.sampler, list(stage.space.items()), sorted(cell.key for cell in plan)))
        self._distributions = _distributions(stage.space)
        self._study = optuna.create_study(
            storage=_storage(journal),
            study_name=f"{stage.name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}",
            sampler=_sampler(stage),
            direction="maximize",
            load_if_exists=True,
        )
        self._study.set_user_attr("stage", stage.name)

    def ask(self, cells: Sequence[Cell]) -> list[optuna.Trial]:
        """Enqueue these cells and take them from the queue: one trial each, in their order."""
        for cell in cells:
            attributes = {"key": cell.key, "name": cell.name}
            self._study.enqueue_trial(cell.searched, user_attrs=attributes)
        trials = [self._study.ask(self._distributions) for _ in cells]
        for cell, trial in zip(cells, trials, strict=True):
            if trial.user_attrs["key"] != cell.key:
                raise RuntimeError(f"asked Optuna for {cell.name}, was given {trial.user_attrs['name']}")
        return trials

    def tell(self, trial: optuna.Trial, outcome: Outcome) -> None:
        """Record how a trial ended."""
        trial.set_user_attr("outcome", asdict(outcome))
        _tell(self._study, trial.number, outcome)


def close_abandoned(journal: Path) -> int:
    """Record as failed, without an outcome, what was left waiting or running in any study; returns how many trials.

    Only the holder of the experiment's lock may. The cells of those trials are open again.
    """
    Path(f"{journal}.lock").unlink(missing_ok=True)  # of a process that was killed; Optuna would wait 30 s for it
    if not journal.exists():
        return 0
    _cut_torn_line(journal)
    storage = _storage(journal)
    closed = 0
    for stored in storage.get_all_studies():
        study = optuna.load_study(study_name=stored.study_name, storage=storage)
        while study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
            study.ask()  # a waiting trial can be told only after it was asked for
        for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if "outcome" in trial.user_attrs:  # killed just before it was told
                _tell(study, trial.number, Outcome(**trial.user_attrs["outcome"]))
            else:
                study.tell(trial.number, state=TrialState.FAIL)
                closed += 1
    return closed


def outcomes(journal: Path, stage: str, runs: Container[str] | None = None) -> dict[str, Outcome]:
    """The outcome of every cell that has ended in any study of the stage, by key. Read only.

    runs  only those whose run id is among these; None: all
    """
    if not journal.exists():
        return {}
    storage = _storage(journal)
    found: dict[str, Outcome] = {}
    for study in storage.get_all_studies():
        if study.user_attrs.get("stage") == stage:
            for trial in storage.get_all_trials(study._study_id, deepcopy=False):
                if "outcome" in trial.user_attrs and trial.state.is_finished():
                    outcome = Outcome(**trial.user_attrs["outcome"])
                    if runs is None or outcome.run_id in runs:
                        found[trial.user_attrs["key"]] = outcome
    return found


def _tell(study: optuna.Study, number: int, outcome: Outcome) -> None:
    if outcome.status == "finished":
        study.tell(number, outcome.best_val_accuracy)
    else:
        study.tell(number, state=TrialState.FAIL)


def _storage(journal: Path) -> optuna.storages.JournalStorage:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    except (ValueError, LookupError, TypeError, AssertionError, AttributeError, OSError) as error:
        raise InputError(
            f"{journal} is damaged ({type(error).__name__}): move it away, and its trials will be trained again"
        ) from None


def _sampler(stage: Stage) -> BaseSampler:
    # A grid of one cell samples nothing, and GridSampler raises KeyError when its enqueued trial is told.
    if stage.sampler == "grid" and any(len(v) > 1 for v in stage.space.values() if not isinstance(v, Range)):
        return GridSampler({key: list(v) for key, v in stage.space.items() if not isinstance(v, Range)})
    return RandomSampler()


def _cut_torn_line(journal: Path) -> None:
    """Drop a last line without its newline: a process was killed while writing it, and Optuna cannot append to it."""
    if not journal.exists():
        return
    content = journal.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with open(journal, "r+b") as file:
            file.truncate(whole)
