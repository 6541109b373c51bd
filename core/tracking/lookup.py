"""Reading what a store has: experiments, runs and their metrics. Nothing is changed or made by that."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mlflow.entities import Experiment, Run, ViewType
from mlflow.exceptions import MlflowException

from core.errors import InputError, printable
from core.project import root
from core.shell_commands import browse
from core.tracking import experiments, tags
from core.tracking.entities import ExperimentInfo, RunInfo
from core.tracking.errors import clear_errors
from core.tracking.retry import patient
from core.tracking.store import Store

_ID = re.compile("[0-9a-f]{32}")


class Lookup:
    """What is in a store, as plain data."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._names: dict[str, str] = {}  # of experiments, by id

    @patient
    def runs(self, experiment_id: str, **wanted: str) -> list[RunInfo]:
        """All runs of the experiment with these tags, oldest first."""
        clauses = (f"tags.`{key}` = {_quoted(value)}" for key, value in wanted.items())
        return list(self._search([experiment_id], " and ".join(clauses)))

    def siblings(self, run: RunInfo, **wanted: str) -> list[RunInfo]:
        """All runs of the run's experiment with these tags, oldest first."""
        return self.runs(run.experiment_id, **wanted)

    @patient
    def find(self, prefix: str) -> RunInfo:
        """The one run, in any experiment, whose id begins with prefix. Raises InputError unless there is just one."""
        if not re.fullmatch(r"[0-9a-f]{1,32}", prefix):
            raise InputError(f'run id is "{prefix}": it must be up to 32 hexadecimal digits, as MLflow shows them')
        every = [experiment.experiment_id for experiment in self._experiments(view_type=ViewType.ALL)]
        found = list(self._search(every, f"attributes.run_id LIKE '{prefix}%'"))
        if not found:
            where = f"{self.store.name}: {browse(self.store.uri)} lists the runs"
            raise InputError(f'no run id begins with "{prefix}" in {where}')
        if len(found) > 1:
            some = ", ".join(f"{run.run_id[: len(prefix) + 4]} ({run.name})" for run in found[:4])
            raise InputError(f'{len(found)} run ids begin with "{prefix}": {some}{", ..." if len(found) > 4 else ""}')
        return found[0]

    @patient
    def deleted(self, run_id: str) -> bool:
        """Whether there was a run of this id, which was deleted."""
        if not self.store.exists:
            return False
        with clear_errors(f"run {run_id}"):
            try:
                return str(self.store.client.get_run(run_id).info.lifecycle_stage) == "deleted"
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return False

    @patient
    def metrics(self, run_id: str, names: Iterable[str]) -> dict[tuple[str, int], list[float]]:
        """What the run has of these metrics, by name and step; more than one value where a step was told twice."""
        found: dict[tuple[str, int], list[float]] = {}
        with clear_errors(f"run {run_id}"):
            for name in names:
                for metric in self.store.client.get_metric_history(run_id, name):
                    found.setdefault((metric.key, metric.step), []).append(metric.value)
        return found

    def experiments(self) -> list[ExperimentInfo]:
        """All experiments that were not deleted, the one last changed first."""
        return [_info(found) for found in self._experiments(order_by=["last_update_time DESC"])]

    def experiment_name(self, experiment_id: str) -> str:
        """What MLflow calls the experiment."""
        if experiment_id not in self._names:
            self._names[experiment_id] = self._experiment(experiment_id).name
        return self._names[experiment_id]

    def experiment_tags(self, experiment_id: str) -> dict[str, str]:
        """The experiment's tags, as they are now."""
        return self._experiment(experiment_id).tags

    @patient
    def _experiment(self, experiment_id: str) -> ExperimentInfo:
        with clear_errors(f"experiment {experiment_id}"):
            return _info(self.store.client.get_experiment(experiment_id))

    @patient
    def experiment_id(self, name: str, owner: str = "") -> str | None:
        """The id of this project's experiment called name (see own_experiment); None if it has none.

        Raises InputError if it was deleted.
        """
        with clear_errors(f"experiment {name}"):
            found = self.own_experiment(name, self.experiments_called(name), owner)
        return found.experiment_id if found else None

    def experiments_called(self, name: str) -> list[ExperimentInfo]:
        """Those called name, or name with a number, oldest first, also deleted ones and other projects'."""
        like = f"name LIKE '{experiments.name_pattern(name)}'"
        found = self._experiments(view_type=ViewType.ALL, filter_string=like, order_by=["creation_time"])
        return experiments.with_name(name, [_info(experiment) for experiment in found])

    def own_experiment(
        self, name: str, known: Iterable[ExperimentInfo], owner: str, anew: bool = False
    ) -> ExperimentInfo | None:
        """That of this project among those called name; None if there is none.

        owner  tells the runs of this project from those of others
        anew   whether deleted ones do not count

        Raises InputError if it was deleted, unless anew.
        """
        here, by_place = root() / "mlruns" / name, defaultdict[str, list[ExperimentInfo]](list)
        for found in known:
            by_place[experiments.artifact_location(found, here)].append(found)
        ours = by_place["here"] or [found for found in by_place["elsewhere"] if self._goes_on(found, here, owner)]
        common = by_place["common"]
        used = [found for found in common if self._oldest(found, owner)]
        return experiments.select([*used, *ours], common, anew, self.store.uri)

    def _goes_on(self, found: ExperimentInfo, here: Path, owner: str) -> bool:
        """Whether the owner's runs in an experiment that keeps artifacts elsewhere are this project's."""
        return any(experiments.continues_in(found, here, run.info.run_id) for run in self._oldest(found, owner))

    def _oldest(self, found: ExperimentInfo, owner: str) -> list[Run]:
        """The owner's first run in an experiment, also a deleted one; none if there is none."""
        ask: dict[str, Any] = {"run_view_type": ViewType.ALL, "max_results": 1, "order_by": ["attributes.start_time"]}
        wanted = f"tags.{tags.OWNER} = {_quoted(owner)}"
        return list(self.store.client.search_runs([found.experiment_id], wanted, **ask))

    def _experiments(self, **asked: Any) -> Iterator[Experiment]:
        if self.store.exists:
            with clear_errors(self.store.name):
                yield from self.store.pages(self.store.client.search_experiments, **asked)

    def _search(self, experiment_ids: list[str], wanted: str) -> Iterator[RunInfo]:
        if self.store.exists:
            asked = {"experiment_ids": experiment_ids, "filter_string": wanted}
            with clear_errors(self.store.name):
                yield from map(
                    self.plain,
                    self.store.pages(self.store.client.search_runs, **asked, order_by=["attributes.start_time ASC"]),
                )

    def plain(self, run: Run) -> RunInfo:
        """The run as plain data. Raises InputError if its id is none."""
        info, data = run.info, run.data
        if not _ID.fullmatch(info.run_id):  # it names folders
            raise InputError(
                f"{self.store.name} has a run whose id is {info.run_id!r}: it must be 32 hexadecimal digits"
            )
        return RunInfo(
            *(info.run_id, printable(info.run_name), info.status, self.experiment_name(info.experiment_id)),
            *(dict(data.tags), dict(data.params), dict(data.metrics), logged_at(run)),
            *(info.artifact_uri, info.experiment_id),
        )


def logged_at(run: Run) -> dict[str, int]:
    """When a run got each of its metrics last: milliseconds since 1970."""
    return {metric.key: metric.timestamp for metric in run.data.to_proto().metrics}


def _info(found: Experiment) -> ExperimentInfo:
    deleted = found.lifecycle_stage == "deleted"
    return ExperimentInfo(found.experiment_id, found.name, dict(found.tags), found.artifact_location, deleted)


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"
