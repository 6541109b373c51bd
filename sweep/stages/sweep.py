"""One experiment on one data set: what its stages share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from core.data.dataset import Dataset
from core.evaluate.metrics import LargestClass, largest_in_validation
from core.ops import Ops
from core.tracking.tracker import Tracker
from sweep.executors import registry
from sweep.executors.base import Executor, Workload
from sweep.experiment.checks import Value
from sweep.experiment.stage import Experiment, Stage
from sweep.records.folder import Folder
from sweep.records.journal import Journal
from sweep.records.provenance import Provenance
from sweep.records.records import Records, open_records
from sweep.records.runs import experiment_name
from sweep.search import plan
from sweep.search.cost import usable_memory
from sweep.search.group_planner import GroupPlanner
from sweep.stages.interrupt import Signals
from sweep.terminal.display import Display, once
from sweep.terminal.hints import Hints


@dataclass(frozen=True, eq=False)
class Sweep:
    """An experiment on its data: with what it is computed, and where its records are. `Sweep.of` makes one.

    hints           the commands that are suggested
    signals         that stop it after an epoch
    processes       that train at the same time, a group each
    memory          bytes that a group may take
    pictures        whether runs get some
    new_data        whether to begin anew where the experiment was begun on other data from the same place
    new_experiment  whether to begin anew where it was deleted in MLflow
    model           that winners are versions of: see sweep.records.records.open_records
    """

    experiment: Experiment
    data: Dataset
    ops: Ops
    display: Display
    hints: Hints
    signals: Signals
    processes: int
    memory: int
    pictures: bool = True
    new_data: bool = False
    new_experiment: bool = False
    model: str | None = ""

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        data: Dataset,
        ops: Ops,
        display: Display,
        *,
        hints: Hints | None = None,
        signals: Signals | None = None,
        processes: int | None = None,
        pictures: bool = True,
        new_data: bool = False,
        new_experiment: bool = False,
        model: str | None = "",
    ) -> Sweep:
        """What is not given is usual: hints without options, signals of its own, a process for each device of ops."""
        processes = processes or ops.device_count
        # Before any training: it is free again after each. Devices have their own, processes on a CPU share.
        memory = usable_memory(ops, data) // (processes if ops.processes_share_device else 1)
        hints, signals = hints or Hints(experiment.called), signals or Signals()
        given = (pictures, new_data, new_experiment, model)
        return cls(experiment, data, ops, display, hints, signals, processes, memory, *given)

    @cached_property
    def name(self) -> str:
        """Of its folder, and of its experiment in MLflow: there with a number where another has that name."""
        return experiment_name(self.experiment, self.data)

    @cached_property
    def folder(self) -> Folder:
        """Where its records are."""
        return Folder(self.name)

    @cached_property
    def journal(self) -> Journal:
        """What its cells came to, and what was proposed."""
        return Journal(self.folder.journal)

    @cached_property
    def largest(self) -> LargestClass:
        """The largest class of the validation images, whose share any accuracy is held to."""
        return largest_in_validation(self.data, self.experiment.seed)

    @cached_property
    def note_once(self) -> Callable[[str], None]:
        """Shows a note that was not shown before."""
        return once(self.display.note)

    @cached_property
    def planner(self) -> GroupPlanner:
        """Cuts cells into groups."""
        given = (self.experiment.stages, self.processes, self.memory, self.note_once)
        return GroupPlanner(self.ops, self.data, *given)

    @cached_property
    def executor(self) -> Executor:
        """What trains this experiment's groups, from when it is first asked for until close."""
        split, seed = self.data.split(self.experiment.seed), self.experiment.seed
        workload = Workload(split, self.data.scale, seed, self.ops.name, self.ops.precision)
        return registry.start(self.ops, workload, self.processes)

    def close(self) -> None:
        """End the executor. Another stage starts a new one."""
        executor: Executor | None = self.__dict__.pop("executor", None)
        if executor:
            executor.close()

    def settings(self, stage: Stage) -> list[dict[str, Value]]:
        """See plan.settings; a thousand draws take a while, so that they are drawn once."""
        if stage.name not in self._drawn:
            self._drawn[stage.name] = plan.settings(self.experiment, stage)
        return self._drawn[stage.name]

    @cached_property
    def _drawn(self) -> dict[str, list[dict[str, Value]]]:
        return {}

    def records(self, tracker: Tracker) -> Records:
        """The MLflow side, claimed for this folder."""
        owner = self.folder.claim(self.experiment.name, self.data, self.new_data)
        provenance = Provenance.here(self.experiment, self.data, self.ops, owner)
        with self.hints.on_deletion():
            records = open_records(tracker, provenance, self.ops, self.pictures, self.new_experiment, self.model)
        if records.runs.name != self.name:
            self.note_once(
                f"MLflow's {self.name} is another project's, or was deleted: this project's is {records.runs.name}"
            )
        return records
