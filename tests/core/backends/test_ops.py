"""The table of operations against central differences, against float64, and against themselves trial by trial."""

from __future__ import annotations

import os
from collections.abc import Iterator
from inspect import signature

import numpy as np
import pytest

from core.backends.reference.backend import OPS as REFERENCE
from core.backends.registry import BACKENDS, choose_device
from core.ops import Ops
from tests.helpers.backends import FAST, GPU, loaded
from tests.helpers.cases import (
    CASES,
    EPSILON,
    Arrays,
    Case,
    Inputs,
    T,
    cotangent,
    float32_errors,
    on_device,
    worst_excess,
)
from tests.helpers.gradcheck import random_direction, slope

REFERENCE_ERROR = 12 * EPSILON  # what the reference may err in float32

each_case = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.fixture(params=["reference", *FAST])
def ops(request: pytest.FixtureRequest) -> Iterator[Ops]:
    """Each backend that can run on this machine."""
    with np.errstate(all="ignore"):  # some tests feed NaN
        yield loaded(request.param)


def precision(ops: Ops) -> type:
    """The type that a backend's own operations compute in: the fast ones leave float64 to the reference."""
    return np.float64 if ops.name == "reference" else np.float32


def rounding(ops: Ops, case: Case) -> float:
    """By how much a trial may differ from group to group: not at all where a CPU computes it with its own kernels."""
    borrowed = ops.name == "cpu" and getattr(ops, case.operation) is getattr(REFERENCE, case.operation)
    plain = case.operation == "conv2d" and case.inputs["w"].shape[-1] > 1  # which the CPU leaves to the reference
    return 1e-5 if ops.name == "gpu" or borrowed or (ops.name == "cpu" and plain) else 0


def same(got: Arrays, expected: Arrays, tolerance: float) -> None:
    for name, values in expected.items():
        assert got[name].dtype == values.dtype
        np.testing.assert_allclose(got[name], values, rtol=tolerance, atol=tolerance, err_msg=name)


def per_trial(case: Case, results: Arrays, trials: list[int]) -> Arrays:
    """Those trials' part of the results; not the gradients of shared inputs, which are sums over trials."""
    sums = {f"d{name}" for name in case.shared}
    return {name: values[trials] for name, values in results.items() if name not in sums}


def poisoned(case: Case, trial: int) -> Inputs:
    """The inputs with NaN in all that one trial has of its own."""
    inputs = {name: value.copy() if name in case.own else value for name, value in case.inputs.items()}
    for name in case.own:
        if name != "seed":
            inputs[name][trial] = np.nan
    return inputs


def test_every_backend_is_tested(request: pytest.FixtureRequest) -> None:
    tested = {"reference", "cpu", *GPU.values}  # and the GPU's on a CPU
    assert tested == set(BACKENDS) - {"auto"}


def test_every_operation_is_in_the_table() -> None:
    fields = [name for name in vars(REFERENCE) if callable(getattr(REFERENCE, name))]
    others = {"to_host", "update", "map_trials", "make_step", "step_memory", "free_memory", "max_processes"}
    computing = {name for name in fields if name not in others and not name.endswith("_grad")}
    assert {case.operation for case in CASES} == computing
    assert {case.operation for case in CASES if case.wanted} == {
        n.removesuffix("_grad") for n in fields if "_grad" in n
    }


def test_processes_on_a_cpu_share_it_and_on_gpus_have_one_each(ops: Ops) -> None:
    assert ops.processes_share_device == (ops.process_resource == "threads") == (ops.name != "gpu")
    assert ops.measure_group_size == (ops.name == "cpu")
    assert 1 <= ops.device_count <= ops.max_processes()
    assert ops.processes_share_device or ops.device_count == ops.max_processes()


