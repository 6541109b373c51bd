"""Pictures: what they show, that no text is cut off, and python -m core.figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from core.backends import registry as backends
from core.backends.reference import plain
from core.config.architecture import Architecture
from core.config.settings import Settings
from core.data import registry as datasets
from core.data.images import Images
from core.data.pixels import as_input, infer_range
from core.export.model_npz import save_model
from core.figures import images, runs, weights
from core.figures.__main__ import main
from core.figures.model import InputImage, pictures
from core.figures.planes import heat_maps, surface
from core.figures.search import by_value, main_effects, parallel
from core.figures.search import pictures as stage_pictures
from core.figures.style import mosaic
from core.figures.training import overlay
from core.figures.trials import Trial, levels
from core.network.init_study import network_study
from core.network.inspection import feature_maps, probabilities
from core.network.parameters import architecture_arrays, initial_model
from core.tracking.entities import RunInfo
from core.tracking.tracker import Tracker
from sweep.__main__ import main as sweep_main
from tests.conftest import EXPERIMENT, Once, copy_swept, make_swept, small_images

REPORT = Architecture((3, 32, 32), (32, 64), 10)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def complete(figure: Figure) -> bool:
    """Whether all that is drawn lies on the page."""
    figure.canvas.draw()
    drawn_on = figure.get_tightbbox()  # in inches; of all that is visible
    return bool(drawn_on.min.min() >= -0.01 and (drawn_on.max <= figure.get_size_inches() + 0.01).all())


# ------------------------------------------------------------------------------------------------------------ stages


def grid(lrs: Any = (0.01, 0.05, 0.1), regs: Any = (0.001, 0.005, 0.01)) -> list[Trial]:
    """The report's grid, best first; the accuracy tells lr, reg and filters apart; the last never had a finite loss."""
    trials = []
    for i, lr in enumerate(lrs):
        for j, reg in enumerate(regs):
            for k, filters in enumerate(("32x64", "32x32", "16x32")):
                accuracy = 0.9 - 0.1 * i - 0.01 * j - 0.001 * k
                name = f"grid-{len(trials) + 1:02d}"
                trials.append(
                    Trial(name, {"lr": lr, "reg": reg, "filters": filters}, accuracy, [accuracy / 2, accuracy])
                )
    trials[-1] = Trial(trials[-1].name, trials[-1].searched, None, [0.1])
    return trials


def search(count: int = 40) -> list[Trial]:
    """Draws from ranges, one of them conditional."""
    rng = np.random.default_rng(0)
    trials = []
    for number in range(count):
        searched: dict[str, Any] = {"optimiser": ("sgd", "adam")[number % 2], "lr": 10 ** rng.uniform(-4, -0.5)}
        searched["residual"] = bool(number % 3)
        if number % 2:
            searched["beta1"] = rng.uniform(0.5, 0.99)
        trials.append(Trial(f"fine-{number + 1:02d}", searched, 0.9 - number / 100, [0.1, 0.9 - number / 100]))
    return trials


def dropout() -> list[Trial]:
    points = [(0.31, 0.71, False), (0.3, 0.70, True), (0.5, 0.68, True), (0.05, 0.67, False), (0.0, 0.65, True)]
    return [Trial(f"d-{n}", {"dropout": x}, y, [y], fixed) for n, (x, y, fixed) in enumerate(points)]


@pytest.mark.parametrize("trials", [grid(), search(), dropout()], ids=["grid", "search", "dropout"])
def test_no_text_of_a_stage_is_cut_off(trials: list[Trial]) -> None:
    found = stage_pictures(trials, f"stage: {len(trials)} trials on cifar10")
    drawn = {name: draw() for name, draw in found.items()}
    assert [name for name, figure in drawn.items() if not complete(figure)] == []
    title = f"stage: {len(trials)} trials on cifar10"
    assert {figure.get_suptitle().partition("\n")[0] for figure in drawn.values()} == {title}


