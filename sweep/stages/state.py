"""What of a stage is done, and what is open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from core.errors import InputError
from sweep.experiment.checks import Value
from sweep.experiment.stage import Stage
from sweep.records.study import Study
from sweep.results import ranking
from sweep.search import duplicates, grouping, plan
from sweep.search.cell import Cell
from sweep.search.outcome import Outcome, diverged
from sweep.search.samplers import draw
from sweep.stages.sweep import Sweep


class UnfinishedError(InputError):
    """A stage cannot begin, as the one that it builds on has not ended."""


@dataclass(frozen=True, eq=False)
class StageState:
    """A stage as its records are at one moment; whoever adds to them takes another.

    points      the named points that were asked for
    inherited   what the winner of the stage before hands on
    cells       the plan: the stage's grid or draws, what an adaptive sampler has tried, the points asked for, and those
                trained before
    outcomes    how the stage's cells that were trained have ended, by key: also cells of other plans
    todo        the cells that are still to be trained; none, once the stage's budget is spent
    remaining   how many settings an adaptive sampler is still to propose
    identity    what the stage's Optuna study is for: another makes another study
    """

    stage: Stage
    points: Sequence[str]
    inherited: Mapping[str, Value]
    cells: Sequence[Cell]
    outcomes: Mapping[str, Outcome]
    todo: Sequence[Cell]
    remaining: int
    identity: str

    @classmethod
    def of(
        cls,
        sweep: Sweep,
        stage: Stage,
        points: Sequence[str] = (),
        runs: Mapping[str, str] | None = None,
        inherited: Mapping[str, Value] | None = None,
    ) -> StageState:
        """Read the stage's records.

        runs       the trials' runs in MLflow (see ExperimentRuns.current_ids): no other trial counts; None: all do
        inherited  where it is known

        Raises UnfinishedError while the stage that it builds on is unfinished, and InputError where the data does not
        allow a setting.
        """
        if inherited is None:
            inherited = inherit(sweep, stage, runs)
        outcomes = sweep.journal.outcomes(stage.name, runs)
        tried, proposed = _tried(sweep, stage, inherited)
        cells = _plan(sweep, stage, points, inherited, tried, outcomes)
        todo, remaining = _open(stage, cells, outcomes, proposed)
        return cls(
            stage, points, inherited, cells, outcomes, todo, remaining, _identity(sweep, stage, inherited, cells)
        )

    def again(self, sweep: Sweep, runs: Mapping[str, str] | None) -> StageState:
        """The same stage now, after training."""
        return StageState.of(sweep, self.stage, self.points, runs, self.inherited)

    @property
    def open(self) -> bool:
        """Whether there is anything to train."""
        return bool(self.todo or self.remaining)

    @property
    def rows(self) -> list[ranking.Row]:
        """The trials that have ended, best first."""
        return ranking.ranked(self.cells, self.outcomes)

    @property
    def ended(self) -> list[tuple[Cell, Outcome]]:
        """The cells of the plan that were trained, with how they ended."""
        return [(cell, self.outcomes[cell.key]) for cell in self.cells if cell.key in self.outcomes]

    def study(self, sweep: Sweep) -> Study:
        """Optuna's record of the stage, for this plan."""
        return Study(sweep.journal, self.stage, self.identity, sweep.experiment.seed)


def inherit(sweep: Sweep, stage: Stage, runs: Mapping[str, str] | None = None) -> dict[str, Value]:
    """What the winner of the stage before hands on; runs: see StageState.of.

    Raises UnfinishedError while that stage is unfinished.
    """
    if stage.after is None:
        return {}
    before = StageState.of(sweep, sweep.experiment.stages[stage.after], runs=runs)
    if before.open:
        done, total = len(before.cells) - len(before.todo), len(before.cells) + before.remaining * before.stage.seeds
        command = sweep.hints.quoted(sweep.hints.run(stage.after))
        raise UnfinishedError(
            f"stage {stage.name} builds on stage {stage.after}, of which {done} of {total} trials are done on this "
            f"data ({sweep.data.name}): first run {command}"
        )
    best = ranking.winner(before.rows)
    if best is None:
        raise UnfinishedError(f"stage {stage.name} builds on stage {stage.after}, of whose trials none finished")
    return {key: getattr(best.cell.settings, key) for key in stage.inherit}


