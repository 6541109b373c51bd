"""Training a group: each trial on its own, early stop, best weights, failure, and a judge that ends trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.backends.reference.backend import OPS
from core.config.architecture import Architecture
from core.config.hyperparameters import Hyperparameters
from core.config.settings import Settings
from core.data.images import Images
from core.network import model as network
from core.network import parameters
from core.ops import Ops
from core.training import optimisers
from core.training.batches import shuffled_batches
from core.training.loop import evaluate, train_group
from core.training.progress import EpochReport, Judge, TrialResult, Verdict, no_verdicts
from core.training.step import Step
from tests.conftest import small_images

SMALL = Architecture((1, 6, 7), (3, 4), 3)
BASE = Settings(filters="3x4", epochs=4, batch_size=16, lr=0.05)
NINE = [
    BASE,
    replace(BASE, seed=1),
    replace(BASE, lr=0.2, dropout=0.0, epochs=2),
    replace(BASE, reg=0.0, dropout=0.9, patience=1),
    replace(BASE, lr=1e-6, patience=1),
    replace(BASE, gradient="sum", clip=1.0, seed=2**62),
    replace(BASE, schedule="cosine", clip_global=0.5, epochs=3),
    replace(BASE, initial="xavier", clip=0.0, seed=1),
    replace(BASE, lr=1e30, clip=0.0, gradient="sum"),
]

ADAM = replace(BASE, optimiser="adam", lr=0.01, momentum=0.9)
AUGMENTED = replace(BASE, flip=0.5, crop=2, rotate=20, noise=0.1, cutout=3)
# Each first trial leaves first, so that the others move up.
GROUPS = {
    "momentum": [
        replace(BASE, momentum=0.9, epochs=1),
        BASE,
        replace(BASE, momentum=0.9, nesterov=True, seed=1),
        replace(BASE, nesterov=True, lr=0.2),
        replace(BASE, momentum=0.5, clip_global=0.5, epochs=3, schedule="one-cycle"),
        replace(BASE, momentum=0.99, lr=1e30, clip=0.0, gradient="sum"),
        replace(BASE, momentum=0.3, lr=0.01, warmup=2.5),
    ],
    "adam": [
        replace(ADAM, epochs=1),
        ADAM,
        replace(ADAM, beta1=0.0, seed=1, momentum=0.0),
        replace(ADAM, beta2=0.9, adam_eps=0.1, clip=0.5, epochs=3),
        replace(ADAM, lr=1e30, clip=0.0),
        replace(ADAM, reg=0.1, schedule="one-cycle", warmup=1),
    ],
    "augmented": [
        replace(AUGMENTED, epochs=1),
        AUGMENTED,
        BASE,
        replace(AUGMENTED, seed=1),
        replace(BASE, brightness=0.4, contrast=0.4, saturation=0.4, epochs=2),
        replace(BASE, cutout=3, momentum=0.9),
        replace(AUGMENTED, lr=1e30, clip=0.0, gradient="sum"),
    ],
}
GROUPS["adamw"] = [replace(trial, optimiser="adamw") for trial in GROUPS["adam"]]
RESIDUAL = Architecture((1, 6, 7), (1, 3, 3), 3, (True, False, True), residual=True, global_pool=True)
KINDS = [
    *(pytest.param(SMALL, trials, id=name) for name, trials in GROUPS.items()),
    *(pytest.param(RESIDUAL, trials, id=f"residual-{name}") for name, trials in GROUPS.items()),
]


def images(count: int, seed: int) -> Images:
    return Images.on_device(OPS, *small_images(count, seed), 1 / 255)


TRAIN, VALIDATION = images(60, 0), images(40, 1)


def train(
    trials: Sequence[Settings], data_seed: int = 0, architecture: Architecture = SMALL, judge: Judge = no_verdicts
) -> list[TrialResult]:
    """The trials' results in their order; every trial ends once."""
    results: dict[int, TrialResult] = {}
    for report in train_group(OPS, architecture, trials, TRAIN, VALIDATION, data_seed=data_seed, judge=judge):
        assert not report.ended.keys() & results.keys()
        assert report.ended.keys() <= report.metrics.keys()
        results |= report.ended
    return [results[t] for t in range(len(trials))]