@pytest.mark.parametrize(
    ("trials", "names"),
    [
        (grid(), {"curves", "main-effects", "parallel", "heat-maps", "surface"}),
        (search(), {"curves", "main-effects", "parallel", "heat-maps", "surface"}),
        (dropout(), {"curves", "by-value"}),
        (dropout()[:1], {"curves"}),
    ],
    ids=["grid", "search", "dropout", "single"],
)
def test_a_stage_has_the_pictures_that_say_something(trials: list[Trial], names: set[str]) -> None:
    assert set(stage_pictures(trials, "")) == names


def test_levels_are_in_their_order() -> None:
    assert levels(grid()) == {
        "lr": [0.01, 0.05, 0.1],
        "reg": [0.001, 0.005, 0.01],
        "filters": ["16x32", "32x32", "32x64"],
    }
    assert levels([Trial("a", {"lr": 0.1}, 1.0, []), Trial("b", {"lr": 0.1}, 1.0, [])]) == {}


def test_all_curves_are_there_and_the_winner_is_bold() -> None:
    trials = grid()
    (axes,) = overlay({trial.name: trial.curve for trial in trials}, "grid-01", "").axes
    assert len(axes.lines) == 27
    bold = axes.lines[-1]
    assert bold.get_linewidth() > max(line.get_linewidth() for line in axes.lines[:-1])
    np.testing.assert_array_equal(bold.get_ydata(), trials[0].curve)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["grid-01", "26 other trials"]


def test_heat_maps_have_every_trial_in_its_place() -> None:
    figure = heat_maps([trial for trial in grid() if trial.accuracy is not None], "")
    *panels, bar = figure.axes
    assert [axes.get_title() for axes in panels] == ["filters 16x32", "filters 32x32", "filters 32x64"]
    for k, axes in enumerate(reversed(panels)):
        assert axes.get_xlabel() == "reg"
        cells = np.ma.filled(axes.images[0].get_array(), np.nan)
        expected = 0.9 - 0.1 * np.arange(3)[:, None] - 0.01 * np.arange(3) - 0.001 * k
        if k == 2:
            expected[2, 2] = np.nan
        np.testing.assert_allclose(cells, expected)
        texts = [text.get_text() for text in axes.texts]
        assert texts == ["\u2013" if np.isnan(value) else f"{value:.4f}" for value in expected.ravel()]
    assert panels[0].get_ylabel() == "lr"
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["0.01", "0.05", "0.1"]
    assert [text.get_text() for text in panels[0].texts if text.get_fontweight() == "bold"] == []
    assert [text.get_text() for text in panels[2].texts if text.get_fontweight() == "bold"] == ["0.9000"]
    assert bar.get_ylabel() == "best validation accuracy"


def test_heat_maps_say_when_one_place_stands_for_several_trials() -> None:
    figure = heat_maps(search(), "")
    assert figure.axes[-1].get_ylabel() == "best validation accuracy\nthe best in each place"
    (axes, _) = figure.axes
    best = {(t.searched["optimiser"], t.searched["residual"]): t.accuracy for t in reversed(search())}
    assert sorted(np.ravel(axes.images[0].get_array())) == pytest.approx(sorted(best.values()))


def test_a_wide_range_has_a_logarithmic_axis_with_plain_numbers() -> None:
    trials = [Trial(f"t-{n}", {"reg": x}, 0.9 - n / 10, [0.5]) for n, x in enumerate((0.0005, 0.01, 0.2))]
    figure = by_value(trials, "")
    figure.canvas.draw()
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    shown = {text.get_text() for text in axes.get_xticklabels(which="both")}
    assert {"0.001", "0.01", "0.1"} <= shown
    assert not any("$" in text for text in shown)