def _tried(sweep: Sweep, stage: Stage, inherited: Mapping[str, Value]) -> tuple[list[dict[str, Value]], int]:
    """The settings that an adaptive stage has tried so far, and how many its sampler has proposed."""
    return sweep.journal.proposals(stage, _identity(sweep, stage, inherited)) if stage.adaptive else ([], 0)


def _plan(
    sweep: Sweep,
    stage: Stage,
    points: Sequence[str],
    inherited: Mapping[str, Value],
    tried: Sequence[dict[str, Value]],
    outcomes: Mapping[str, Outcome],
) -> list[Cell]:
    if stage.adaptive:  # better refused now than later
        _cells(sweep, replace(stage, seeds=1), inherited, list(stage.space.corners()), outcomes)
    known = [*sweep.settings(stage), *tried]
    every = _cells(sweep, stage, inherited, known + plan.named(stage, stage.points), outcomes)
    wanted = {cell.key for cell in _cells(sweep, stage, inherited, known + plan.named(stage, points), outcomes)}
    wanted |= outcomes.keys()
    return [
        cell
        for setting in grouping.by_setting(every)
        if any(cell.key in wanted for cell in setting)
        for cell in setting
    ]


def _cells(
    sweep: Sweep,
    stage: Stage,
    inherited: Mapping[str, Value],
    settings: Sequence[dict[str, Value]],
    outcomes: Mapping[str, Outcome],
) -> list[Cell]:
    try:
        return plan.cells(sweep.experiment, stage, inherited, sweep.data, settings, diverged(outcomes))
    except InputError as error:
        raise InputError(f"{sweep.experiment.path}: stages.{stage.name}: {error}") from None


def _open(
    stage: Stage, cells: Sequence[Cell], outcomes: Mapping[str, Outcome], proposed: int
) -> tuple[list[Cell], int]:
    """The cells that are still to be trained, and how many settings an adaptive sampler is still to propose."""
    ended = [outcomes[cell.key] for cell in cells if cell.key in outcomes]
    if stage.budget.spent(sum(o.seconds for o in ended), sum(o.epochs for o in ended)):
        return [], 0
    todo = [cell for cell in cells if cell.key not in outcomes or stage.reopens(outcomes[cell.key].status)]
    return todo, max(0, stage.trials - proposed) if stage.adaptive else 0


def _identity(sweep: Sweep, stage: Stage, inherited: Mapping[str, Value], cells: Sequence[Cell] = ()) -> str:
    """A plan of cells; or, if a sampler proposes them, all it goes by."""
    if not stage.adaptive:
        return repr((stage.sampler, stage.space, sorted(cell.key for cell in cells)))
    fixed = sorted((stage.settings | dict(inherited)).items())
    return repr(("waves", stage.sampler, stage.space, fixed, sweep.experiment.seed, sweep.data.sha256))


def expected_groups(sweep: Sweep, state: StageState) -> list[list[list[Cell]]]:
    """The groups that train one wave after another: those that are known, then what an adaptive sampler would propose,
    as it is asked for; random cells stand for its proposals.
    """
    stage, seed = state.stage, sweep.experiment.seed
    drawn = draw(replace(stage, sampler="random", trials=state.remaining), seed) if state.remaining else []
    settings = grouping.by_setting(_cells(sweep, stage, state.inherited, drawn, state.outcomes))
    asked = [settings[start : start + stage.at_once] for start in range(0, len(settings), stage.at_once or 1)]
    return [sweep.planner.groups(cells) for cells in [state.todo, *(list(chain(*wave)) for wave in asked)] if cells]


def repeated_trainings(sweep: Sweep, state: StageState) -> list[str]:
    """What there is to know of the stage's settings that are the same training, a line each."""
    stage = state.stage
    if stage.adaptive:
        asked = [setting for wave in sweep.journal.waves(stage, state.identity) for setting in wave.possible]
    else:
        asked = sweep.settings(stage)
    settings = asked or list(stage.space.tops())
    cells = _cells(sweep, replace(stage, seeds=1), state.inherited, settings, state.outcomes)
    return duplicates.duplicate_notes(stage, len(asked), cells, sweep.data)