def same(one: TrialResult, other: TrialResult) -> None:
    """Equal bit for bit, but for the time that epochs took."""
    assert (one.status, one.reason, one.best_epoch) == (other.status, other.reason, other.best_epoch)
    assert len(one.history) == len(other.history)
    for ours, theirs in zip(one.history, other.history, strict=True):
        np.testing.assert_equal(ours | {"epoch_seconds": 0}, theirs | {"epoch_seconds": 0})
    np.testing.assert_equal(one.model, other.model)


@pytest.fixture(scope="module")
def nine() -> list[TrialResult]:
    return train(NINE)


def test_members_of_the_group_leave_at_different_times(nine: list[TrialResult]) -> None:
    assert len({len(result.history) for result in nine}) == 4
    assert [result.status for result in nine] == ["finished"] * 8 + ["failed"]
    assert len({result.history[0]["train_loss"] for result in nine}) == 9


@pytest.mark.parametrize("architecture", [SMALL, RESIDUAL], ids=["", "residual"])
@pytest.mark.parametrize("name", GROUPS)
def test_nan_stays_in_its_trial_whatever_the_optimiser(
    name: str, architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = train(GROUPS[name], architecture=architecture)
    poison(monkeypatch, 1)
    results = train(GROUPS[name], architecture=architecture)
    assert (results[1].status, results[1].reason) == ("failed", "train_loss became nan in epoch 1")
    for t in {*range(len(clean))} - {1}:
        same(results[t], clean[t])


def poison(monkeypatch: pytest.MonkeyPatch, trial: int) -> None:
    """Put NaN in one trial's initial weights."""
    untouched = parameters.initial_model

    def poisoned(*arguments: Any) -> parameters.Model:
        model = untouched(*arguments)
        model["w2"][trial] = np.nan
        return model

    monkeypatch.setattr(parameters, "initial_model", poisoned)


@pytest.mark.parametrize("trial", range(9))
def test_a_trial_alone_equals_the_trial_in_a_group(nine: list[TrialResult], trial: int) -> None:
    same(train([NINE[trial]])[0], nine[trial])


def test_the_order_of_trials_is_the_order_of_results(nine: list[TrialResult]) -> None:
    order = [3, 8, 0, 6, 1, 7, 5, 2, 4]
    for result, t in zip(train([NINE[t] for t in order]), order, strict=True):
        same(result, nine[t])


def test_a_rerun_is_equal_and_other_data_seeds_are_not(nine: list[TrialResult]) -> None:
    for result, again, other in zip(nine, train(NINE), train(NINE, data_seed=1), strict=True):
        same(result, again)
        assert result.history[0]["train_loss"] != other.history[0]["train_loss"]


@pytest.mark.parametrize(("architecture", "trials"), KINDS)
def test_trials_of_every_kind_alone_equal_those_in_a_group(architecture: Architecture, trials: list[Settings]) -> None:
    together = train(trials, architecture=architecture)
    for t, trial in enumerate(trials):
        same(train([trial], architecture=architecture)[0], together[t])
    assert len({tuple(metrics["val_loss"] for metrics in result.history) for result in together}) == len(trials)
    assert len({len(result.history) for result in together}) > 1
    assert "failed" in {result.status for result in together}


def test_the_order_of_trials_that_remember_is_the_order_of_results() -> None:
    trials = GROUPS["momentum"]
    for result, reverse in zip(train(trials), train(trials[::-1])[::-1], strict=True):
        same(result, reverse)


def test_a_network_trained_tells_its_form(nine: list[TrialResult]) -> None:
    published = [f"{name}{i}" for i in (1, 2) for name in ("w", "b", "gamma", "beta", "running_mean", "running_var")]
    assert nine[0].model is not None
    assert list(nine[0].model) == [*published, "w3", "b3"]
    deep = train([replace(BASE, epochs=1)], architecture=RESIDUAL)[0].model
    assert deep is not None
    assert parameters.architecture_of(deep, (1, 6, 7)) == RESIDUAL


def ending(verdicts: Mapping[int, Mapping[int, Verdict]], seen: list[EpochReport] | None = None) -> Judge:
    """A judge that ends trials by epoch, and notes what it sees."""

    def judge(report: EpochReport) -> Mapping[int, Verdict]:
        if seen is not None:
            seen.append(EpochReport(report.epoch, dict(report.metrics), dict(report.ended)))
        return verdicts.get(report.epoch, {})

    return judge


VERDICTS = {1: {1: ("pruned", "too slow")}, 2: {5: ("finished", "time is up"), 0: ("pruned", "worst")}}


def test_a_judge_ends_trials_with_status_and_reason_and_changes_nothing_else(nine: list[TrialResult]) -> None:
    judged = train(NINE, judge=ending(VERDICTS))
    verdicts = {t: (epoch, *verdict) for epoch, some in VERDICTS.items() for t, verdict in some.items()}
    for t, result in enumerate(judged):
        if t not in verdicts:
            same(result, nine[t])
            continue
        epoch, status, reason = verdicts[t]
        short = train([replace(NINE[t], epochs=epoch)])[0]  # whose history, best epoch and weights it must have
        assert (result.status, result.reason) == (status, reason)
        same(replace(result, status=short.status, reason=short.reason), short)
        assert result.model is not None


@pytest.mark.parametrize("trials", GROUPS.values(), ids=GROUPS)
def test_who_is_judged_takes_its_optimisers_memory_along(trials: list[Settings]) -> None:
    unjudged = train(trials)
    judged = train(trials, judge=ending({2: {1: ("pruned", "")}}))
    assert len(judged[1].history) == 2
    for t in {*range(len(trials))} - {1}:
        same(judged[t], unjudged[t])


def test_a_judge_sees_every_epoch_and_who_has_ended_by_itself(nine: list[TrialResult]) -> None:
    seen: list[EpochReport] = []
    judged = train(NINE, judge=ending(VERDICTS, seen))
    assert [report.epoch for report in seen] == [1, 2, 3, 4]
    for report in seen:
        assert report.metrics == {
            t: result.history[report.epoch - 1]
            for t, result in enumerate(judged)
            if len(result.history) >= report.epoch
        }
        alone = {t for t, result in enumerate(nine) if len(result.history) == report.epoch}
        assert report.ended.keys() == alone & report.metrics.keys()


def test_a_judge_may_end_all() -> None:
    trials = NINE[:2]
    results = train(trials, judge=ending({1: dict.fromkeys(range(2), ("finished", "budget"))}))
    assert [(result.reason, len(result.history), result.best_epoch) for result in results] == [("budget", 1, 1)] * 2


def test_what_is_reported_has_the_judges_verdict_and_a_model_on_the_host() -> None:
    reports = train_group(OPS, RESIDUAL, [BASE], TRAIN, VALIDATION, judge=ending({1: {0: ("pruned", "why")}}))
    (report,) = reports
    assert (report.ended[0].status, report.ended[0].reason) == ("pruned", "why")
    assert report.ended[0].model is not None
    assert parameters.architecture_of(report.ended[0].model, (1, 6, 7)) == RESIDUAL


def test_the_learning_rate_moves_step_by_step_and_the_last_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    untouched, seen = optimisers.UPDATES["sgd"], []

    def spy(*arguments: Any) -> None:
        seen.append((arguments[-1], float(arguments[-2][0])))
        untouched(*arguments)

    monkeypatch.setitem(optimisers.UPDATES, "sgd", spy)
    trial = replace(BASE, schedule="constant", warmup=1.5, epochs=2, lr=0.6)
    history = train([trial])[0].history
    assert [number for number, _ in seen] == list(range(8))
    np.testing.assert_allclose([lr for _, lr in seen], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6, 0.6], rtol=1e-14)
    np.testing.assert_allclose([metrics["learning_rate"] for metrics in history], [0.4, 0.6], rtol=1e-14)


