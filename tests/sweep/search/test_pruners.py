"""The pruning rules: worked examples, properties, and Optuna's pruners where they see what ours see."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from core.errors import InputError
from sweep.experiment.pruner import PRUNERS, Pruner
from sweep.search.pruners import FEWEST_OTHERS, bracket_of, bracket_sizes, to_prune

MEDIAN, HALVING, HYPERBAND = (Pruner(kind, epochs=27) for kind in PRUNERS)
NAN = math.nan
ANY_RULE = pytest.mark.parametrize("pruner", [MEDIAN, HALVING, HYPERBAND], ids=PRUNERS)


def train(pruner: Pruner, full: Mapping[int, Sequence[float]], *groups: Sequence[int]) -> dict[int, int]:
    """For how many epochs each setting trains, of groups that follow one another."""
    seen: dict[int, Sequence[float]] = {}
    for group in groups:
        running = set(group)
        for epoch in range(1, pruner.epochs + 1):
            seen |= {n: full[n][:epoch] for n in running}
            running -= to_prune(pruner, seen, running)
    return {n: len(curve) for n, curve in seen.items()}


def level(accuracies: Mapping[int, float]) -> dict[int, list[float]]:
    """Curves that stay where they are."""
    return {n: [accuracy] * 81 for n, accuracy in accuracies.items()}


# --- median -----------------------------------------------------------------------------------------------------------

FIVE = {0: [0.2, 0.4], 1: [0.3, 0.5], 2: [0.4, 0.6], 3: [0.5, 0.7], 4: [0.1, 0.44]}  # means .3 .4 .5 .6 .27


def test_median_stops_whose_best_is_below_the_median_of_the_others_means() -> None:
    # 0: .4 < median(.27 .4 .5 .6) = .45;  1: .5 > median(.27 .3 .5 .6) = .4;  4: .44 < median(.3 .4 .5 .6) = .45
    assert to_prune(MEDIAN, FIVE, range(5)) == {0, 4}
    assert to_prune(MEDIAN, FIVE, [4]) == {4}  # those that ended count as much
    assert to_prune(MEDIAN, FIVE | {4: [0.45, 0.1]}, [4]) == set()  # the best so far, and equal is not below


def test_median_needs_enough_others_at_the_same_epoch() -> None:
    assert to_prune(MEDIAN, {n: FIVE[n] for n in range(4)}, range(4)) == set()
    assert to_prune(MEDIAN, FIVE | {3: [0.5]}, [4]) == set()
    later = FIVE | {0: [0.2, 0.4, 0.99, 0.99]}  # what came after epoch 2 does not count
    assert to_prune(MEDIAN, later, [4]) == {4}
    assert to_prune(MEDIAN, later | {4: [0.1, 0.46]}, [4]) == set()


def test_median_leaves_out_what_is_not_finite() -> None:
    holes = {0: [NAN, 0.3], 1: [0.4, 0.4], 2: [0.5, math.inf, 0.5], 3: [0.6, 0.6], 4: [NAN, 0.44], 5: [0.5, 0.5]}
    assert to_prune(MEDIAN, holes, [4]) == {4}  # .44 < median(.3 .4 .5 .6) = .45; at epoch 2, setting 2 has none
    assert to_prune(MEDIAN, holes | {4: [NAN, 0.46]}, [4]) == set()
    assert to_prune(MEDIAN, holes | {5: [0.5, NAN]}, [4, 5]) == set()  # 5 is not judged, and leaves too few for 4


def test_median_stops_nobody_among_equals() -> None:
    assert sum([0.1] * 3) / 3 > 0.1  # what a careless mean would compare with
    assert set(train(MEDIAN, level(dict.fromkeys(range(9), 0.1)), range(9)).values()) == {27}


def test_median_does_not_halve_rising_curves_after_every_epoch() -> None:
    rising = {n: [(0.5 + n / 100) * (1 - 0.5**epoch) for epoch in range(1, 28)] for n in range(27)}
    lives = sorted(train(MEDIAN, rising, range(27)).values())
    assert lives[:13] == [1] * 13
    assert lives[13] == 10
    assert lives[-5:] == [27] * 5  # with four others or fewer, each goes on


# --- halving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "epochs", "lives"),
    [
        (27, 81, {81: 1, 9: 2, 3: 6, 1: 18}),  # 27 -> 9 -> 3 -> 1; the one is alone at 27
        (27, 9, {9: 3, 3: 6, 1: 18}),
        (9, 27, {27: 1, 3: 2, 1: 6}),
        (8, 27, {27: 1, 3: 1, 1: 6}),
        (2, 27, {27: 1, 1: 1}),
    ],
)
def test_halving_lets_the_best_third_go_on(count: int, epochs: int, lives: dict[int, int]) -> None:
    merit = random.Random(count).sample(range(count), count)
    lived = train(Pruner("halving", epochs), level({n: m / 100 for n, m in enumerate(merit)}), range(count))
    in_order = [lived[merit.index(m)] for m in reversed(range(count))]
    assert in_order == [life for life, many in lives.items() for _ in range(many)]


def test_halving_goes_by_the_accuracy_at_the_rung_and_only_there() -> None:
    curves = {0: [0.9, 0.9, 0.1], 1: [0.5, 0.5, 0.3], 2: [0.2, 0.2, 0.2]}
    pruner = replace(HALVING, min_epochs=3)
    assert [to_prune(pruner, {n: curve[:e] for n, curve in curves.items()}, curves) for e in (1, 2, 3)] == [
        set(), set(), {0, 2},
    ]  # fmt: skip
    assert to_prune(Pruner("halving", epochs=3), curves, curves) == set()  # a rung at the last epoch saves nothing
    halves = Pruner("halving", 17, min_epochs=2, reduction=2)
    assert set(train(halves, level({n: n / 100 for n in range(16)}), range(16)).values()) == {2, 4, 8, 16, 17}


def test_a_later_group_competes_with_those_before_it() -> None:
    first = {n: (n + 1) / 10 for n in range(9)}
    second = {n + 9: (n + 1) / 10 + 0.05 for n in range(9)}  # always a little better: .15 ... .95
    lived = train(HALVING, level(first | second), range(9), range(9, 18))
    # At epoch 1 the best 6 of 18 are .95 .9 .85 .8 .75 .7: three are here. At 3, the best 2 of 6 are .95 and .9.
    assert lived == dict.fromkeys(range(18), 1) | {6: 3, 7: 3, 8: 27} | {15: 3, 16: 3, 17: 27}
    worse = {n + 9: 0.01 * n for n in range(9)}
    lived = train(HALVING, level(first | worse), range(9), range(9, 18))
    assert all(lived[n] == 1 for n in worse)


def test_ties_go_to_the_first_that_can_use_the_place() -> None:
    same = level(dict.fromkeys(range(18), 0.5))
    group = {n: [0.5] for n in (5, 2, 8, 0, 7, 1, 4, 6, 3)}
    assert group.keys() - to_prune(HALVING, group, group) == {0, 1, 2}
    # At epoch 1, 3 of 9 and then 6 of 18 go on: three went on before, three are here. At 3, 2 of 6; at 9, 1 of 2.
    lived = train(HALVING, same, range(9), range(9, 18))
    assert lived == dict.fromkeys(range(18), 1) | {0: 27, 1: 3, 2: 3} | {9: 9, 10: 3, 11: 3}


# --- hyperband --------------------------------------------------------------------------------------------------------


def test_brackets_have_the_papers_sizes() -> None:
    assert bracket_sizes(Pruner("hyperband", 81)) == (81, 34, 15, 8, 5)  # its table 1
    assert bracket_sizes(Pruner("hyperband", 20)) == (9, 5, 3)
    assert bracket_sizes(Pruner("hyperband", 11, min_epochs=3, reduction=2)) == (2, 2)
    assert len(bracket_sizes(Pruner("hyperband", 243))) == 6  # math.log(243, 3) is a little less than 5


def test_brackets_cost_about_the_same() -> None:
    pruner, numbers = Pruner("hyperband", 9), range(9 * 17)
    lived = train(pruner, level({n: n * 0.37 % 1 for n in numbers}), numbers)
    costs = [0, 0, 0]
    for n, epochs in lived.items():
        costs[bracket_of(n, bracket_sizes(pruner))] += epochs
    assert max(costs) < 1.4 * min(costs)


@pytest.mark.parametrize("epochs", [8, 20])
def test_brackets_are_spread_evenly_over_groups_and_grids(epochs: int) -> None:
    sizes = bracket_sizes(Pruner("hyperband", epochs))
    brackets = [bracket_of(n, sizes) for n in range(500)]
    for start in range(473):
        group = brackets[start : start + 27]
        assert all(abs(group.count(s) - 27 * size / sum(sizes)) < 3 for s, size in enumerate(sizes))
    for distance in range(1, 13):  # of the cells of a grid that share a value
        assert all(set(brackets[start::distance]) == set(range(len(sizes))) for start in range(distance))


def test_each_bracket_is_a_halving_of_its_own() -> None:
    sizes = bracket_sizes(HYPERBAND)
    full = level({n: n * 0.37 % 1 for n in range(54)})
    lived = train(HYPERBAND, full, range(27), range(27, 54))
    assert len(sizes) == 4
    for bracket in range(3):
        groups = [[n for n in group if bracket_of(n, sizes) == bracket] for group in (range(27), range(27, 54))]
        alone = train(replace(HALVING, min_epochs=3**bracket), full, *groups)
        assert alone == {n: lived[n] for n in alone}
        assert min(alone.values()) == 3**bracket
    assert {lived[n] for n in lived if bracket_of(n, sizes) == 3} == {27}  # its first rung is the last epoch


# --- any rule ---------------------------------------------------------------------------------------------------------


@ANY_RULE
def test_a_lone_or_unknown_setting_goes_on(pruner: Pruner) -> None:
    assert train(pruner, level({7: 0.0}), [7]) == {7: 27}
    assert to_prune(pruner, {}, [7]) == to_prune(pruner, {7: []}, [7]) == to_prune(pruner, {7: [NAN]}, [7]) == set()
    assert to_prune(pruner, level({n: n / 10 for n in range(9)}), []) == set()


@ANY_RULE
@pytest.mark.parametrize("perfect", range(0, 36, 5))
def test_a_perfect_setting_goes_on(pruner: Pruner, perfect: int) -> None:
    noise = random.Random(perfect)
    full = {n: [noise.random() for _ in range(27)] for n in range(36)} | {perfect: [1.0] * 27}
    lived = train(pruner, full, range(9), range(9, 36))
    assert lived[perfect] == 27
    assert min(lived.values()) == 1


@ANY_RULE
@pytest.mark.parametrize("first", [1, 3])
def test_nothing_is_pruned_before_min_epochs(pruner: Pruner, first: int) -> None:
    lived = train(replace(pruner, min_epochs=first), level({n: n * 0.37 % 1 for n in range(27)}), range(27))
    assert min(lived.values()) == first


def test_each_is_judged_at_the_length_of_its_own_curve() -> None:
    curves = {0: [0.9], 1: [0.1], 2: [0.5], 3: [0.2, 0.2, 0.2], 4: [0.8, 0.8, 0.8], 5: [0.3, 0.9]}
    assert to_prune(HALVING, curves, [0, 1, 3, 4, 5]) == {1, 3}  # 2 has ended; 5 is between rungs
    assert to_prune(MEDIAN, level(dict.fromkeys(range(10, 16), 0.5)) | curves, [1, 3]) == {1, 3}


ACCURACY = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 0.9, NAN, math.inf])
CURVES = st.dictionaries(st.integers(0, 60), st.lists(ACCURACY, max_size=4), max_size=20)
RULES = st.builds(Pruner, st.sampled_from(PRUNERS), st.integers(5, 30), st.integers(1, 3), st.integers(2, 4))


@settings(deadline=None)
@given(RULES, CURVES, st.randoms(use_true_random=False))
def test_only_what_is_known_and_running_stops_whatever_the_order(pruner: Pruner, curves, order) -> None:
    running = [n for n in [*curves, 99] if order.random() < 0.7]
    stopped = to_prune(pruner, curves, running)
    assert stopped <= set(running) & curves.keys()
    assert all(math.isfinite(curves[n][-1]) for n in stopped)
    items = list(curves.items())
    order.shuffle(items)
    order.shuffle(running)
    assert to_prune(pruner, dict(items), frozenset(running)) == stopped
    failed = {n: [NAN] * 5 for n in range(70, 80)}
    assert to_prune(pruner, failed | curves, [*running, *failed]) == stopped


@settings(deadline=None)
@given(RULES, st.lists(st.sampled_from([0.1, 0.5, 0.7, 0.9]), min_size=1, max_size=40), st.integers(1, 9))
def test_the_best_goes_on_and_so_many_with_it(pruner: Pruner, accuracies: list[float], epoch: int) -> None:
    curves = {n: [accuracy] * epoch for n, accuracy in enumerate(accuracies)}
    stopped = to_prune(pruner, curves, curves)
    assert accuracies.index(max(accuracies)) not in stopped
    if pruner.kind == "halving":
        rungs = [pruner.min_epochs * pruner.reduction**k for k in range(5)]
        pruned = epoch in rungs and epoch < pruner.epochs
        assert len(curves) - len(stopped) == (max(1, len(curves) // pruner.reduction) if pruned else len(curves))
    kept = [accuracies[n] for n in curves.keys() - stopped]
    if pruner.kind != "hyperband":
        assert all(accuracies[n] <= min(kept) for n in stopped)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "best"}, "kind is 'best': it must be one of median, halving, hyperband"),
        ({"min_epochs": 0}, "min_epochs is 0: it must be at least 1"),
        ({"reduction": 1}, "reduction is 1: it must be at least 2"),
        ({"min_epochs": 9}, r"min_epochs is 9: it must be below the most epochs that a trial trains \(9\)"),
    ],
)
def test_a_pruner_that_could_not_work_is_refused(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}[^\n]*$"):
        Pruner(**{"kind": "halving", "epochs": 9} | values)


# --- Optuna's pruners, with trials that come one after another --------------------------------------------------------


def optunas(study: optuna.Study, curve: Sequence[float], epochs: int) -> int:
    """For how many epochs Optuna trains one more trial."""
    trial = study.ask()
    for epoch in range(1, epochs):
        trial.report(curve[epoch - 1], epoch)
        if trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return epoch
    study.tell(trial, curve[epochs - 1])
    return epochs


@pytest.mark.parametrize(("first", "reduction"), [(1, 3), (2, 2), (1, 4)])
def test_halving_of_one_after_another_is_optunas(first: int, reduction: int) -> None:
    pruner = Pruner("halving", 20, first, reduction)
    study = optuna.create_study(
        direction="maximize",
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=reduction),
    )
    noise = random.Random(first)
    full = {n: [noise.random() for _ in range(20)] for n in range(40)}
    expected = {n: optunas(study, curve, 20) for n, curve in full.items()}
    assert train(pruner, full, *([n] for n in full)) == expected
    assert len(set(expected.values())) > 3
    # Deliberately different: of equal ones, Optuna lets all go on.
    assert optunas(study, [2.0] * 20, 20) == optunas(study, [2.0] * 20, 20) == 20
    assert train(pruner, level({0: 0.5, 1: 0.5}), [0], [1]) == {0: 20, 1: first}


def test_median_of_one_after_completed_ones_is_optunas() -> None:
    """Deliberately different: Optuna compares with the accuracies themselves (here it is given the means, so that it
    agrees), and with completed trials alone.
    """
    pruner, noise = replace(MEDIAN, min_epochs=2), random.Random(4)
    full = {n: [noise.random() * 0.9**n for _ in range(12)] for n in range(10)}
    lives = []
    for n, curve in full.items():
        study = optuna.create_study(
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=0, n_warmup_steps=2, n_min_trials=FEWEST_OTHERS),
        )
        before = {other: full[other] for other in range(n)}
        for other in before.values():
            means = {epoch: sum(other[:epoch]) / epoch for epoch in range(1, 13)}
            study.add_trial(optuna.create_trial(value=other[-1], intermediate_values=means))
        pruned = (epoch for epoch in range(1, 12) if to_prune(pruner, before | {n: curve[:epoch]}, [n]))
        lives.append(next(pruned, 12))
        assert optunas(study, curve, 12) == lives[-1]
    assert set(lives) == {2, 4, 5, 12}
