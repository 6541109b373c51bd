"""The comparison of initialisations: its numbers, its picture, and python -m core.figures init-study."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core import figures
from core.backends import registry as backends
from core.backends.reference import plain
from core.config.architecture import Architecture
from core.config.settings import Settings
from core.config.training import INITIALS
from core.errors import InputError
from core.figures.__main__ import main
from core.machine import threads
from core.machine.hardware import available_cores
from core.network.init_study import BINS, InitStudy, init_study, network_study
from core.network.parameters import initial_model
from core.random import Purpose, normal
from tests.conftest import small_images

ROOT = Path(__file__).resolve().parents[3]
WIDTH = 64
HE, XAVIER, NORMAL = range(3)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Noise: neighbouring pixels tell nothing of each other, as the theory assumes."""
    return np.random.default_rng(0).normal(size=(1, 8, 3, 24, 24))


@pytest.fixture(scope="module")
def study(images: np.ndarray) -> InitStudy:
    return init_study(backends.load(), images, width=WIDTH)


def factor(spread: np.ndarray) -> float:
    """What a layer does to the spread, on average over layers 2 to 8."""
    return float(spread[-1] / spread[0]) ** (1 / 7)


def test_he_keeps_the_spread(study: InitStudy) -> None:
    """Half of a centred normal number's square is above 0, its mean there sqrt(1/2pi): layer 1 has sqrt(2) of it."""
    assert study.schemes[HE] == "he"
    assert study.std[HE, 0] == pytest.approx(np.sqrt(2 * (0.5 - 1 / (2 * np.pi))), rel=0.1)
    ratio = study.std[HE] / study.std[HE, 0]
    assert ratio.min() > 0.5
    assert ratio.max() < 2


def test_xavier_shrinks_it_by_the_square_root_of_2(study: InitStudy) -> None:
    """It leaves out that ReLU takes half: from layer 2, fan-in equals fan-out and its variance is half that of He."""
    assert study.schemes[XAVIER] == "xavier"
    assert factor(study.std[XAVIER]) == pytest.approx(1 / np.sqrt(2), rel=0.1)
    first = np.sqrt(3 / (3 + WIDTH))  # 2 / (fan-in + fan-out) over 2 / fan-in
    expected = study.std[HE] * first * 0.5 ** (np.arange(8) / 2)
    np.testing.assert_allclose(study.std[XAVIER], expected, rtol=1e-4)


def test_small_normal_numbers_let_it_collapse(study: InitStudy) -> None:
    """A mean square m becomes 9 * WIDTH * 0.01**2 * m before ReLU, half of that after it."""
    assert study.schemes[NORMAL] == "normal"
    predicted = 0.01 * np.sqrt(9 * WIDTH / 2)
    assert factor(study.std[NORMAL]) == pytest.approx(predicted, rel=0.1)
    first = 0.01 * np.sqrt(9 * 3 / 2)
    np.testing.assert_allclose(study.std[NORMAL], study.std[HE] * first * predicted ** np.arange(8), rtol=1e-4)
    assert (study.shares[NORMAL, 1:, 0] == 1).all()
    assert (study.shares[HE, :, 0] < 0.7).all()


def test_the_schemes_are_trials_of_one_pass(images: np.ndarray, study: InitStudy) -> None:
    assert study.std.shape == (3, 8)
    for t, scheme in enumerate(study.schemes):
        alone = init_study(backends.load(), images, width=WIDTH, schemes=[scheme])
        assert alone.schemes == (scheme,)
        np.testing.assert_array_equal(alone.std[0], study.std[t])
        np.testing.assert_array_equal(alone.shares[0], study.shares[t])


def test_every_layer_against_loops(images: np.ndarray) -> None:
    x = images[:, :2, :, :5, :4]
    study = init_study(backends.load(), x * 7 + 30, depth=3, width=2, seed=5)
    out = (x[0] - x.mean()) / x.std()
    for k in range(3):
        shape = (2, out.shape[1], 3, 3)
        w = normal(np.array([5]), Purpose.INITIAL + k, 0, np.prod(shape)).reshape(shape) * np.sqrt(2 / (9 * shape[1]))
        padded, out = np.pad(out, ((0, 0), (0, 0), (1, 1), (1, 1))), np.zeros((2, 2, 5, 4))
        for i in range(5):
            for j in range(4):
                out[:, :, i, j] = np.maximum(np.einsum("nckl,fckl->nf", padded[:, :, i : i + 3, j : j + 3], w), 0)
        assert study.std[HE, k] == pytest.approx(out.std(), rel=1e-5)
        shares = [
            ((out >= low) & (out < high)).mean() for low, high in zip(BINS[:-1], [*BINS[1:-1], np.inf], strict=True)
        ]
        np.testing.assert_allclose(study.shares[HE, k], shares)