def test_a_step_is_made_anew_only_when_trials_leave() -> None:
    groups = []

    def spy(ops: Ops, architecture: Architecture, trials: Hyperparameters, **options: Any) -> Step:
        groups.append(trials.seed.tolist())
        return OPS.make_step(ops, architecture, trials, **options)

    trials = [replace(BASE, epochs=epochs, seed=seed) for seed, epochs in enumerate((4, 2, 4))]
    list(train_group(replace(OPS, make_step=spy), SMALL, trials, TRAIN, VALIDATION))
    assert groups == [[0, 1, 2], [0, 2]]


def test_training_images_are_augmented_by_the_datas_seed_and_the_step_and_no_others() -> None:
    seen = []

    def spy(x: np.ndarray, strength: np.ndarray, seed: int, step: int) -> np.ndarray:
        seen.append((len(x[0]), strength.tolist(), seed, step))
        return OPS.augment(x, strength, seed, step)

    ops = replace(OPS, augment=spy)
    list(train_group(ops, SMALL, [AUGMENTED, replace(BASE, epochs=1)], TRAIN, VALIDATION, data_seed=7))
    strengths = [[0.5, 2, 20, 0, 0, 0, 0.1, 3], [0] * 8]
    sizes = [16, 16, 16, 12]
    assert seen == [(sizes[step % 4], strengths[: 2 if step < 4 else 1], 7, step) for step in range(16)]


