"""The network: its arrays, their initial values, gradients of whole models, running statistics, reading models."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from core.backends.reference.backend import OPS
from core.config.architecture import Architecture
from core.config.hyperparameters import Hyperparameters
from core.config.settings import Settings
from core.data.images import Images
from core.errors import InputError
from core.network import model as network
from core.network import parameters
from tests.helpers.cases import NETWORKS

SMALL = Architecture((2, 6, 7), (3, 4), 5)
TRIALS = [Settings(seed=3), Settings(seed=4, dropout=0, gradient="sum"), Settings(seed=3, gradient="sum")]


def images(count: int = 7) -> Images:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 2, 6, 7), np.uint8)
    return Images.on_device(OPS, pixels, rng.integers(0, 5, count), 1 / 255)


def test_the_reports_model_has_the_published_names_and_shapes() -> None:
    shapes = parameters.parameter_shapes(Architecture((3, 32, 32), (32, 64), 10))
    assert list(shapes)[:6] == ["w1", "b1", "gamma1", "beta1", "running_mean1", "running_var1"]
    assert (shapes["w1"], shapes["w2"], shapes["w3"]) == ((32, 3, 3, 3), (64, 32, 3, 3), (64 * 81, 10))
    assert shapes["b3"] == (10,)
    assert {shapes[name] for name in list(shapes)[7:12]} == {(64,)}
    assert len(shapes) == 14
    assert parameters.architecture_arrays(Architecture((3, 32, 32), (32, 64), 10)) == {}


def test_a_projection_has_the_number_of_the_convolution_it_joins() -> None:
    shapes = parameters.parameter_shapes(Architecture((3, 9, 8), (3, 4, 4), 7, residual=True, global_pool=True))
    convolutions = {name: shape for name, shape in shapes.items() if name[0] in "wp"}
    assert convolutions == {
        "w1": (3, 3, 3, 3),
        "w2": (3, 3, 3, 3),
        "w3": (4, 3, 3, 3),
        "w4": (4, 4, 3, 3),
        "p4": (4, 3, 1, 1),
        "w5": (4, 4, 3, 3),
        "w6": (4, 4, 3, 3),
        "w7": (4, 7),
    }
    assert len(shapes) == 6 * 6 + 1 + 2


@pytest.mark.parametrize(
    ("name", "weight", "bias"),
    [
        *((name, True, False) for name in ("w1", "w12", "p4")),
        *((name, False, True) for name in ("b1", "b12")),
        *((name, False, False) for name in ("beta1", "gamma1", "running_mean1", "running_var12", "b", "w", "pool")),
    ],
)
def test_weights_and_biases_are_told_by_their_names(name: str, weight: bool, bias: bool) -> None:
    assert (parameters.is_weight(name), parameters.is_bias(name)) == (weight, bias)


@pytest.mark.parametrize(
    ("scheme", "conv", "linear"),
    [
        ("he", math.sqrt(2 / (20 * 9)), math.sqrt(2 / 5120)),
        ("xavier", math.sqrt(2 / ((20 + 80) * 9)), math.sqrt(2 / (5120 + 10))),
        ("normal", 0.01, 0.01),
    ],
)
def test_weights_start_normal_with_the_schemes_spread(scheme: str, conv: float, linear: float) -> None:
    start = parameters.initial_model(Architecture((20, 14, 14), (80,), 10), [Settings(initial=scheme)])
    wide = parameters.initial_model(Architecture((90, 2, 2), (100,), 10, residual=True), [Settings(initial=scheme)])
    projection = {"he": math.sqrt(2 / 90), "xavier": math.sqrt(2 / 190), "normal": 0.01}[scheme]
    start["p2"] = wide["p2"]
    for name, expected in (("w1", conv), ("w2", linear), ("p2", projection)):
        assert start[name].std() == pytest.approx(expected, rel=0.02)
        assert abs(start[name].mean()) < 0.03 * expected
        assert (np.abs(start[name]) > 2 * expected).mean() == pytest.approx(0.0455, rel=0.15)


def test_all_else_starts_at_0_or_1() -> None:
    start = parameters.initial_model(SMALL, TRIALS)
    for name, values in start.items():
        assert values.shape[0] == 3
        assert values.dtype == np.float32
        if not parameters.is_weight(name):
            assert set(values.ravel()) == {1.0 if name.startswith(("gamma", "running_var")) else 0.0}


def test_initial_values_depend_on_the_seed_alone() -> None:
    together = parameters.initial_model(SMALL, TRIALS)
    for t, trial in enumerate(TRIALS):
        for name, values in parameters.initial_model(SMALL, [trial]).items():
            np.testing.assert_array_equal(values[0], together[name][t])
    for name in ("w1", "w2", "w3"):
        assert (together[name][0] == together[name][2]).all()
        assert (together[name][0] != together[name][1]).all()


def test_no_two_arrays_start_alike() -> None:
    start = parameters.initial_model(Architecture((3, 9, 8), (3, 3, 4), 3, residual=True), TRIALS[:1])
    firsts = [values.ravel()[0] for name, values in start.items() if parameters.is_weight(name)]
    assert len(firsts) == len(set(firsts)) == 8


def one_pass(
    trials: list[Settings], dtype: type = np.float64, architecture: Architecture = SMALL
) -> tuple[np.ndarray, parameters.Model, parameters.Model]:
    x, labels = images().batch(slice(None), dtype)
    model = parameters.initial_model(architecture, trials, dtype)
    group = Hyperparameters.of(trials)
    loss, _, gradients, statistics = network.loss_and_gradients(OPS, architecture, model, x, labels, group, 0)
    return loss, gradients, statistics


def test_a_summed_gradient_is_the_mean_times_the_batch() -> None:
    loss, gradients, _ = one_pass([Settings(seed=3), Settings(seed=3, gradient="sum")])
    np.testing.assert_array_equal(loss[0], loss[1])
    for values in gradients.values():
        np.testing.assert_allclose(values[1], 7 * values[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("architecture", NETWORKS.values(), ids=NETWORKS)
def test_gradients_cover_what_is_trained_and_statistics_the_rest(architecture: Architecture) -> None:
    architecture = replace(architecture, input_shape=SMALL.input_shape, classes=SMALL.classes)
    _, gradients, statistics = one_pass(TRIALS, np.float32, architecture)
    shapes = parameters.parameter_shapes(architecture)
    assert set(gradients) == {name for name in shapes if not name.startswith("running_")}
    assert set(statistics) == shapes.keys() - gradients.keys()
    for name, values in (gradients | statistics).items():
        assert (values.shape, values.dtype) == ((3, *shapes[name]), np.float32)


def test_running_statistics_move_a_tenth_of_the_way() -> None:
    model = {"running_mean1": np.array([[10.0, 0.0]]), "running_var1": np.array([[1.0, 1.0]]), "w1": np.ones(1)}
    network.track_statistics(model, {"running_mean1": np.array([[20.0, 5.0]]), "running_var1": np.array([[1.0, 0.0]])})
    np.testing.assert_allclose(model["running_mean1"], [[11, 0.5]], rtol=1e-14)
    np.testing.assert_allclose(model["running_var1"], [[1, 0.9]], rtol=1e-14)


def test_statistics_are_those_of_the_convolution_output() -> None:
    _, _, statistics = one_pass(TRIALS)
    x, _ = images().batch(slice(None), np.float64)
    start = parameters.initial_model(SMALL, TRIALS, np.float64)
    z, _ = OPS.conv2d(x, start["w1"], start["b1"])
    np.testing.assert_allclose(statistics["running_mean1"], z.mean(axis=(1, 3, 4)), rtol=1e-12)
    np.testing.assert_allclose(statistics["running_var1"], z.var(axis=(1, 3, 4)), rtol=1e-12)


@pytest.mark.parametrize("architecture", [SMALL, replace(SMALL, residual=True, global_pool=True)], ids=["", "residual"])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_test_mode_does_not_depend_on_the_batches(batch_size: int, architecture: Architecture) -> None:
    model = parameters.initial_model(architecture, TRIALS, np.float64)
    model["running_mean1"] += 0.25
    x, labels = images().batch(slice(None), np.float64)
    batches = list(network.predict(OPS, architecture, model, images(), batch_size))
    whole = network.logits(OPS, architecture, model, x)
    assert whole.shape == (3, 7, 5)
    np.testing.assert_allclose(np.concatenate([values for values, _ in batches], axis=1), whole, rtol=1e-12)
    np.testing.assert_array_equal(np.concatenate([values for _, values in batches]), labels)


def single(architecture: Architecture = SMALL) -> dict[str, np.ndarray]:
    """One trial's arrays and the network's form, as a file has them."""
    arrays = {name: values[0] for name, values in parameters.initial_model(architecture, TRIALS[:1]).items()}
    return arrays | parameters.architecture_arrays(architecture)


@pytest.mark.parametrize("architecture", NETWORKS.values(), ids=NETWORKS)
def test_architecture_is_read_from_the_arrays(architecture: Architecture) -> None:
    model = {**single(architecture), "epochs": np.array(3)}
    assert parameters.architecture_of(model, architecture.input_shape) == architecture


def test_a_form_that_is_zeros_is_the_reports() -> None:
    model = {**single(), "residual": np.zeros(()), "global_pool": np.array([0.0]), "pool": np.array([1.0, 1.0])}
    assert parameters.architecture_of(model, (2, 6, 7)) == replace(SMALL, pool=(True, True))


@pytest.mark.parametrize("half", [1, 3])
def test_half_a_residual_block_is_refused(half: int) -> None:
    model = single(Architecture((2, 6, 7), (3,) * half, 5, global_pool=True)) | {"residual": np.ones(())}
    with pytest.raises(InputError, match=f"the model has {half} convolutions: residual blocks have two each"):
        parameters.architecture_of(model, (2, 6, 7))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.clear(), r"the model has arrays \(none\): it needs w1, b1"),
        (lambda m: m.pop("w1"), "it needs w1, b1, gamma1"),
        (lambda m: m.pop("w2"), "it needs w1, b1, gamma1"),
        (lambda m: [m.pop("w1"), m.pop("w2")], "it needs w1, b1, gamma1"),
        (lambda m: m.pop("running_var2"), "the model has no array running_var2"),
        (lambda m: m.update(gamma1=np.ones(4)), r"gamma1 has shape \(4,\); images of \(2, 6, 7\) need \(3,\)"),
        (lambda m: m.update(b1=np.ones((3, 1))), r"b1 has shape \(3, 1\)"),
        (lambda m: m.update(w3=np.ones((5, 5))), r"w3 has shape \(5, 5\); images of \(2, 6, 7\) need \(36, 5\)"),
        (lambda m: m.update(w1=np.ones((0, 2, 3, 3))), r"w1 has shape \(0, 2, 3, 3\): no axis may be empty"),
        (lambda m: m.update(w1=np.float64(1)), r"w1 has shape \(\); it must have 4 axes"),
        (lambda m: m.update(w3=np.ones(36)), r"w3 has shape \(36,\); it must have 2 axes"),
        (lambda m: m.update(residual=np.ones(())), r"w1 has shape \(3, 2, 3, 3\); images of \(2, 6, 7\) need \(4, 2"),
        (lambda m: m.update(global_pool=np.ones(())), r"w3 has shape \(36, 5\); images of \(2, 6, 7\) need \(4, 5\)"),
        (lambda m: m.update(pool=np.ones(3)), "pool speaks of 3 blocks, but there are 2"),
        (lambda m: m.update(pool=np.zeros(2)), r"w3 has shape \(36, 5\); images of \(2, 6, 7\) need \(440, 5\)"),
    ],
)
def test_arrays_that_are_no_model_are_refused(change: Callable[[dict[str, np.ndarray]], object], message: str) -> None:
    model = single()
    change(model)
    with pytest.raises(InputError, match=message):
        parameters.architecture_of(model, (2, 6, 7))


def test_a_model_of_other_images_is_refused() -> None:
    with pytest.raises(InputError, match=r"w1 has shape \(3, 2, 3, 3\); images of \(1, 6, 7\) need \(3, 1, 3, 3\)"):
        parameters.architecture_of(single(), (1, 6, 7))


@pytest.mark.parametrize("missing", ["p4", "w4", "running_mean3"])
def test_a_residual_model_without_an_array_is_refused(missing: str) -> None:
    model = single(Architecture((2, 6, 7), (2, 3), 5, residual=True))
    del model[missing]
    with pytest.raises(InputError, match=f"the model has (no array {missing}|arrays w1, .*: it needs)"):
        parameters.architecture_of(model, (2, 6, 7))


def test_take_keeps_trials_in_the_asked_order() -> None:
    model = parameters.initial_model(SMALL, TRIALS)
    taken = parameters.take(model, [1, 0])
    np.testing.assert_array_equal(taken["w1"], model["w1"][[1, 0]])
    assert all(values.shape[0] == 0 for values in parameters.take(model, []).values())