@pytest.mark.parametrize(
    "architecture",
    [Architecture((3, 9, 8), (4, 5), 2), Architecture((3, 9, 8), (3, 4), 2, (True, False), residual=True)],
    ids=["report", "residual"],
)
def test_a_networks_own_layers_with_the_weights_it_begins_with(images: np.ndarray, architecture: Architecture) -> None:
    x = images[:, :6, :, :9, :8] * 7 + 30
    study = network_study(backends.load(), x, architecture, seed=3)
    assert study.schemes == INITIALS
    for t, scheme in enumerate(INITIALS):
        model = initial_model(architecture, [Settings(seed=3, initial=scheme)], np.float64)
        out = source = (x - x.mean()) / x.std()
        for k, layer in enumerate(architecture.layers):
            out, _ = plain.conv2d(out, model[f"w{k + 1}"], np.zeros((1, layer.filters)), pad=layer.pad)
            if layer.shortcut:
                p = model.get(f"p{k + 1}")
                out = out + (source if p is None else plain.conv2d(source, p, np.zeros(p.shape[:2]), pad=0)[0])
            out = np.maximum(out, 0)
            assert study.std[t, k] == pytest.approx(out.std(), rel=1e-5)
            assert study.shares[t, k, 0] == pytest.approx((out < BINS[1]).mean(), abs=1e-3)
            out = plain.max_pool(out)[0] if layer.pool > 1 else out
            source = out if layer.ends_block else source


def test_what_is_off_the_scale_is_in_the_last_bin() -> None:
    x = np.zeros((1, 5, 1, 8, 8))
    x[:, :, :, 3, 3] = 1
    study = init_study(backends.load(), x, depth=2)
    assert (study.shares[HE, :, -1] > 0).all()
    np.testing.assert_allclose(study.shares.sum(axis=2), 1)


def test_images_without_contrast_are_refused() -> None:
    with pytest.raises(InputError, match="pixels are all equal"):
        init_study(backends.load(), np.full((1, 5, 1, 8, 8), 3, np.float32))


@pytest.mark.parametrize(("depth", "layers"), [(1, [1]), (8, [*range(1, 9)]), (60, [1, 9, 18, 26, 35, 43, 52, 60])])
def test_the_picture_shows_the_numbers_and_clips_no_text(images: np.ndarray, depth: int, layers: list[int]) -> None:
    study = init_study(backends.load(), images[..., :6, :6], depth=depth, width=8)
    figure = figures.init_study(study, "noise" * 10)
    above, *below = figure.axes
    drawn = {line.get_label().partition("\n")[0]: line.get_ydata() for line in above.lines}
    for name, spread in zip(("He", "Xavier", "small normal"), study.std, strict=True):
        np.testing.assert_array_equal(drawn[name], [1, *spread])
    assert [axes.get_title() for axes in below[: len(layers)]] == [f"layer {layer}" for layer in layers]
    bars = np.array([axes.patches[0].get_data().values for axes in below])
    np.testing.assert_array_equal(bars, study.shares[:, np.array(layers) - 1].reshape(bars.shape))
    assert all(axes.get_xlim()[0] < 0 and axes.get_xlim()[1] == BINS[-1] for axes in below)
    figure.canvas.draw()
    labels = [label.get_text().replace("\u2212", "-") for label in above.get_yticklabels()]
    assert all(float(label) > 0 for label in labels)  # plain numbers
    drawn_on = figure.get_tightbbox()  # in inches; of all that is visible
    assert drawn_on.min.min() >= 0
    assert (drawn_on.max <= figure.get_size_inches()).all()