def test_main_effects_are_means_by_level() -> None:
    trials = [trial for trial in grid() if trial.accuracy is not None]
    panels = main_effects(trials, "").axes
    assert [axes.get_xlabel() for axes in panels] == ["lr", "reg", "filters"]
    points, means, star = panels[0].lines
    assert len(points.get_xdata()) == 26
    expected = [np.mean([t.accuracy for t in trials if t.searched["lr"] == lr]) for lr in (0.01, 0.05, 0.1)]
    np.testing.assert_allclose(means.get_ydata(), expected)
    assert (*star.get_xdata(), *star.get_ydata()) == (0, 0.9)


def test_a_range_has_points_and_no_means() -> None:
    panels = {axes.get_xlabel(): axes for axes in main_effects(search(), "").axes if axes.get_xlabel()}
    points, _ = panels["lr"].lines
    np.testing.assert_allclose(points.get_xdata(), np.log10([t.searched["lr"] for t in search()]))
    assert "0.01" in [text.get_text() for text in panels["lr"].get_xticklabels()]
    assert len(panels["beta1"].lines[0].get_xdata()) == 20
    assert len(panels["optimiser"].lines) == 3


def test_the_surface_has_a_colour_for_each_network() -> None:
    trials = [trial for trial in grid() if trial.accuracy is not None]
    (axes,) = surface(trials, "").axes
    named = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert list(named) == ["filters 16x32", "filters 32x32", "filters 32x64", "the best: grid-01"]
    x, y, z = named["filters 32x64"].get_data_3d()
    assert sorted(zip(x, y, strict=True)) == [(i, j) for i in range(3) for j in range(3)]
    np.testing.assert_allclose(z, 0.9 - 0.1 * x - 0.01 * y)
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_zlabel()) == ("lr", "reg", "best validation accuracy")
    assert len(named["filters 16x32"].get_data_3d()[0]) == 8
    assert [float(v[0]) for v in named["the best: grid-01"].get_data_3d()] == [0, 0, 0.9]


def test_parallel_lines_go_through_every_value() -> None:
    trials = search()
    (axes,) = parallel(trials, "").axes
    ticks = [text.get_text() for text in axes.get_xticklabels()]
    assert ticks == ["optimiser", "lr", "residual", "beta1", "best validation\naccuracy"]
    lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
    assert len(lines) == len(trials)
    best = lines[-1]
    assert best.get_linewidth() == 3
    assert best.get_label() == "the best: fine-01"
    assert list(best.get_xdata()) == [0, 1, 2, 3, 4]
    assert best.get_ydata()[3] < 0  # it has no beta1, so it is beside all values there
    assert [text.get_text() for text in axes.texts if text.xy[1] < 0] == ["not set"]
    assert best.get_ydata()[-1] == 1
    rates = np.log10(sorted(t.searched["lr"] for t in trials))
    expected = (np.log10(trials[0].searched["lr"]) - rates[0]) / (rates[-1] - rates[0])
    assert best.get_ydata()[1] == pytest.approx(expected)


def test_fixed_points_are_bars_and_draws_are_points() -> None:
    trials = dropout()
    (axes,) = by_value(trials, "").axes
    heights = {bar.get_x() + bar.get_width() / 2: bar.get_y() + bar.get_height() for bar in axes.patches}
    assert heights == pytest.approx({t.searched["dropout"]: t.accuracy for t in trials if t.fixed})
    drawn, best = axes.lines
    assert list(drawn.get_xdata()) == [0.31, 0.05]
    assert list(drawn.get_ydata()) == [0.71, 0.67]
    assert best.get_label() == "the best: dropout 0.31, 0.7100"
    assert axes.get_xlabel() == "dropout"


# ------------------------------------------------------------------------------------------------------------ models


