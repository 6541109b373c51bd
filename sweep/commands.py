"""What the commands of python -m sweep do, but for those on reports. Each imports what it needs."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from core.errors import InputError, printable

if TYPE_CHECKING:
    from core.metrics import LargestClass
    from core.ops import Ops
    from sweep.experiment import Experiment
    from sweep.interrupt import Signals
    from sweep.ranking import Row
    from sweep.run import StageResult, Sweep


PATIENCE = 120.0  # seconds that a sweep waits for a store that does not answer


def open_sweep(options: argparse.Namespace, quiet: bool) -> tuple[Sweep, list[str]]:
    """The sweep that the options ask for, and the names of its stages to handle."""
    from core import data, ops, threads
    from sweep import display, experiment, hints
    from sweep.run import Sweep

    threads.use(options.threads)
    overrides = {
        name: _whole(name, value) for name in ("seed", "epochs") if (value := getattr(options, name)) is not None
    }
    chosen: Experiment = experiment.load(options.experiment, overrides)
    stages = list(chosen.stages)
    if options.stage is not None:
        if options.stage not in stages:
            raise InputError(f'{chosen.path} has no stage "{options.stage}"; there are: {", ".join(stages)}')
        stages = [options.stage]
    for point in options.points:
        if not any(point in chosen.stages[name].points for name in stages):
            raise InputError(f'{chosen.path}: no points called "{point}" in {", ".join(stages)}')
    backend = ops.load(options.backend or chosen.backend or "auto", options.precision or chosen.precision or "float32")
    # $CIFAR10_DIR, which beats the file, is looked up by data.load.
    data_dir = options.data_dir or (None if os.environ.get("CIFAR10_DIR") else chosen.data_dir)
    found = data.load(options.data or chosen.data, data_dir)
    screen = display.choose(quiet)
    screen.note(data.describe(found))
    draws = getattr(options, "figures", None) or "all"
    if draws not in ("all", "none"):
        raise InputError(f'figures is "{draws}": it must be all or none')
    processes = _processes(options.processes, backend)
    anew = {name: getattr(options, name, False) for name in ("new_data", "new_experiment")}
    model = _model(getattr(options, "register", None))
    sweep = Sweep(chosen, found, backend, screen, processes, draws == "all", **anew, model=model)
    sweep.hints = hints.of(options, chosen)
    return sweep, stages


def _model(name: str | None) -> str:
    """The name to register winners under: see Records."""
    if name is not None and (not name.strip() or re.search("[/:\"']", name)):
        raise InputError(f"register is {name!r}: it must be a model's name, without / : and quotes, or none")
    return name or ""


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name} is {text!r}: it must be a whole number") from None


def _processes(asked_for: str | None, backend: Ops) -> int | None:
    from core import threads

    if asked_for is None:
        return None
    number, most = _whole("processes", asked_for), backend.devices if backend.name == "gpu" else threads.count()
    if not 1 <= number <= most:
        kind = "GPUs" if backend.name == "gpu" else "threads"
        raise InputError(f"processes is {number}: it must be a whole number from 1 to {most}, the {kind} there are")
    return number


def run(options: argparse.Namespace) -> int:
    """Train what is not trained yet, and rank."""
    from sweep.interrupt import Interrupted, Signals

    signals = Signals()
    try:
        with signals.active():
            return _run(options, signals)
    except Interrupted as interrupted:
        if not options.quiet:
            print(f"stopped by {interrupted}; what was trained is kept: the same command goes on", file=sys.stderr)
        return interrupted.exit_status


def _run(options: argparse.Namespace, signals: Signals) -> int:
    from core.tracking import Tracker
    from sweep import ranking

    sweep, stages = open_sweep(options, options.quiet)
    sweep.signals = signals
    _warn_of_classes(sweep)
    tracker = Tracker(options.tracking_uri, PATIENCE)
    results: list[StageResult] = []
    try:
        for name in stages:
            stage = sweep.experiment.stages[name]
            points = [point for point in options.points if point in stage.points]
            results.append(sweep.run_stage(stage, tracker, points))
            if not options.json:
                _show(sweep, results[-1], stages, options.quiet)
            if not ranking.winner(results[-1].rows):
                break  # nothing to build on
    finally:
        sweep.close()
    if options.json:
        print(
            json.dumps({"experiment": sweep.name, "stages": [_as_json(sweep, result) for result in results]}, indent=2)
        )
    rows = [result.rows for result in results]
    if not all(ranking.winner(ranked) for ranked in rows):
        return 1
    return 3 if any(row.status == "failed" for ranked in rows for row in ranked) else 0


def _warn_of_classes(sweep: Sweep) -> None:
    """Name the classes that training or validation has no image of."""
    from core.metrics import class_warnings

    for warning in class_warnings(sweep.data, sweep.experiment.seed):
        sweep.display.warn(warning)


def _as_json(sweep: Sweep, result: StageResult) -> dict[str, Any]:
    from core.metrics import class_warnings
    from sweep import ranking

    rows = ranking.table(result.rows)
    best = ranking.winner(result.rows)
    warning = sweep.largest.warning(best.accuracy) if best and best.accuracy is not None else ""
    return {
        "stage": result.stage,
        "run_id": result.run_id,
        "trained": result.trained,
        "largest_class": sweep.largest.as_json(),
        "warnings": [*([warning] if warning else []), *class_warnings(sweep.data, sweep.experiment.seed)],
        "winner": rows[0] if best else None,
        "trials": rows,
    }


def _show(sweep: Sweep, result: StageResult, stages: Sequence[str], quiet: bool) -> None:
    """Say what came out of a stage and what can be done next.

    stages  those that this command runs
    """
    from sweep import advice, display, ranking

    total = len(result.rows)
    replicated = any(len(row.cells) > 1 for row in result.rows)
    kind = f"settings ({sum(len(row.cells) for row in result.rows)} trials)" if replicated else "trials"
    if result.trained == 0:
        sweep.display.note(f"{result.stage}: nothing to train, all {total} {kind} were done before")
    if not quiet:
        rows = ranking.short(result.rows) if sys.stdout.isatty() else ranking.table(result.rows)
        searched = ranking.searched([row.cell for row in result.rows])
        spare = ("loss", "epoch", "status", "run", *reversed(searched))
        display.print_table(f"{result.stage}: {total} {kind}, best first", rows, spare)
    best = ranking.winner(result.rows)
    lines: list[tuple[str, str]] = []
    if best is None:
        sweep.display.warn(f"{result.stage}: none of its {total} trials finished; their runs in MLflow say why")
    else:
        stage = sweep.experiment.stages[result.stage]
        if best.accuracy is not None and (warning := sweep.largest.warning(best.accuracy)):
            sweep.display.warn(f"{result.stage}: {warning}")
        lines += [("winner", f"{best.cell.name}, validation accuracy {_accuracy(best, sweep.largest)}")]
        lines += [("sure?", advice.certainty(stage, result.rows, sweep.data.validation_images))]
        lines += [("fused", saved)] if (saved := _saved(sweep, result)) else []
        lines += [("why", mattered)] if (mattered := advice.mattered(result.rows)) else []
        lines += [("edge", edge) for edge in advice.edges(stage, result.rows, sweep.data)]
    lines += [("store", sweep.hints.without_store)] if sweep.hints.without_store else []
    sweep.display.tell(lines, _next(sweep, result, stages))


def _next(sweep: Sweep, result: StageResult, stages: Sequence[str]) -> list[tuple[str, str]]:
    """Commands and links, each with what it is for."""
    from sweep import ranking, views

    best, told = ranking.winner(result.rows), sweep.hints
    lines: list[tuple[str, str]] = []
    if best:
        if sweep.data.x_test is not None:
            lines.append(("test it", told.evaluate(best.outcome.run_id)))
        lines.append(("see it", told.figures(best.outcome.run_id)))
        lines.append(("see all", told.figures(result.run_id)))
    lines.append(("read it", told.report()))
    if not told.server:
        lines.append(("browse", told.ui()))
    view = views.key(result.stage, result.run_id)
    for name, charts in (("trials", False), ("curves", True)):
        lines.append((name, views.link(told.page, result.experiment_id, view, charts)))
    if best:
        following = (name for name, stage in sweep.experiment.stages.items() if stage.after == result.stage)
        lines += [("go on", told.run(name)) for name in following if name not in stages]
    return lines


def _saved(sweep: Sweep, result: StageResult) -> str:
    """What training the trials together has saved; "" where nothing was trained together, or that is not sure."""
    from sweep import display
    from sweep.grouping import ROUNDS, fusion

    keys = {cell.key for row in result.rows for cell in row.cells}
    if {cell.key for group in result.groups for cell in group} != keys:
        return ""  # an earlier call trained some, in groups that are not known; or some started again
    measured = fusion(sweep.ops, sweep.data, result.groups)
    if not measured or measured[0] <= 1 <= measured[2]:
        return ""
    low, times, high = measured
    seconds = sum(outcome.seconds for row in result.rows for outcome in row.outcomes)
    together, alone = display.duration(seconds), display.duration(seconds * times)
    spread = f"{times:.2f} times as long; {low:.2f} to {high:.2f} in half of {ROUNDS} measurements"
    return f"{together} of training together; one trial at a time about {alone} ({spread})"


def _accuracy(row: Row, largest: LargestClass) -> str:
    seeds = "" if row.spread is None else f"mean of {len(row.cells)} seeds, standard deviation {row.spread:.4f}; "
    return f"{row.accuracy:.4f} ({seeds}{largest})"


def plan(options: argparse.Namespace) -> int:
    """Print trials, groups, memory and estimated time."""
    from dataclasses import asdict

    from sweep import display, estimate, ranking

    sweep, stages = open_sweep(options, options.json)
    _warn_of_classes(sweep)
    result = []
    for name in stages:
        stage = sweep.experiment.stages[name]
        try:
            cells = sweep.cells(stage, [point for point in options.points if point in stage.points])
        except InputError as error:
            if name == stages[0]:
                raise
            sweep.display.note(str(error))
            continue
        done = sweep.outcomes(stage)
        todo, remaining = sweep.open(stage, cells)
        waves = estimate.costs(sweep.ops, sweep.data, sweep.waves(stage, todo, remaining))
        costs = [cost for wave in waves for cost in wave]
        seconds = estimate.stage_seconds(waves, sweep.ops, sweep.processes)
        keys = ranking.searched(cells)
        rows = [
            {"trial": cell.label, **{key: cell.searched.get(key) for key in keys}, "done": cell.key in done}
            for cell in cells
        ]
        groups = [asdict(cost) for cost in costs]
        said = sweep.repeats(stage)
        result.append(
            {"stage": name, "cells": rows, "proposals": remaining, "groups": groups, "seconds": seconds, "said": said}
        )
        if not options.json:
            for line in said:
                sweep.display.note(line)
            if rows:
                display.print_table(f"{name}: {len(cells)} trials, {len(todo)} to train", rows)
            if remaining:
                sweep.display.note(
                    f"{name}: {stage.sampler} will propose {remaining} settings, {stage.at_once} at once"
                )
            if costs:
                display.print_table(f"{name}: groups that train together", display.readable(costs))
                where = f" in {sweep.processes} processes" if sweep.processes > 1 else ""
                sweep.display.note(
                    f"{name}: about {display.duration(seconds)} at most{where}; trials that stop early save time"
                )
    if options.json:
        print(json.dumps({"experiment": sweep.name, "stages": result}, indent=2))
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Compare all that is recorded of an experiment, and mend it if asked to."""
    from contextlib import nullcontext

    from sweep.doctor import findings

    sweep, _ = open_sweep(options, quiet=True)
    fix, found = options.fix, 0
    with sweep.folder.held() if fix and sweep.folder.path.exists() else nullcontext():
        try:
            for found, finding in enumerate(findings(sweep, options.tracking_uri, fix), start=1):
                print(f"{found:3}  {printable(finding.what)}")
                print(f"     {'' if fix else '--fix: '}{printable(finding.mended)}", flush=True)
        except InputError as error:
            if not found or fix:
                raise
            print(f"     what else there may be is seen once that is mended: {printable(error)}")
    if not found:
        print(f"{sweep.name}: nothing is wrong")
        return 0
    command = sweep.hints.run() if fix else sweep.hints.doctor("--fix")
    print(f"{sweep.name}: {found} found{', and mended' if fix else ''}; next: {command}")
    if without := sweep.hints.without_store:
        print(without)
    return 0 if fix else 1


def ui(options: argparse.Namespace) -> int:
    """Become MLflow's page."""
    from sweep.ui import serve

    return serve(options.port, options.tracking_uri)