@pytest.mark.parametrize(
    ("visible", "number", "expected"), [(None, 2, "2"), ("", 0, "0"), ("5", 0, "5"), ("3,GPU-8f,0", 1, "GPU-8f")]
)
def test_a_process_sees_the_gpu_of_its_number(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, number: int, expected: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for name in ("cpu", "reference"):
        choose_device(name, number)
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible
    choose_device("gpu", number)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


def test_backends_have_the_signatures_of_the_reference(ops: Ops) -> None:
    for name, operation in vars(ops).items():
        if callable(operation) and name != "to_host":
            assert signature(operation) == signature(getattr(REFERENCE, name)), name


@pytest.mark.parametrize(("case", "name"), [pytest.param(c, n, id=f"{c}-{n}") for c in CASES for n in c.wanted])
def test_gradient_is_the_slope_of_the_loss(case: Case, name: str) -> None:
    gradient = case.run(REFERENCE, case.inputs)[f"d{name}"]
    x = case.inputs[name]
    assert gradient.shape == x.shape

    def loss(values: np.ndarray) -> float:
        y = case.forward(REFERENCE, {**case.inputs, name: values})[0][case.outputs[0]]
        return float((y * cotangent(y)).sum())

    for trial in range(len(x)):
        direction = random_direction(x.shape, trial)
        assert (gradient * direction).sum() == pytest.approx(slope(loss, x, direction), rel=1e-6, abs=1e-7)


@each_case
def test_the_reference_errs_little_in_float32(case: Case) -> None:
    for name, error in float32_errors(case, REFERENCE).items():
        assert error <= REFERENCE_ERROR, name


@each_case
def test_a_backend_errs_little_in_float32(ops: Ops, case: Case) -> None:
    assert worst_excess(case, ops) <= 1


@each_case
def test_a_trial_alone_equals_the_trial_in_a_group(ops: Ops, case: Case) -> None:
    together = case.run(ops, case.inputs, precision(ops))
    singles = [case.run(ops, case.alone(trial), precision(ops)) for trial in range(T)]
    for trial in range(T):
        same(per_trial(case, singles[trial], [0]), per_trial(case, together, [trial]), rounding(ops, case))
    for name in [f"d{name}" for name in case.shared if name in case.wanted]:
        total = np.concatenate([single[name] for single in singles]).sum(axis=0, keepdims=True)
        same(together, {name: total}, 0 if ops is REFERENCE else 1e-5)


@each_case
def test_the_order_of_trials_is_the_order_of_results(ops: Ops, case: Case) -> None:
    order = [2, 0, 1]
    together = case.run(ops, case.inputs, precision(ops))
    arranged = case.run(ops, case.arranged(order), precision(ops))
    same(per_trial(case, arranged, [0, 1, 2]), per_trial(case, together, order), rounding(ops, case))


@pytest.mark.parametrize("case", [case for case in CASES if case.operation != "augment"], ids=str)  # x is shared there
def test_nan_stays_in_its_trial(ops: Ops, case: Case) -> None:
    results = case.run(ops, poisoned(case, 1), precision(ops))
    assert np.isnan(results[case.outputs[0]][1]).all()
    healthy = case.run(ops, case.inputs, precision(ops))
    same(per_trial(case, results, [0, 2]), per_trial(case, healthy, [0, 2]), rounding(ops, case))


@pytest.mark.parametrize("case", [case for case in CASES if case.operation in ("conv2d", "block")], ids=str)
def test_the_first_layer_needs_no_gradient_of_its_input(ops: Ops, case: Case) -> None:
    outputs, saved = case.forward(ops, on_device(ops, case.inputs, precision(ops)))
    others = case.gradients(ops, ops.xp.asarray(cotangent(outputs["y"]), dtype=precision(ops)), saved, need_dx=False)
    everything = case.run(ops, case.inputs, precision(ops))
    expected = {f"d{name}": everything[f"d{name}"] for name in case.wanted if name != "x"}
    same(others, expected, 0 if ops is REFERENCE else 1e-5)


@pytest.mark.parametrize("case", [case for case in CASES if case.operation == "block"], ids=str)
def test_the_gradient_of_a_shortcut_comes_last_and_trial_by_trial(ops: Ops, case: Case) -> None:
    outputs, saved = case.forward(ops, on_device(ops, case.inputs, precision(ops)))
    dx, *_, dshortcut = ops.block_grad(
        ops.xp.asarray(cotangent(outputs["y"]), dtype=precision(ops)), saved, need_dx=False
    )
    assert dx is None
    if "shortcut" in case.inputs:
        assert dshortcut.shape == (T, *case.inputs["shortcut"].shape[1:])
    else:
        assert dshortcut is None
