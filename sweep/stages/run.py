"""Drive a stage: reconcile, train, train again what diverged, end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.addresses import without_passwords
from core.errors import InputError, reason
from core.tracking.tracker import Tracker
from sweep.experiment.stage import Stage
from sweep.records.checkpoints import SavedGroup, clear
from sweep.records.records import Records
from sweep.results.ranking import Row
from sweep.search import grouping
from sweep.search.cell import Cell
from sweep.search.cost import epoch_seconds
from sweep.stages.controller import Controller
from sweep.stages.end import end_stage
from sweep.stages.epochs import Epochs
from sweep.stages.interrupt import Interrupted
from sweep.stages.reconcile import Reconciled, close_open, reconcile, tell_of_repeats
from sweep.stages.state import StageState
from sweep.stages.sweep import Sweep
from sweep.terminal.display import Work


@dataclass(frozen=True)
class StageResult:
    """A stage after a run.

    stage          its name
    run_id         its own run in MLflow
    rows           its ranked trials
    trained        how many of them this call trained
    experiment_id  of its experiment in MLflow
    groups         those that this call trained from their first epoch on
    """

    stage: str
    run_id: str
    rows: list[Row]
    trained: int
    experiment_id: str
    groups: list[list[Cell]]


def run_stage(sweep: Sweep, stage: Stage, tracker: Tracker, points: Sequence[str] = ()) -> StageResult:
    """Train the cells of the stage that have not been trained yet, and rank them all.

    Raises Interrupted when a signal stopped it, after all records were closed: the same call goes on.
    """
    with sweep.folder.held(), sweep.signals.active():
        records = sweep.records(tracker)
        try:
            return _run(sweep, stage, records, points)
        except BaseException as error:
            _break_off(sweep, records, error)
            raise
        finally:
            sweep.display.end()


def _run(sweep: Sweep, stage: Stage, records: Records, points: Sequence[str]) -> StageResult:
    with sweep.signals.held():
        begun = reconcile(sweep, stage, records, points)
    state, trained, groups = _train(sweep, records, begun)
    tell_of_repeats(sweep, state)
    rows = state.rows
    if begun.state.open or not begun.complete:
        sweep.display.trained()
        with sweep.signals.held():
            end_stage(sweep, state, records, begun.run_id)
    else:
        with sweep.signals.held():  # its winner may be no version yet
            records.winners.register(stage, rows)
    clear(sweep.folder.training, stage.name)
    return StageResult(stage.name, begun.run_id, rows, trained, records.runs.experiment_id, groups)


def _break_off(sweep: Sweep, records: Records, error: BaseException) -> None:
    """Close all records."""
    sweep.signals.settled()
    sweep.journal.reread()  # what was read of it may be only a part
    sweep.close()  # its processes may be in the middle of something
    try:
        with sweep.signals.held(), records.tracker.store.waiting(0.0):  # whoever stops it does not want to wait
            close_open(sweep, records, *_ending(error))
    except (InputError, OSError) as further:  # the next start closes them
        sweep.display.warn(f"its records could not be closed: {reason(further)}")


def _ending(error: BaseException) -> tuple[str, str]:
    """Status and reason of runs that an exception broke off."""
    if isinstance(error, Interrupted):
        return "KILLED", f"stopped by {error}"
    return "FAILED", without_passwords(f"{type(error).__name__}: {reason(error)}")


def _train(sweep: Sweep, records: Records, begun: Reconciled) -> tuple[StageState, int, list[list[Cell]]]:
    """Train what is open. Returns the state after it, how many cells were trained, and the groups that began here.

    Retries come last, wherever a sweep was stopped.
    """
    state, runs, stage = begun.state, begun.runs, begun.state.stage
    retried = [g for g in begun.saved if any(g.cells[index].attempt for index in g.progress.active)]
    others = [group for group in begun.saved if group not in retried]
    first = [cell for cell in state.todo if not cell.attempt]
    trained, groups = _train_cells(sweep, records, state, begun.run_id, first, others, state.remaining)
    while True:
        if trained:
            runs = records.runs.current_ids()
        state = state.again(sweep, runs)
        again = [cell for cell in state.todo if cell.attempt]
        if not again:
            return state, trained, groups
        sweep.display.note(f"{stage.name}: {len(again)} trials that diverged start again from another seed")
        more, further = _train_cells(sweep, records, state, begun.run_id, again, retried, 0)
        trained, groups, retried = trained + more, groups + further, []


def _train_cells(
    sweep: Sweep,
    records: Records,
    state: StageState,
    run_id: str,
    todo: Sequence[Cell],
    saved: Sequence[SavedGroup],
    remaining: int,
) -> tuple[int, list[list[Cell]]]:
    """Train these cells, then what an adaptive sampler proposes; returns how many, and the groups that began here."""
    stage, total = state.stage, len(state.cells) + remaining * state.stage.seeds
    work = _work(sweep, state, todo, saved, remaining)
    sweep.display.begin(stage.name, total, len(state.cells) - len(todo), work)
    if not todo and not remaining:
        return 0, []
    study = state.study(sweep)
    epochs = Epochs(state, study, records, sweep.signals, sweep.display)
    controller = Controller(sweep, state, study, records, epochs, run_id)
    sweep.folder.training.mkdir(exist_ok=True)

    def told_to_stop(signal: str) -> None:
        sweep.display.note(f"{signal}: stopping after this epoch; once more stops at once")

    with sweep.signals.patient(told_to_stop):
        controller.train(todo, saved)
        controller.train_proposals([same[0].point for same in grouping.by_setting(state.cells)], remaining)
    sweep.journal.close_abandoned()  # what was asked for and not trained, or waits for a seed that is tried again
    if epochs.spent:
        sweep.display.note(f"{stage.name}: {epochs.spent}")
    return epochs.trained, controller.groups


def _work(sweep: Sweep, state: StageState, todo: Sequence[Cell], saved: Sequence[SavedGroup], remaining: int) -> Work:
    """What the display wants to know of it."""
    groups = sweep.planner.groups(todo) if sweep.display.tells_time else []
    seconds = epoch_seconds(sweep.ops, sweep.data, groups) if sweep.display.tells_time else {}
    going_on = [(g.cells[i], g.progress.epoch, g.progress.results[i]) for g in saved for i in g.progress.active]
    best = [(c, o.best_val_accuracy, o.best_val_loss) for c, o in state.ended if o.status in ("finished", "cut")]
    best += [(c, r.best_accuracy, r.history[r.best_epoch - 1]["val_loss"]) for c, _, r in going_on]
    return Work(
        todo,
        remaining * state.stage.seeds,
        state.stage.longest_training if remaining else 0,
        sweep.data.training_images,
        seconds,
        before={cell.key: epoch for cell, epoch, _ in going_on},
        known=[(c, accuracy, loss) for c, accuracy, loss in best if accuracy is not None and loss is not None],
        pictures=sweep.pictures,
    )