def model(architecture: Architecture, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = initial_model(architecture, [Settings(seed=seed)])
    for name in arrays:  # as if trained
        arrays[name] = (arrays[name] + 0.1 * rng.random(arrays[name].shape)).astype(np.float32)
    return {name: values[0] for name, values in arrays.items()} | architecture_arrays(architecture)


def seen(architecture: Architecture, count: int = 60) -> Images:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (count, *architecture.input_shape), np.uint8)
    return Images(pixels, rng.integers(0, architecture.classes, count), 1 / 255)


@pytest.fixture(scope="module")
def drawn() -> dict[str, Figure]:
    known = seen(REPORT)
    shown = InputImage(known.pixels[3] / np.float32(255), "validation image 3", int(known.labels[3]))
    history = [
        {f"{part}_{q}": 1 / (n + 1) for part in ("train", "val") for q in ("loss", "accuracy")} for n in range(3)
    ]
    given = (backends.load(), model(REPORT), known, CLASSES, shown, infer_range(known.pixels))
    found = pictures(*given, of="images of cifar10", history=history, best_epoch=2)
    return {name: draw() for name, draw in found.items()}


def test_all_pictures_of_a_model_are_there_and_complete(drawn: dict[str, Figure]) -> None:
    names = ["curves", "filters-conv1", "filters-conv2", "biases", "batch-norm", "linear", "image", "maps-conv1"]
    names += ["maps-pool1", "maps-conv2", "maps-pool2", "probabilities", "confusion", "mistakes"]
    assert list(drawn) == names
    assert [name for name, figure in drawn.items() if not complete(figure)] == []


def test_curves_mark_the_best_epoch(drawn: dict[str, Figure]) -> None:
    for axes in drawn["curves"].axes:
        train, validation, best = axes.lines
        np.testing.assert_allclose(train.get_ydata(), [1, 1 / 2, 1 / 3])
        assert list(validation.get_xdata()) == [1, 2, 3]
        assert list(best.get_xdata()) == [2, 2]
        assert best.get_label() == "best epoch, 2"


def test_a_mosaic_has_every_tile_in_its_place() -> None:
    tiles = np.arange(5 * 2 * 3).reshape(5, 2, 3)
    sheet = mosaic(tiles, 2)
    assert sheet.shape == (3 * 3 - 1, 2 * 4 - 1)
    for number, tile in enumerate(tiles):
        top, left = 3 * (number // 2), 4 * (number % 2)
        np.testing.assert_array_equal(sheet[top : top + 2, left : left + 3], tile)
    assert np.isnan(sheet).sum() == sheet.size - tiles.size


def test_the_first_filters_are_in_colour_and_others_by_their_first_channel(drawn: dict[str, Figure]) -> None:
    arrays = model(REPORT)
    sheet = drawn["filters-conv1"].axes[0].images[0].get_array()
    assert sheet.shape[2] == 3
    w1 = arrays["w1"]
    np.testing.assert_allclose(sheet[4:7, 4:7], 0.5 + w1[9].transpose(1, 2, 0) / (2 * np.abs(w1).max()), atol=1e-6)
    axes, bar = drawn["filters-conv2"].axes
    sheet = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_array_equal(sheet[:3, 4:7], arrays["w2"][1, 0])
    assert bar.get_ylabel() == "weight"
    assert [text.get_text() for text in axes.get_yticklabels()] == ["1", "9", "17", "25", "33", "41", "49", "57"]


def test_bars_show_biases_gamma_and_beta(drawn: dict[str, Figure]) -> None:
    arrays = model(REPORT)
    for number, axes in enumerate(drawn["biases"].axes, start=1):
        np.testing.assert_allclose([bar.get_height() for bar in axes.patches], arrays[f"b{number}"], rtol=1e-6)
    assert [text.get_text() for text in axes.get_xticklabels()] == list(CLASSES)
    names = ["gamma1", "beta1", "gamma2", "beta2"]
    for name, axes in zip(names, drawn["batch-norm"].axes, strict=True):
        np.testing.assert_allclose([bar.get_height() for bar in axes.patches], arrays[name], rtol=1e-6)
        assert axes.get_ylabel() == name


def test_biases_that_batch_norm_holds_at_zero_are_explained() -> None:
    arrays = model(REPORT) | {"b1": np.full(32, 1e-9, np.float32)}
    first, second, _ = weights.biases(arrays, 2, CLASSES).axes
    assert "batch norm" in first.texts[0].get_text()
    assert not second.texts


def test_the_linear_layer_is_classes_by_features(drawn: dict[str, Figure]) -> None:
    axes = drawn["linear"].axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), model(REPORT)["w3"].T)
    assert [text.get_text() for text in axes.get_yticklabels()] == list(CLASSES)
    assert axes.get_xlabel() == "feature: 81 pixels of each of 64 channels"


