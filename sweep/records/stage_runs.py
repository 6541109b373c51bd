"""A stage's run in MLflow: begun, and ended with the ranking of its trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from core.evaluate.metrics import class_warnings
from core.tracking import tags
from core.tracking.tracker import Tracker
from sweep.experiment.stage import Stage
from sweep.records import stage_text, trial_runs, views
from sweep.records.provenance import Provenance
from sweep.records.run_pictures import RunPictures
from sweep.records.runs import ExperimentRuns
from sweep.records.winners import Winners, unless_refused
from sweep.results import advice, ranking, tables
from sweep.search.cell import Cell


class StageRuns:
    """Writes what a stage tells of its trials.

    The order is a guarantee: a stage's run gets its status last, after its table, the tags of its trials, its pictures
    and the registered model. Whatever breaks off before leaves a run that is RUNNING, and the next run of the stage
    writes all of it again.
    """

    def __init__(
        self,
        tracker: Tracker,
        runs: ExperimentRuns,
        provenance: Provenance,
        winners: Winners,
        pictures: RunPictures | None,
    ) -> None:
        """pictures: None if runs get none."""
        self._tracker, self._runs, self._provenance = tracker, runs, provenance
        self._winners, self._pictures = winners, pictures

    def begin(
        self, stage: Stage, inherited: Mapping[str, Any], cells: Sequence[Cell], reopen: bool
    ) -> tuple[str, bool]:
        """The stage's run, existing (running again if reopen) or new, and whether it tells of these cells.

        A stage has one run for each set of fixed values, so that a grid that grew stays one table.
        """
        run = self._runs.stage(stage, inherited)
        if run and not reopen:
            # The reason is set only on runs that were broken off.
            ended = run.status in ("FINISHED", "FAILED") and tags.REASON not in run.tags
            if not ended or run.tags.get(tags.PLAN) != stage_text.plan_hash(cells):
                return run.run_id, False
            seen = views.titles(self._tracker.lookup.experiment_tags(self._runs.experiment_id))
            return run.run_id, views.key(stage.name, run.run_id) in seen  # an earlier version wrote none
        if run:
            run_id = run.run_id
            trial_runs.reopen(self._tracker, run_id, stage_text.title(stage))
        else:
            told = self._provenance.tags(tags.STAGE, stage.name)
            told |= {tags.FINGERPRINT: self._runs.fingerprint(stage, inherited)}
            fixed = stage.settings | dict(inherited)
            run_id = self._tracker.start(self._runs.experiment_id, stage_text.title(stage), params=fixed, tags=told)
        self._tracker.set_tags(run_id, stage_text.search_tags(stage))  # since the file may change and params cannot
        experiment = self._provenance.experiment
        self._tracker.artifacts.log_text(run_id, experiment.text, experiment.path.name)
        return run_id, False

    def end(self, run_id: str, stage: Stage, cells: Sequence[Cell], rows: Sequence[ranking.Row]) -> None:
        """The ranked table, the stage's status, and its winner, which alone of its trials is tagged winner=true."""
        self._tracker.artifacts.log_text(run_id, tables.to_csv(rows), "summary.csv")
        self._tracker.artifacts.log_text(run_id, tables.to_markdown(rows), "summary.md")
        best = ranking.winner(rows)
        self._update_trials(run_id, stage, rows, best)
        told = self._tags(stage, cells, rows)
        metrics: dict[str, float] = {}
        if best and best.accuracy is not None:
            metrics |= {tags.BEST_VAL_ACCURACY: best.accuracy, tags.VAL_LARGEST_CLASS: self._provenance.largest.share}
            told |= {tags.WINNER_RUN: best.outcome.run_id, tags.WINNER_NAME: best.cell.name}
            if self._pictures:
                self._pictures.stage_and_winner(run_id, best.outcome.run_id)
            self._winners.register(stage, rows)
        if lead := ranking.lead(rows):
            metrics |= {tags.LEAD: lead.difference, tags.LEAD_LOW: lead.low, tags.LEAD_HIGH: lead.high}
        own = self._runs.find(kind=tags.STAGE, stage=stage.name)[run_id].tags
        former = {tags.WINNER_RUN, tags.WINNER_NAME, tags.REASON}
        self._tracker.remove_tags(run_id, former & own.keys() - told.keys())
        self._tracker.log_metrics(run_id, metrics)
        self._tracker.set_tags(run_id, told)
        self._show(stage, run_id, rows)
        self._tracker.update(run_id, name=stage_text.title(stage, best))
        self._tracker.finish(run_id, "FINISHED" if best else "FAILED")

    def _tags(self, stage: Stage, cells: Sequence[Cell], rows: Sequence[ranking.Row]) -> dict[str, str]:
        """What came out: tags, since of every metric the page makes a chart, and those are for curves."""
        data, seed = self._provenance.data, self._provenance.experiment.seed
        said = class_warnings(data, seed), advice.edges(stage, rows, data)
        ended = Counter(outcome.status for row in rows for outcome in row.outcomes)
        told = {tags.DESCRIPTION: stage_text.description(stage, rows, self._provenance.largest, *said)}
        told[tags.PLAN] = stage_text.plan_hash(cells)
        return told | {
            f"{tags.ENDED}{status}": str(ended[status]) for status in ("finished", "cut", "pruned", "failed")
        }

    def _update_trials(self, parent: str, stage: Stage, rows: Sequence[ranking.Row], best: ranking.Row | None) -> None:
        """Bring the names, the parent, the rank and the tags of the stage's trials up to date."""
        cells = {o.run_id: c for row in rows for c, o in zip(row.cells, row.outcomes, strict=True)}
        ranks = {o.run_id: float(rank) for rank, row in enumerate(rows, start=1) for o in row.outcomes}
        for trial in self._runs.find(kind=tags.TRIAL, stage=stage.name).values():
            if trial.run_id not in cells and trial.tags.get(tags.PARENT) != parent:
                continue
            winner = best is not None and trial.run_id == best.outcome.run_id
            cell, rank = cells.get(trial.run_id), ranks.get(trial.run_id)
            told = {tags.WINNER: str(winner).lower(), tags.RANKED: str(cell is not None).lower(), tags.PARENT: parent}
            if cell:
                told[tags.SOURCE] = "point" if cell.point in stage.every_point else stage.sampler
            changed = {key: value for key, value in told.items() if trial.tags.get(key) != value}
            moved = {} if rank is None or trial.metrics.get(tags.RANK) == rank else {tags.RANK: rank}
            if changed or moved:
                self._tracker.set_tags(trial.run_id, changed, moved, trial.logged)
            if cell and trial.name != cell.name:
                self._tracker.update(trial.run_id, name=cell.name)

    def _show(self, stage: Stage, run_id: str, rows: Sequence[ranking.Row]) -> None:
        """The views of MLflow's page: of the stages, and of this one's trials."""
        searched = tables.searched([row.cell for row in rows])
        kept = views.of_stages() | views.of_trials(stage.name, run_id, searched)
        with unless_refused(f"MLflow's page has no views of {stage.name}"):
            self._tracker.tag_experiment(self._runs.experiment_id, kept)