def test_nan_stays_in_its_trial(nine: list[TrialResult], monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, 1)
    results = train(NINE)
    for t in {*range(9)} - {1}:
        same(results[t], nine[t])
    assert (results[1].status, results[1].reason) == ("failed", "train_loss became nan in epoch 1")
    assert (results[1].model, results[1].best_epoch, results[1].best_accuracy) == (None, 0, None)


def test_a_trial_that_diverges_ends_alone_and_says_when(nine: list[TrialResult]) -> None:
    failed = nine[8]
    assert failed.reason == f"train_loss became nan in epoch {len(failed.history)}"
    assert not np.isfinite(failed.history[-1]["train_loss"])


def test_a_trial_learns_and_says_how(nine: list[TrialResult]) -> None:
    first, last = nine[0].history[0], nine[0].history[-1]
    assert set(first) == {
        *("train_loss", "train_accuracy", "val_loss", "val_accuracy"),
        *("learning_rate", "gradient_norm", "epoch_seconds"),
    }
    assert last["train_loss"] < first["train_loss"]
    rates = [epoch["learning_rate"] for epoch in nine[0].history]
    np.testing.assert_allclose(rates, 0.05 * 0.995 ** np.arange(4), rtol=1e-14)
    assert train([replace(BASE, epochs=20, dropout=0.0, lr=0.2)])[0].best_accuracy > 0.9


def test_metrics_are_means_over_the_images_and_steps() -> None:
    """At a learning rate that moves nothing, an epoch's metrics are those of the initial weights, batch by batch."""
    still = [replace(BASE, lr=1e-30, epochs=2, clip=0.01)]
    result = train(still)[0]
    metrics = result.history[1]
    model = parameters.initial_model(SMALL, still)
    losses, rights, norms, models = [], [], [], []
    for number, chosen in enumerate([*shuffled_batches(60, 16, 0, 0), *shuffled_batches(60, 16, 0, 1)]):
        group = Hyperparameters.of(still)
        loss, right, gradients, statistics = network.loss_and_gradients(
            OPS, SMALL, model, *TRAIN.batch(chosen), group, number
        )
        network.track_statistics(model, statistics)
        losses.extend(loss[0])
        rights.extend(right[0])
        pulled = [g + BASE.reg * model[name] * (name in {"w1", "w2", "w3"}) for name, g in gradients.items()]
        norms.append(np.sqrt(sum(np.sum(g**2) for g in pulled)))
        models.append({name: values[0].copy() for name, values in model.items()})
    assert (len(losses), len(norms)) == (120, 8)
    assert metrics["train_loss"] == pytest.approx(np.mean(losses[60:]), rel=1e-5)
    assert metrics["train_accuracy"] == pytest.approx(np.mean(rights[60:]))
    assert metrics["gradient_norm"] == pytest.approx(np.mean(norms[4:]), rel=1e-5)
    assert result.model is not None
    for name, values in result.model.items():
        expected = models[4 * result.best_epoch - 1][name]
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-7, err_msg=name)