RESIDUAL = Architecture((1, 9, 8), (3, 4), 5, (True, False), residual=True, global_pool=True)


@pytest.mark.parametrize("architecture", [REPORT, RESIDUAL], ids=["report", "residual"])
def test_feature_maps_are_those_of_the_forward_pass(architecture: Architecture) -> None:
    """Against a training-mode pass of the reference whose batch statistics are given to the model as running ones."""
    x = seen(architecture, 6).batch(slice(None), np.float64)[0]
    arrays = {name: values[None].astype(float) for name, values in model(architecture).items()}
    source, expected = x, {}
    for layer in architecture.layers:
        i = layer.number
        z, _ = plain.conv2d(x, arrays[f"w{i}"], arrays[f"b{i}"], pad=layer.pad)
        expected[f"conv{i}"] = z[0, 2]
        norm, mean, variance, _ = plain.batch_norm(z, arrays[f"gamma{i}"], arrays[f"beta{i}"])
        arrays[f"running_mean{i}"], arrays[f"running_var{i}"] = mean, variance
        if layer.shortcut == "projection":
            p = arrays[f"p{i}"]
            norm = norm + plain.conv2d(source, p, np.zeros(p.shape[:2]), pad=0)[0]
        elif layer.shortcut:
            norm = norm + source
        x, _ = plain.relu(norm)
        if layer.pool > 1:
            x, _ = plain.max_pool(x)
        expected[f"{'pool' if layer.pool > 1 else 'relu'}{i}"] = x[0, 2]
        source = x if layer.ends_block else source
    image = seen(architecture, 6).batch(slice(2, 3))[0]
    single = {name: values.astype(np.float32) for name, values in arrays.items()}
    found = feature_maps(backends.load(), architecture, single, image)
    assert list(found) == list(expected)
    for name, maps in found.items():
        np.testing.assert_allclose(maps, expected[name], rtol=1e-3, atol=1e-3, err_msg=name)


def test_maps_and_probabilities_are_drawn_as_computed(drawn: dict[str, Figure]) -> None:
    known, backend = seen(REPORT), backends.load()
    on_device = {name: values[None] for name, values in model(REPORT).items()}
    maps = feature_maps(backend, REPORT, on_device, known.batch(slice(3, 4))[0])
    sheet = np.ma.filled(drawn["maps-pool2"].axes[0].images[0].get_array(), np.nan)
    np.testing.assert_allclose(sheet[10:19, 20:29], maps["pool2"][10], rtol=1e-5)
    values = probabilities(backend, REPORT, on_device, known)
    np.testing.assert_allclose(values.sum(axis=1), 1)
    (axes,) = drawn["probabilities"].axes
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], values[3], atol=1e-6)
    assert axes.get_legend().get_texts()[0].get_text() == f"true class: {CLASSES[known.labels[3]]}"


