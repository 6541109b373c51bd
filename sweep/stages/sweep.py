"""Drive one stage of an experiment: plan -> reconcile -> ask -> train in groups -> track -> tell -> rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

from core.addresses import without_passwords
from core.data.dataset import Dataset
from core.errors import InputError, reason
from core.evaluate.metrics import LargestClass, largest_in_validation
from core.ops import Ops
from core.tracking.entities import RunInfo
from core.tracking.tracker import Tracker
from sweep.executors.base import Executor, Workload
from sweep.executors.in_process import InProcessExecutor
from sweep.executors.processes import ProcessExecutor
from sweep.experiment.checks import Value
from sweep.experiment.stage import Budget, Experiment, Stage
from sweep.records.checkpoints import Saved, clear, find
from sweep.records.folder import Folder
from sweep.records.journal import Journal
from sweep.records.runs import Records, experiment_name
from sweep.records.study import Study
from sweep.results import ranking
from sweep.results.samples import augmented_samples
from sweep.search import grouping, plan, repeats
from sweep.search.cell import Cell
from sweep.search.cost import epoch_seconds, fitting, usable_memory
from sweep.search.group_size import best_size
from sweep.search.outcome import Outcome
from sweep.search.samplers import draw
from sweep.stages.controller import Training
from sweep.stages.interrupt import Interrupted, Signals
from sweep.terminal.display import Display, Work
from sweep.terminal.hints import Hints


@dataclass(frozen=True)
class StageResult:
    """A stage after a run: its own MLflow run, its ranked trials, how many of them this call trained, the experiment
    in MLflow, and the groups that this call trained from their first epoch on.
    """

    stage: str
    run_id: str
    rows: list[ranking.Row]
    trained: int
    experiment_id: str
    groups: list[list[Cell]]


class UnfinishedError(InputError):
    """A stage cannot begin, as the one that it builds on has not ended."""


class Sweep:
    """One experiment on one data set: where its records are, and what its stages share."""

    def __init__(
        self,
        experiment: Experiment,
        data: Dataset,
        ops: Ops,
        display: Display,
        processes: int | None = None,
        draws: bool = True,
        new_data: bool = False,
        new_experiment: bool = False,
        model: str = "",
    ) -> None:
        """
        processes  that train at the same time, a group each; None: one for each device of ops
        draws      whether runs get pictures
        new_data   whether to begin anew where the experiment was begun on other data from the same place
        new_experiment  whether to begin anew where it was deleted in MLflow
        model      see Records
        """
        self._new_data, self._new_experiment, self._model = new_data, new_experiment, model
        self.processes, self._draws = processes or ops.device_count, draws
        self.experiment, self.data, self.ops, self.display = experiment, data, ops, display
        self.hints = Hints(experiment.called)
        self.signals = Signals()
        self.name = experiment_name(experiment, data)
        self.folder = Folder(self.name)
        self.journal = Journal(self.folder.journal)
        self.runs: Mapping[str, str] | None = None  # see outcomes
        self._inherited: dict[str, dict[str, Value]] = {}
        self._known: dict[str, list[dict[str, Value]]] = {}  # see _settings
        # Before any training: it is free again after each. Devices have their own, processes on a CPU share.
        self._memory = usable_memory(ops, data) // (self.processes if ops.processes_share_device else 1)
        self._noted = set[str]()
        # Settings that train together, and of how many that was measured, by the kind of group: see _fast.
        self._sizes: dict[tuple[str, float], tuple[int, int]] = {}

    @cached_property
    def largest(self) -> LargestClass:
        """The largest class of the validation images, whose share any accuracy is held to."""
        return largest_in_validation(self.data, self.experiment.seed)

    def cells(self, stage: Stage, points: Sequence[str] = ()) -> list[Cell]:
        """The stage's plan: its grid or draws, what an adaptive sampler has tried, the named points asked for, and
        those trained before.

        Raises InputError while the stage that it builds on is unfinished.
        """
        inherited = self.inherited(stage)
        if stage.adaptive:
            self._plan(replace(stage, seeds=1), inherited, list(stage.space.corners()))  # better refused now than later
        known = self._settings(stage) + self.tried(stage, inherited)[0]
        every = self._plan(stage, inherited, known + plan.named(stage, stage.points))
        wanted = {cell.key for cell in self._plan(stage, inherited, known + plan.named(stage, points))}
        done = self.outcomes(stage)
        settings = [
            setting
            for setting in grouping.by_setting(every)
            if any(cell.key in wanted | done.keys() for cell in setting)
        ]
        return [cell for setting in settings for cell in setting]

    def _settings(self, stage: Stage) -> list[dict[str, Value]]:
        """See plan.settings; a thousand draws take a while."""
        if stage.name not in self._known:
            self._known[stage.name] = plan.settings(self.experiment, stage)
        return self._known[stage.name]

    def _plan(self, stage: Stage, inherited: Mapping[str, Value], settings: Sequence[dict[str, Value]]) -> list[Cell]:
        diverged = {key for key, outcome in self.outcomes(stage).items() if outcome.status == "failed"}
        try:
            return plan.cells(self.experiment, stage, inherited, self.data, settings, diverged)
        except InputError as error:
            raise InputError(f"{self.experiment.path}: stages.{stage.name}: {error}") from None

    def tried(self, stage: Stage, inherited: Mapping[str, Value]) -> tuple[list[dict[str, Value]], int]:
        """The settings that an adaptive stage has tried so far, and how many its sampler has proposed."""
        return self.journal.proposals(stage, self._identity(stage, inherited)) if stage.adaptive else ([], 0)

    def repeats(self, stage: Stage) -> list[str]:
        """What there is to know of the stage's settings that are the same training, a line each."""
        inherited = self.inherited(stage)
        if stage.adaptive:
            waves = self.journal.waves(stage, self._identity(stage, inherited))
            asked = [setting for wave in waves for setting in wave.possible]
        else:
            asked = self._settings(stage)
        cells = self._plan(replace(stage, seeds=1), inherited, asked or list(stage.space.tops()))
        return repeats.said(stage, len(asked), cells, self.data)

    def study(self, stage: Stage, cells: Sequence[Cell]) -> Study:
        """Optuna's record of the stage, for a plan of these cells."""
        identity = self._identity(stage, self.inherited(stage), cells)
        return Study(self.journal, stage, identity, self.experiment.seed)

    def _identity(self, stage: Stage, inherited: Mapping[str, Value], cells: Sequence[Cell] = ()) -> str:
        """What a stage's Optuna study is for: a plan of cells; or, if a sampler proposes them, all it goes by."""
        if not stage.adaptive:
            return repr((stage.sampler, stage.space, sorted(cell.key for cell in cells)))
        fixed = sorted((stage.settings | dict(inherited)).items())
        return repr(("waves", stage.sampler, stage.space, fixed, self.experiment.seed, self.data.sha256))

    def open(self, stage: Stage, cells: Sequence[Cell]) -> tuple[list[Cell], int]:
        """The cells that are still to be trained, and how many settings an adaptive sampler is still to propose.

        Nothing is, once the stage's budget is spent.
        """
        done = self.outcomes(stage)
        ended = [done[cell.key] for cell in cells if cell.key in done]
        if stage.budget.spent(sum(o.seconds for o in ended), sum(o.epochs for o in ended)):
            return [], 0
        _, proposed = self.tried(stage, self.inherited(stage))
        remaining = max(0, stage.trials - proposed) if stage.adaptive else 0
        todo = [cell for cell in cells if cell.key not in done or stage.reopens(done[cell.key].status)]
        return todo, remaining

    def outcomes(self, stage: Stage) -> dict[str, Outcome]:
        """How the stage's cells that have been trained ended, by key. Once runs is known (see Records.trials), those
        alone count.
        """
        return self.journal.outcomes(stage.name, self.runs)

    def waves(self, stage: Stage, todo: Sequence[Cell], remaining: int) -> list[list[list[Cell]]]:
        """The groups that train one wave after another: those that are known, then what an adaptive sampler would
        propose, as it is asked for; random cells stand for its proposals.
        """
        drawn = draw(replace(stage, sampler="random", trials=remaining), self.experiment.seed) if remaining else []
        settings = grouping.by_setting(self._plan(stage, self.inherited(stage), drawn))
        asked = [settings[start : start + stage.at_once] for start in range(0, len(settings), stage.at_once or 1)]
        return [self.groups(cells) for cells in [todo, *(list(chain(*wave)) for wave in asked)] if cells]

    @cached_property
    def trainer(self) -> Executor:
        """What trains this experiment's groups."""
        split, seed = self.data.split(self.experiment.seed), self.experiment.seed
        material = Workload(split, self.data.scale, seed, self.ops.name, self.ops.precision)
        return (
            InProcessExecutor(self.ops, material) if self.processes == 1 else ProcessExecutor(self.processes, material)
        )

    def records(self, tracker: Tracker) -> Records:
        """The MLflow side, claimed for this folder."""
        owner = self.folder.claim(self.experiment.name, self.data, self._new_data)
        anew, model = self._new_experiment, self._model
        with self.hints.on_deletion():
            records = Records(tracker, self.experiment, self.data, self.ops, owner, self._draws, anew, model)
        if records.name != self.name:
            self._note_once(
                f"MLflow's {self.name} is another project's, or was deleted: this project's is {records.name}"
            )
        return records

    def _note_once(self, text: str) -> None:
        if text and text not in self._noted:
            self._noted.add(text)
            self.display.note(text)

    def close(self) -> None:
        """End the processes that train. Another stage starts new ones."""
        trainer = self.__dict__.pop("trainer", None)
        if isinstance(trainer, ProcessExecutor):
            trainer.close()

    def groups(self, cells: Sequence[Cell]) -> list[list[Cell]]:
        """The cells that train together. A group that memory is too small for comes in parts, as does one that is
        slower as a whole, and a note says so; the largest are cut as well while there are fewer than processes.
        """
        found: list[list[Cell]] = []
        for group in grouping.groups(cells):
            parts, note = fitting(self.ops, self.data, group, self._memory)
            self._note_once(note)
            for part in parts:
                found += self._fast(part)
        while 0 < len(found) < self.processes and len(grouping.by_setting(largest := max(found, key=len))) > 1:
            place = found.index(largest)
            found[place : place + 1] = grouping.parts(largest, 2)
        return found

    def _fast(self, group: Sequence[Cell]) -> list[list[Cell]]:
        """The group in parts of the size that is the fastest here. Whole where its trials are judged against each
        other, or share a budget: there it matters who trains at the same time.
        """
        stage, settings = self.experiment.stages[group[0].stage], len(grouping.by_setting(group))
        if stage.pruner or stage.budget != Budget() or self.processes > 1:
            return [list(group)]
        kind = grouping.group_name(group[0].settings), len(group) / settings
        size, measured = self._sizes.get(kind, (0, 0))
        if settings > measured and (found := best_size(self.ops, self.data, group, self._memory)):
            size, _ = self._sizes[kind] = found.settings, settings
            self._note_once(found.reason)
        elif settings > measured == size:
            size = settings  # all of fewer trained together: no smaller size is known to be faster
        return grouping.parts(group, -(-settings // size))

    def inherited(self, stage: Stage) -> dict[str, Value]:
        """What the winner of the stage before hands on.

        Raises InputError while that stage is unfinished.
        """
        if stage.after is None:
            return {}
        if stage.name not in self._inherited:
            best = self._winner(stage, self.experiment.stages[stage.after])
            self._inherited[stage.name] = {key: getattr(best.settings, key) for key in stage.inherit}
        return self._inherited[stage.name]

    def _winner(self, stage: Stage, before: Stage) -> Cell:
        """The winner of the stage before, for a stage that builds on it."""
        cells = self.cells(before)
        rows = ranking.ranked(cells, self.outcomes(before))
        todo, remaining = self.open(before, cells)
        if todo or remaining:
            done, total = len(cells) - len(todo), len(cells) + remaining * before.seeds
            command = self.hints.quoted(self.hints.run(before.name))
            raise UnfinishedError(
                f"stage {stage.name} builds on stage {before.name}, of which {done} of {total} trials are done on this "
                f"data ({self.data.name}): first run {command}"
            )
        best = ranking.winner(rows)
        if best is None:
            raise UnfinishedError(f"stage {stage.name} builds on stage {before.name}, of whose trials none finished")
        return best.cell

    def run_stage(self, stage: Stage, tracker: Tracker, points: Sequence[str] = ()) -> StageResult:
        """Train the cells of the stage that have not been trained yet, and rank them all.

        Raises Interrupted when a signal stopped it, after all records were closed: the same call goes on.
        """
        with self.folder.held(), self.signals.active():
            records = self.records(tracker)
            try:
                with self.signals.held():
                    runs = records.runs()
                    left_open = self.close_open(records, "KILLED", "its process ended without closing it", runs)
                    self.runs = records.trials(runs)
                    self._require_known(stage, runs)
                    self._inherited.clear()
                    cells = self.cells(stage, points)
                    todo, remaining = self.open(stage, cells)
                    reopen = bool(todo or remaining)
                    saved = find(self.folder.training, cells, todo, records.environment, self.display.note)
                    going_on = {run for group in saved for run in group.run_ids}
                    trials = set(self.runs.values()) - going_on
                    for name in [name for run, name in left_open.items() if run in trials]:
                        self.display.note(f"{name} was left open by a process that ended: marked KILLED")
                    self._tell_of_lost(stage, tracker)
                    self._tell_of_repeats(stage)
                    run_id, complete = records.stage(stage, self.inherited(stage), cells, reopen)
                # Retries come last, wherever a sweep was stopped.
                first = [cell for cell in todo if not cell.attempt]
                retried = [group for group in saved if any(group.cells[n].attempt for n in group.progress.active)]
                others = [group for group in saved if group not in retried]
                trained, groups = self._train(stage, cells, first, others, remaining, records, run_id)
                while True:
                    if trained:
                        self.runs = records.trials()
                    cells = self.cells(stage, points)
                    again = [cell for cell in self.open(stage, cells)[0] if cell.attempt]
                    if not again:
                        break
                    self.display.note(f"{stage.name}: {len(again)} trials that diverged start again from another seed")
                    more, further = self._train(stage, cells, again, retried, 0, records, run_id)
                    trained, groups, retried = trained + more, groups + further, []
                self._tell_of_repeats(stage)
                rows = ranking.ranked(cells, self.outcomes(stage))
                if reopen or not complete:
                    self.display.trained()
                    with self.signals.held():
                        self._end(stage, cells, rows, records, run_id)
                else:
                    with self.signals.held():  # its winner may be no version yet
                        records.register(stage, rows)
                clear(self.folder.training, stage.name)
            except BaseException as error:
                self.signals.settled()
                self.journal.reread()  # what was read of it may be only a part
                self.close()  # its processes may be in the middle of something
                try:
                    with self.signals.held(), tracker.store.waiting(0.0):  # whoever stops it does not want to wait
                        self.close_open(records, *_ending(error))
                except (InputError, OSError) as further:  # the next start closes them
                    self.display.warn(f"its records could not be closed: {reason(further)}")
                raise
            finally:
                self.display.end()
        return StageResult(stage.name, run_id, rows, trained, records.experiment_id, groups)

    def ended(self, records: Records) -> Iterator[tuple[Stage, list[ranking.Row]]]:
        """The stages whose trials are all done, and which MLflow tells to have ended, with their rankings."""
        self.runs = records.trials()
        for stage in self.experiment.stages.values():
            with suppress(UnfinishedError):
                cells, run = self.cells(stage), records.stage_run(stage, self.inherited(stage))
                if run and run.status == "FINISHED" and not any(self.open(stage, cells)):
                    yield stage, ranking.ranked(cells, self.outcomes(stage))

    def end_again(self, stage: Stage, records: Records) -> None:
        """Write what a stage tells of its trials anew, if all of them are done."""
        self.runs = records.trials()
        cells = self.cells(stage)
        todo, remaining = self.open(stage, cells)
        if not todo and not remaining:
            run_id, _ = records.stage(stage, self.inherited(stage), cells, reopen=True)
            self._end(stage, cells, ranking.ranked(cells, self.outcomes(stage)), records, run_id)

    def _end(
        self, stage: Stage, cells: Sequence[Cell], rows: Sequence[ranking.Row], records: Records, run_id: str
    ) -> None:
        samples = augmented_samples(self.ops, self.data, self.experiment.seed, rows)
        if samples and self._draws:
            records.augmented(run_id, samples)
        records.end_stage(run_id, stage, cells, rows)

    def close_open(
        self, records: Records, status: str, reason: str, runs: Mapping[str, RunInfo] | None = None
    ) -> dict[str, str]:
        """Close all that is open in this experiment, and return the names of the runs that were broken off, by id.

        runs  those of the experiment, where they are known

        A trial whose outcome Optuna has gets the status it ended with; others get this one, and are trained again.
        """
        self.journal.close_abandoned()
        runs = records.runs() if runs is None else runs
        now, stages = records.trials(runs), self.experiment.stages
        ended = {o.run_id: o for stage in stages for o in self.journal.outcomes(stage, now).values()}
        broken_off = {}
        for run_id, run in runs.items():
            if run.status == "RUNNING" and run_id in ended:
                records.close(run_id, ended[run_id])
            elif run.status == "RUNNING":
                records.break_off(run_id, status, reason)
                broken_off[run_id] = run.name
        return broken_off

    def _train(
        self,
        stage: Stage,
        cells: Sequence[Cell],
        todo: Sequence[Cell],
        saved: Sequence[Saved],
        remaining: int,
        records: Records,
        parent: str,
    ) -> tuple[int, list[list[Cell]]]:
        """Train what is open, then what an adaptive sampler proposes; returns how many cells, and the new groups."""
        inherited, done = self.inherited(stage), self.outcomes(stage)
        total = len(cells) + remaining * stage.seeds
        self.display.begin(stage.name, total, len(cells) - len(todo), self._work(stage, cells, todo, saved, remaining))
        if not todo and not remaining:
            return 0, []
        training = Training(self, stage, inherited, self.study(stage, cells), records, parent, cells, done)
        self.folder.training.mkdir(exist_ok=True)
        with self.signals.patient(self._told_to_stop):
            training.planned(todo, saved)
            training.proposed([same[0].point for same in grouping.by_setting(cells)], remaining)
        self.journal.close_abandoned()  # what was asked for and not trained, or waits for a seed that is tried again
        if training.spent:
            self.display.note(f"{stage.name}: {training.spent}")
        return training.trained, training.groups

    def _tell_of_repeats(self, stage: Stage) -> None:
        """Say of settings that are the same training what was not said yet."""
        for line in self.repeats(stage):
            if line not in self._noted:
                self._noted.add(line)
                self.display.note(line)

    def _work(
        self, stage: Stage, cells: Sequence[Cell], todo: Sequence[Cell], saved: Sequence[Saved], remaining: int
    ) -> Work:
        """What the display wants to know of it."""
        seconds = epoch_seconds(self.ops, self.data, self.groups(todo)) if self.display.tells_time else {}
        before = {g.cells[place].key: g.progress.epoch for g in saved for place in g.progress.active}
        done = self.outcomes(stage)
        ended = [(cell, done[cell.key]) for cell in cells if cell.key in done]
        known = [(cell, o.best_val_accuracy, o.best_val_loss) for cell, o in ended if o.status in ("finished", "cut")]
        active = [(g.cells[place], g.progress.results[place]) for g in saved for place in g.progress.active]
        known += [(cell, r.best_accuracy, r.history[r.best_epoch - 1]["val_loss"]) for cell, r in active]
        best = [(cell, accuracy, loss) for cell, accuracy, loss in known if accuracy is not None and loss is not None]
        longest = stage.longest_training if remaining else 0
        return Work(
            *(todo, remaining * stage.seeds, longest, self.data.training_images),
            *(seconds, before, best, self._draws),
        )

    def _tell_of_lost(self, stage: Stage, tracker: Tracker) -> None:
        """Say that trials are trained again whose runs this store has never seen."""
        every, here = self.journal.outcomes(stage.name), self.outcomes(stage)
        lost = [o for key, o in every.items() if key not in here and not tracker.lookup.deleted(o.run_id)]
        if lost:
            self.display.note(
                f"{stage.name}: {len(lost)} trials that were done are not in {tracker.store.name}: trained again; "
                f"{self.hints.quoted(self.hints.doctor('--fix'))} would bring them back instead"
            )

    def _require_known(self, stage: Stage, runs: Mapping[str, RunInfo]) -> None:
        """A trial's run is closed after the journal has its record, so one that the journal lacks was lost there."""
        done = self.outcomes(stage)
        trials = [run for run in runs.values() if (run.tags["kind"], run.tags["stage"]) == ("trial", stage.name)]
        unknown = [run for run in trials if run.status == "FINISHED" and run.tags["key"] not in done]
        if unknown:
            raise InputError(
                f"{self.folder.journal} has lost the records of {len(unknown)} trials that are done: "
                f"{self.hints.quoted(self.hints.doctor('--fix'))} takes them from their files"
            )

    def _told_to_stop(self, signal: str) -> None:
        self.display.note(f"{signal}: stopping after this epoch; once more stops at once")


def _ending(error: BaseException) -> tuple[str, str]:
    """Status and reason of runs that an exception broke off."""
    if isinstance(error, Interrupted):
        return "KILLED", f"stopped by {error}"
    return "FAILED", without_passwords(f"{type(error).__name__}: {reason(error)}")
