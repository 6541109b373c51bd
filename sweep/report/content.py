"""What the page tells, gathered from the records; no markup."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.data import registry as datasets
from core.errors import InputError
from core.evaluate.metrics import class_warnings
from core.tracking.entities import RunInfo
from core.tracking.tracker import Tracker
from sweep.records.runs import find_runs
from sweep.report import course_report
from sweep.report.gather_stage import gather_stage
from sweep.report.stage_part import StagePart
from sweep.stages.sweep import Sweep


@dataclass(frozen=True)
class Report:
    """A whole experiment on one data set.

    best         the stage whose winner is the best of all; None while nothing is ranked
    warnings     sentences on what the best one's accuracy does not tell
    to_test      how to test the best one, or that there are no images for it
    comparisons  tables that set results beside published ones
    commands     that repeat it all
    environment  what it was computed with
    """

    title: str
    question: str
    data: str
    sha256: str
    stages: Sequence[StagePart]
    best: StagePart | None
    warnings: Sequence[str]
    to_test: str
    comparisons: Sequence[course_report.PublishedTable]
    commands: Sequence[str]
    environment: Mapping[str, str]
    file: str


def gather(sweep: Sweep, tracker: Tracker) -> Report:
    """Read everything. Raises InputError if the experiment has no runs on this data."""
    runs: dict[str, RunInfo] = {}
    stages: list[StagePart] = []
    if owner := sweep.folder.owner:
        with sweep.hints.on_deletion():
            records = find_runs(tracker, sweep.experiment, sweep.data, owner)
        runs, trials = records.find(), records.current_ids()
        stages = [gather_stage(sweep, stage, runs, trials, records) for stage in sweep.experiment.stages.values()]
    if not any(stage.trials for stage in stages):
        settings = "with these settings " if runs else ""
        what = f"nothing of {sweep.experiment.name} was trained {settings}on {sweep.data.name}"
        raise InputError(f"{what}: first run {sweep.hints.quoted(sweep.hints.run())}")
    ranked = [part for part in stages if part.accuracy]
    best = max(reversed(ranked), key=lambda part: part.accuracy.value if part.accuracy else 0.0, default=None)
    told = runs[best.winner_run].tags if best else next(reversed(runs.values())).tags
    names = ("code", "backend", "precision", "device", "system", "python", "packages")
    data = sweep.data
    return Report(
        title=sweep.experiment.name,
        question=_question(sweep.experiment.text),
        data=f"{data.name} ({data.training_images} training and {data.validation_images} validation images)",
        sha256=data.sha256,
        stages=stages,
        best=best,
        warnings=_warnings(sweep, best),
        to_test=_to_test(sweep, best),
        comparisons=course_report.comparisons(stages) if data.name == "cifar10" else (),
        commands=_commands(sweep, stages, best),
        environment={name: told[name] for name in names if name in told},
        file=sweep.experiment.text,
    )


def _warnings(sweep: Sweep, best: StagePart | None) -> list[str]:
    accuracies = (best.accuracy, best.test) if best else ()
    worthless = [accuracy.warning for accuracy in accuracies if accuracy]
    return [*filter(None, worthless), *class_warnings(sweep.data, sweep.experiment.seed)]


def _to_test(sweep: Sweep, best: StagePart | None) -> str:
    if sweep.data.x_test is None:
        return "The data has no test images."
    return f"Not tested yet: {sweep.hints.quoted(sweep.hints.evaluate(best.winner_run))}" if best else ""


def _question(text: str) -> str:
    """The first line of the file's comment."""
    first = text.partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""


def _commands(sweep: Sweep, stages: Sequence[StagePart], best: StagePart | None) -> list[str]:
    experiment, data = sweep.experiment, sweep.data
    source = shlex.quote(data.source) if datasets.is_file(data.source) else data.name
    overrides = {"seed": experiment.seed, **experiment.overrides}
    given = [f"--{name} {value}" for name, value in overrides.items()]
    given += [f"--points {name}" for name in dict.fromkeys(name for stage in stages for name in stage.points)]
    lines = [f"python -m sweep run {shlex.quote(experiment.called)} --data {source} {' '.join(given)}"]
    if best and data.x_test is not None:
        lines.append(f"python -m core.evaluate --run-id {best.winner_run}")
    if best:
        lines.append(f"python -m core.figures --run-id {best.winner_run}")
    return lines
