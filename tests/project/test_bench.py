"""The benchmark's peers compute what we do, and its report tells what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import cpu, gpu, gpu_peers, peers
from core.backends import registry as backends
from core.backends.reference.backend import OPS as REFERENCE
from core.config.settings import Settings

ROWS = [
    cpu.Row(
        "a",
        "some work",
        2,
        4,
        9,
        {cpu.OURS: [1.0, 2.0, 3.0], "PyTorch eager": [9.0] * 3, "PyTorch compiled": [5.0] * 3},
    ),
    cpu.Row("b", "other work", 3, 4, 1, {cpu.OURS: [1.0, 1.0], "PyTorch eager": [2.5, 2.5]}),
    cpu.Row("c", "work without a peer", 3, 4, 1, {cpu.OURS: [1.0, 1.0]}),
]


def test_a_ratio_is_the_best_peers_median_over_ours() -> None:
    assert [row.ratio for row in ROWS] == [2.5, 2.5, None]


def test_the_table_says_which_promise_is_not_kept() -> None:
    _, first, second, third = cpu.show(ROWS).splitlines()
    assert "2.50" in first
    assert "NOT MET" not in first
    assert second.endswith("NOT MET")
    assert "NOT MET" not in third


def test_the_results_tell_spread_and_circumstances(tmp_path: Path) -> None:
    result = cpu.as_json(ROWS, backends.load("reference"))
    assert result["device"]
    assert result["threads"] >= 1
    spread = result["rows"][0]["seconds_per_trial_step"][cpu.OURS]
    assert (spread["median"], spread["n"]) == (2.0, 3)
    assert spread["quartile_1"] < 2.0 < spread["quartile_3"]
    cpu.draw(ROWS, tmp_path / "rows.png")
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")


def test_the_reports_loops_compute_our_block() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((5, 2, 7, 6)), rng.standard_normal((4, 2, 3, 3))
    b, gamma, beta = rng.standard_normal((3, 4))
    y, saved = peers._report_block(x, w, b, gamma, beta, 2)
    expected, _, _, kept = REFERENCE.block(x[None], w[None], b[None], gamma[None], beta[None])
    np.testing.assert_allclose(y, expected[0], rtol=1e-9, atol=1e-9)
    dy = rng.standard_normal(y.shape)
    for mine, theirs in zip(
        peers._report_block_gradient(dy, *saved), REFERENCE.block_grad(dy[None], kept), strict=False
    ):
        assert theirs is not None
        np.testing.assert_allclose(mine, theirs[0], rtol=1e-9, atol=1e-9)


def test_a_step_of_each_side_trains() -> None:
    settings = Settings(filters="3x4", batch_size=16, dropout=0.5)
    pixels, labels = cpu.random_images((1, 8, 8), 40)
    peers.report_step(cpu.architecture_of((1, 8, 8), settings), settings, pixels, labels)()
    cpu.our_step(backends.load("reference"), (1, 8, 8), cpu.grid(settings, 2))()


@pytest.mark.slow("loads PyTorch")
def test_pytorch_shifts_and_mirrors_as_we_do() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    x = torch.arange(2 * 1 * 4 * 5, dtype=torch.float32).reshape(2, 1, 4, 5) + 1
    same = peers._flipped_and_cropped(x, Settings(flip=0.0, crop=0))
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(peers._flipped_and_cropped(x, Settings(flip=1.0, crop=0)), x.flip(3))
    moved = peers._flipped_and_cropped(x, Settings(flip=0.0, crop=2))
    padded = np.pad(np.asarray(x), ((0, 0), (0, 0), (2, 2), (2, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (4, 5), axis=(2, 3))
    assert all((windows[n, 0] == np.asarray(moved[n, 0])).all(axis=(2, 3)).any() for n in range(2))


@pytest.mark.slow("loads PyTorch")
def test_pytorchs_step_runs_in_its_plain_modes() -> None:
    pytest.importorskip("torch")
    settings = Settings(filters="3x4", batch_size=16, dropout=0.5, crop=1, flip=0.5)
    for mode in peers.MODES[:2]:
        architecture = cpu.architecture_of((1, 8, 8), settings)
        peers.torch_step(architecture, settings, *cpu.random_images((1, 8, 8), 40), mode)()


@pytest.mark.slow("loads PyTorch")
def test_the_peers_of_the_gpu_train_on_a_cpu_as_well() -> None:
    """But for CUDA graphs, which only a GPU has."""
    pytest.importorskip("torch")
    settings = Settings(filters="3x4", batch_size=16, dropout=0.5)
    architecture, pictures = cpu.architecture_of((1, 8, 8), settings), cpu.random_images((1, 8, 8), 40)
    for peer in (gpu_peers.eager, gpu_peers.data_loader):
        peer(architecture, settings, *pictures, device="cpu")()
    gpu_peers.grouped(architecture, cpu.grid(settings, 3), *pictures, device="cpu")()


def test_the_floor_counts_the_products_and_bytes_of_a_step() -> None:
    shape = cpu.architecture_of((3, 32, 32), Settings(filters="32x32"))
    assert 9 * gpu.operations(shape, 128) == pytest.approx(24.5e9, rel=0.05)
    assert 9 * gpu.traffic(shape, 128) == pytest.approx(0.72e9, rel=0.2)


def test_the_gpus_table_says_what_was_promised() -> None:
    steps = {"group of 9": {cpu.OURS: [1e-4], "eager": [13e-4], "compiled": [2e-4]}}
    growth = [{"trials": 1, "batch": 128, "seconds": 1e-4, "bytes": 2**20}]
    result = {"grid": {"16x32": 10.0, "32x32": 20.0}, "seconds_per_trial_step": steps, "share": 0.4, "growth": growth}
    result["epochs"] = 20
    table = gpu.show(result).splitlines()
    assert "30.0 s" in table[0]
    assert "NOT MET" not in table[0]
    assert "aim met" in table[2]
    assert "NOT MET" in table[3]
    fewer = gpu.show(result | {"epochs": 1, "share": None})
    assert "27-trial grid, 1 epochs" in fewer
    assert "most 45" not in fewer
    assert "share of the floor" not in fewer