def test_confusion_and_mistakes_count_the_same(drawn: dict[str, Figure]) -> None:
    known = seen(REPORT)
    on_device = {name: values[None] for name, values in model(REPORT).items()}
    values = probabilities(backends.load(), REPORT, on_device, known)
    guesses = values.argmax(axis=1)
    counts = np.zeros((10, 10), int)
    for label, guess in zip(known.labels, guesses, strict=True):
        counts[label, guess] += 1
    axes = drawn["confusion"].axes[0]
    assert [int(text.get_text()) for text in axes.texts] == list(counts.ravel())
    assert drawn["confusion"].get_suptitle() == f"60 images of cifar10: {(guesses == known.labels).mean():.4f} right"
    wrong = sorted(np.flatnonzero(guesses != known.labels), key=lambda k: -values[k].max())[:24]
    titles = [axes.get_title() for axes in drawn["mistakes"].axes[:24]]
    assert titles == [f"{CLASSES[known.labels[k]]}\n\u2192 {CLASSES[guesses[k]]} {values[k].max():.2f}" for k in wrong]
    picture = drawn["mistakes"].axes[0].images[0].get_array()
    np.testing.assert_allclose(picture, known.pixels[wrong[0]].transpose(1, 2, 0) / 255, rtol=1e-5)


def test_images_with_an_offset_are_drawn_from_their_black_to_their_white() -> None:
    architecture = Architecture((1, 8, 8), (2,), 3)
    grey = np.random.default_rng(0).integers(100, 150, (9, 1, 8, 8))
    grey[0, 0, 0, :2] = 0, 255
    x = 1000 + grey / 255
    pixel_range = infer_range(x)
    assert pixel_range.offset
    known = Images(as_input(x, pixel_range.offset), np.arange(9) % 3, pixel_range.scale)
    shown = InputImage(known.batch(slice(3, 4))[0][0, 0], "image 3", 0)
    found = pictures(backends.load(), model(architecture), known, "abc", shown, pixel_range, of="images")
    drawn = {axes.get_xlabel(): axes.images[0] for axes in found["mistakes"]().axes if axes.images}
    assert drawn
    drawn["image 3"] = found["image"]().axes[0].images[0]
    for name, image in drawn.items():
        np.testing.assert_allclose(image.get_array(), grey[int(name.split()[1]), 0] / 255, atol=1e-4)
        assert image.get_clim() == (0, 1)


def test_a_model_without_mistakes_is_told_so() -> None:
    figure = images.mistakes(np.zeros((0, 1, 4, 4)), np.zeros(0, int), np.zeros((0, 2)), np.zeros(0, int), "ab", "")
    assert "every image is classified rightly" in figure.texts[-1].get_text()
    assert complete(figure)


def test_long_and_odd_names_of_classes_do_not_break_pictures() -> None:
    classes = ("a_$b^{c", "<b>" * 8, "\\frac" * 4)
    assert complete(images.confusion(np.eye(3, dtype=int), classes, ""))
    assert complete(images.probabilities(np.array([0.2, 0.3, 0.5]), classes, None, ""))


# --------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def swept(project: Path, once: Once, empty_store: Path) -> dict[str, Any]:
    """Both stages of a sweep with pictures, as --json tells of them."""
    options = ("--points", "named", "--figures", "all")
    stages = copy_swept(once("drawn", lambda folder: make_swept(folder, empty_store, *options)), project)
    return {stage["stage"]: stage for stage in stages}


def artifacts(run: RunInfo, name: str = "history.csv") -> set[str]:
    folder = Tracker().artifacts.path(run, name).parent
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}


@pytest.mark.slow("draws all pictures of a sweep")
def test_stages_and_their_winners_have_pictures_in_mlflow(swept: dict[str, Any]) -> None:
    tracker = Tracker()
    stages = [tracker.lookup.find(swept[name]["run_id"]) for name in ("grid", "dropout")]
    grid_, dropout_ = (artifacts(stage, "summary.csv") for stage in stages)
    every = {"figures/curves.png", "figures/activation-spread.png"}
    assert grid_ == every | {f"figures/{n}.png" for n in ("main-effects", "parallel", "heat-maps")}
    assert dropout_ == every | {"figures/by-value.png"}
    for row in swept["grid"]["trials"]:
        names = artifacts(tracker.lookup.find(row["run_id"]))
        assert "curves.png" in names
        assert ("figures/confusion.png" in names) == (row["rank"] == 1)
    sources = {row["dropout"]: tracker.lookup.find(row["run_id"]).tags["source"] for row in swept["dropout"]["trials"]}
    assert {value for value, source in sources.items() if source == "point"} == {0.0, 0.5}
    assert sorted(sources.values()) == ["point"] * 2 + ["random"] * 3