def test_a_spread_of_zero_is_told(images: np.ndarray) -> None:
    study = init_study(backends.load(), images[..., :6, :6], depth=60, width=8)
    assert study.std[NORMAL, -1] == 0
    legend = figures.init_study(study, "noise").axes[0].get_legend()
    assert legend.get_texts()[-1].get_text() == "small normal\nends at 0"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with small.npz and without CIFAR-10."""
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setenv("SWEEP_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    x, y = small_images(60, 0)
    np.savez(tmp_path / "small.npz", x=x, y=y)
    return tmp_path


SMALL = ("init-study", "--data", "small.npz", "--depth", "2", "--width", "4")


def test_the_command_draws_and_prints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SMALL) == 0
    captured = capsys.readouterr()
    assert (folder / "figures" / "init-study.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert captured.err.startswith("data: small from ")
    path, header, *rows = captured.out.splitlines()
    assert path == "figures/init-study.png"
    assert header.split() == ["layer", "he", "xavier", "normal"]
    x = np.load("small.npz")["x"]
    spread = init_study(backends.load(), x[None], depth=2, width=4).std  # all 60 images: their order changes nothing
    np.testing.assert_allclose([[float(v) for v in row.split()[1:]] for row in rows], spread.T, rtol=0.01)


@pytest.mark.slow("draws the study again and again")
def test_the_options_are_heeded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = []
    for options in (
        (),
        ("--seed", "1"),
        ("--images", "7"),
        ("--width", "5"),
        ("--depth", "3"),
        ("--out", "deep/er/a.SVG"),
    ):
        assert main([*SMALL, *options]) == 0
        tables.append(capsys.readouterr().out.split("\n", 1)[1])
    assert len(set(tables)) == 5
    assert tables[0] == tables[-1]
    picture = (folder / "deep" / "er" / "a.SVG").read_text()
    assert picture.startswith("<?xml")
    assert "<svg" in picture


def test_it_computes_on_as_many_threads_as_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_THREADS", "1")
    assert main(SMALL) == 0
    assert threads.count() == 1
    monkeypatch.setenv("SWEEP_THREADS", "0")
    assert main(SMALL) == 2
    assert main([*SMALL, "--threads", str(available_cores())]) == 0
    assert threads.count() == available_cores()


def test_without_cifar10_it_is_digits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init-study", "--depth", "1", "--width", "2"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("data: digits")
    assert "CIFAR-10 not found" in line


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "nothing to draw: give --run-id"),
        (("portrait",), "invalid choice: 'portrait'"),
        ((*SMALL, "--depth", "0"), "--depth is 0: it must be"),
        ((*SMALL, "--depth", "two"), "--depth: invalid int value: 'two'"),
        ((*SMALL, "--width", "-1"), "--width is -1"),
        ((*SMALL, "--images", "10001"), "--images is 10001: it must be a whole number from 1 to 10000"),
        ((*SMALL, "--seed", "-1"), "seed is -1"),
        ((*SMALL, "--threads", "0"), "threads is 0: it must be"),
        ((*SMALL, "--threads", "one"), "threads is one: it must be"),
        ((*SMALL, "--data", "imagenet"), 'data is "imagenet"'),
        ((*SMALL, "--data", "none.npz"), "no file none.npz"),
        (("init-study", "--data", "cifar10"), "CIFAR-10 is not here"),
        (("init-study", "--data-dir", "nowhere"), "nowhere"),
        ((*SMALL, "--out", "picture.jpg"), "it must end in .png or .svg"),
        ((*SMALL, "--out", "small.npz/a.png"), "small.npz/a.png cannot be written: "),
        ((*SMALL, "--out", "taken.png"), "taken.png cannot be written: Is a directory"),
    ],
)
def test_bad_input_gets_one_clear_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], complaint: str
) -> None:
    (folder / "taken.png").mkdir()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    errors = [line for line in captured.err.splitlines() if not line.startswith("data: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert complaint in errors[0]


def test_pyplot_is_never_loaded(folder: Path) -> None:
    """It would look for a screen, and keep every figure."""
    code = "import sys; from core.figures.__main__ import main; "
    code += f"main({SMALL}); sys.exit('matplotlib.pyplot' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).returncode == 0


def test_the_module_runs_and_a_reader_may_leave(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "core.figures", *SMALL]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    result = subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert result.returncode == 1
    assert result.stderr.startswith("data: small from ")
    assert "Traceback" not in result.stderr