def test_evaluate_takes_means_over_the_images() -> None:
    model = parameters.initial_model(SMALL, NINE[:2])
    logits = np.concatenate([values for values, _ in network.predict(OPS, SMALL, model, VALIDATION)], axis=1)
    losses = np.log(np.exp(logits).sum(axis=2)) - logits[:, range(40), VALIDATION.labels]
    loss, accuracy = evaluate(OPS, SMALL, model, VALIDATION, 16)
    np.testing.assert_allclose(loss, losses.mean(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(accuracy, (logits.argmax(axis=2) == VALIDATION.labels).mean(axis=1))


def test_the_kept_weights_are_those_of_the_best_epoch() -> None:
    trials = [replace(BASE, epochs=8, lr=lr, patience=8, dropout=0.0) for lr in (0.02, 0.1, 0.5, 2.0)]
    results = train(trials)
    assert any(result.best_epoch < 8 for result in results)
    for result in results:
        accuracies = [metrics["val_accuracy"] for metrics in result.history]
        assert result.best_accuracy == max(accuracies)
        assert result.best_epoch == accuracies.index(max(accuracies)) + 1
        loss, accuracy = evaluate(OPS, SMALL, {n: v[None] for n, v in result.model.items()}, VALIDATION, 16)
        best = result.history[result.best_epoch - 1]
        assert (loss[0], accuracy[0]) == (best["val_loss"], best["val_accuracy"])


def run_epochs(accuracies: Sequence[float], patience: int = 5, epochs: int = 20) -> tuple[TrialResult, int]:
    """A trial with these validation accuracies, and the epoch in which it ends; 0 if it does not."""
    result, settings = TrialResult(), Settings(patience=patience, epochs=epochs)
    for epoch, accuracy in enumerate(accuracies, start=1):
        metrics = {"train_loss": 1.0, "val_loss": 1.0, "val_accuracy": accuracy}
        result.record(settings, metrics, {"w1": np.array(epoch)}, 0.5)
        if result.ended:
            return result, epoch
    return result, 0


@pytest.mark.parametrize(
    ("accuracies", "patience", "ends", "best"),
    [
        ([0.5] * 20, 5, 6, 1),
        ([0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.9], 5, 6, 1),
        ([0.5, 0.4, 0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6], 5, 11, 6),
        ([0.1, 0.2, 0.1, 0.3], 1, 3, 2),
        ([0.0, 0.0], 5, 0, 1),
        ([n / 20 for n in range(20)], 5, 20, 20),
    ],
)
def test_early_stop_counts_epochs_without_a_new_best(
    accuracies: list[float], patience: int, ends: int, best: int
) -> None:
    result, ended = run_epochs(accuracies, patience)
    assert (ended, result.best_epoch, result.status) == (ends, best, "finished")
    assert result.best_accuracy == accuracies[best - 1]
    assert result.model["w1"] == best


@pytest.mark.parametrize("name", ["train_loss", "val_loss"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_no_number_fails_the_trial_and_keeps_its_best(name: str, value: float) -> None:
    result, _ = run_epochs([0.25, 0.5])
    broken = {"train_loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.9} | {name: value}
    result.record(Settings(), broken, {"w1": np.array(3)}, 0.5)
    assert result.ended
    assert (result.status, result.reason) == ("failed", f"{name} became {value} in epoch 3")
    assert (result.best_epoch, result.best_accuracy, result.model["w1"]) == (2, 0.5, 2)


def test_trials_that_stand_still_end_in_epoch_6() -> None:
    for result in train([replace(BASE, lr=1e-30, epochs=20, seed=seed) for seed in (0, 7)]):
        assert len({metrics["val_accuracy"] for metrics in result.history}) == 1
        assert (len(result.history), result.best_epoch, result.status) == (6, 1, "finished")


def test_a_batch_is_scaled_shared_and_leaves_the_images_alone() -> None:
    pixels = np.array([0, 51, 102, 255], np.uint8).reshape(4, 1, 1, 1)
    data = Images.on_device(OPS, pixels, np.arange(4), 1 / 255)
    for _ in range(2):
        x, labels = data.batch(np.array([3, 1]), np.float64)
        np.testing.assert_allclose(x, np.array([1, 0.2]).reshape(1, 2, 1, 1, 1), rtol=1e-15)
        assert labels.tolist() == [3, 1]
    assert data.batch(slice(None))[0].dtype == np.float32


@pytest.mark.parametrize(
    ("count", "sizes"), [(60, [16, 16, 16, 12]), (32, [16, 16]), (5, [5]), (49, [16, 16, 17]), (17, [17])]
)
def test_an_epoch_sees_every_image_once_in_an_order_of_its_own(count: int, sizes: list[int]) -> None:
    epochs = [list(shuffled_batches(count, 16, seed, epoch)) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for batches in epochs:
        assert [len(batch) for batch in batches] == sizes
        assert sorted(np.concatenate(batches)) == list(range(count))
    orders = {tuple(np.concatenate(batches)) for batches in epochs}
    assert len(orders) == 3