@pytest.mark.slow("draws all pictures of a sweep")
def test_a_stage_shows_how_its_winners_network_begins(swept: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tracker, found, backend = Tracker(), datasets.load("small.npz"), backends.load()
    winner = tracker.lookup.find(swept["grid"]["winner"]["run_id"])
    figure = runs.of_beginning(tracker, winner, backend, found)["activation-spread"]()
    network, seed = winner.params["filters"], int(winner.params["seed"])
    assert figure.get_suptitle() == (
        f"Activations by layer before training: network {network}, without its batch normalisation\n"
        "48 training images of small"
    )
    assert complete(figure)
    shape = Architecture((1, 6, 7), tuple(map(int, network.split("x"))), 3)
    x = found.split(1).x_train[None].astype(np.float32) * found.scale
    study = network_study(backend, x, shape, seed)
    drawn = {line.get_label().partition("\n")[0]: line.get_ydata() for line in figure.axes[0].lines}
    np.testing.assert_allclose(drawn["He"], [1, *study.std[0]], rtol=1e-5)
    monkeypatch.setattr(runs, "VALUES", 5 * max(map(np.prod, shape.conv_shapes)) + 1)
    few = runs.of_beginning(tracker, winner, backend, found)["activation-spread"]()
    assert few.get_suptitle().endswith("\n5 training images of small")


@pytest.mark.slow("draws all pictures of a sweep")
def test_images_without_contrast_do_not_keep_a_stage_from_its_end(project: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SWEEP_FIGURES", "all")
    x, y = small_images(60, 0)
    np.savez(project / "small.npz", x=np.full_like(x, 7), y=y)
    assert sweep_main(["run", "small", "--stage", "grid", "--quiet", "--json"]) == 0
    stage = json.loads(capsys.readouterr().out)["stages"][0]
    names = artifacts(Tracker().lookup.find(stage["run_id"]), "summary.csv")
    assert "figures/curves.png" in names
    assert "figures/activation-spread.png" not in names


@pytest.mark.slow("draws all pictures of a sweep")
def test_the_command_draws_a_trial(swept: dict[str, Any], project: Path, capsys) -> None:
    best = swept["grid"]["winner"]
    assert main(["--run-id", best["run_id"][:9]]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert {path.parent for path in paths} == {Path("figures") / f"{best['trial']}-{best['run_id'][:8]}"}
    assert {path.suffix for path in paths} == {".png", ".svg"}
    assert all(path.read_bytes()[:5] == {".png": b"\x89PNG\r", ".svg": b"<?xml"}[path.suffix] for path in paths)
    first = paths[0].read_bytes()
    assert main(["--run-id", best["run_id"], "--out", "again", "--format", "png"]) == 0
    assert {path.name for path in Path("again").iterdir()} == {path.name for path in paths if path.suffix == ".png"}
    assert (Path("again") / paths[0].name).read_bytes() == first


@pytest.mark.slow("draws all pictures of a sweep")
def test_the_command_draws_a_stage_with_its_fixed_points(swept: dict[str, Any], capsys) -> None:
    assert main(["--run-id", swept["dropout"]["run_id"], "--format", "svg", "--out", "s"]) == 0
    assert capsys.readouterr().out.splitlines() == ["s/curves.svg", "s/by-value.svg"]
    assert "fixed points" in (Path("s") / "by-value.svg").read_text()


@pytest.mark.slow("draws all pictures of a sweep")
def test_the_way_of_another_image_or_of_ones_own_is_drawn(swept: dict[str, Any], project: Path, capsys) -> None:
    run = swept["grid"]["winner"]["run_id"]
    Image.fromarray(np.full((20, 30, 3), 200, np.uint8)).save("mine.png")
    drawn = []
    for image in ("0", "1", "mine.png"):
        assert main(["--run-id", run, "--image", image, "--format", "png", "--out", "o"]) == 0
        drawn.append({name: (Path("o") / f"{name}.png").read_bytes() for name in ("image", "maps-conv1", "biases")})
    assert capsys.readouterr().err == "mine.png: black is read as 0 and white as 255, as in the data\n"
    for name, different in (("image", 3), ("maps-conv1", 3), ("biases", 1)):
        assert len({pictures[name] for pictures in drawn}) == different


def test_a_model_file_is_drawn_on_the_test_images(project: Path, capsys) -> None:
    save_model(project / "mine.npz", model(Architecture((1, 6, 7), (2, 3), 3)))
    assert main(["--model", "mine.npz", "--data", "small.npz", "--format", "svg"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == "figures/mine/filters-conv1.svg"
    scaling_note = "mine.npz does not tell how its images were scaled: those of small are given to it times 0.00392157"
    assert captured.err.endswith(f"; {scaling_note}\n")
    assert "test image 0" in (Path("figures/mine/image.svg")).read_text()
    x, y = small_images(30, 0)
    np.savez("untested.npz", x=x, y=y)
    assert main(["--model", "mine.npz", "--data", "untested.npz", "--format", "svg"]) == 0
    assert "30 images of untested" in (Path("figures/mine/confusion.svg")).read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--run-id", "xyz"], 'run id is "xyz"'),
        (["--run-id", "0123"], "no run id begins with"),
        (["--model", "none.npz"], "there is no file none.npz"),
        (["--model", "mine.npz", "--image", "20"], "--image is 20: there are 20 images, counted from 0"),
        (["--model", "mine.npz", "--image", "-1"], "--image is -1"),
        (["--model", "mine.npz", "--image", "none.png"], "none.png is not a picture that can be read"),
        (["--model", "mine.npz", "--image", "small.npz"], "small.npz is not a picture that can be read"),
        (["--model", "two.npz"], "the model tells 2 classes apart, the images are of 3"),
        (["--model", "mine.npz", "--out", "small.npz"], "cannot be written"),
        (["--model", "mine.npz", "--run-id", "1"], "not allowed with argument"),
        (["--model", "mine.npz", "--format", "jpg"], "invalid choice: 'jpg'"),
    ],
)
def test_bad_input_gets_one_clear_line(project: Path, capsys, arguments: list[str], complaint: str) -> None:
    for name, classes in (("mine", 3), ("two", 2)):
        save_model(project / f"{name}.npz", model(Architecture((1, 6, 7), (2, 3), classes)))
    assert main([*arguments, "--data", "small.npz"]) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if not line.startswith("data: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert complaint in errors[0]


def test_a_run_without_a_ranking_is_refused(project: Path, capsys) -> None:
    tracker = Tracker()
    run_id = tracker.start(tracker.experiment("e"), "grid stage", tags={"kind": "stage"})
    assert main(["--run-id", run_id]) == 2
    assert "has no summary.csv" in capsys.readouterr().err


def test_figures_can_be_left_out(project: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "experiments/small.toml").write_text(EXPERIMENT.partition("[stages.dropout]")[0])
    assert sweep_main(["run", "small", "--figures", "none", "--quiet"]) == 0
    assert not list(project.rglob("*.png"))
    assert sweep_main(["run", "small", "--figures", "some"]) == 2
    assert 'figures is "some": it must be all or none' in capsys.readouterr().err
