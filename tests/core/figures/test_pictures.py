"""Pictures of what is large, odd or only half there: small enough, none ends a sweep, none shows what is not so."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from core import figures
from core.backends import registry as backends
from core.config.architecture import Architecture
from core.config.settings import Settings
from core.data.images import Images
from core.data.pixels import PixelRange
from core.figures import images, planes, search, training, weights
from core.figures.model import InputImage
from core.figures.model import pictures as model_pictures
from core.figures.style import DOTS, LARGEST, blank, content
from core.figures.trials import Trial
from core.network.parameters import architecture_arrays, initial_model
from core.tracking.tracker import Tracker
from sweep.__main__ import main
from tests.conftest import EXPERIMENT, small_images

# ------------------------------------------------------------------------------------------------- what is very large

NAMES = [f"class {number} with a name that goes on and on and on, {'x' * 80}" for number in range(500)]
HISTORY = [
    {f"{part}_{what}": 1 / (epoch + 1) for part in ("train", "val") for what in ("loss", "accuracy")}
    for epoch in range(5000)
]


def many_trials(count: int = 1000) -> list[Trial]:
    """Of 10 settings of all kinds, texts, many levels and ranges among them, with long names and values."""
    rng = np.random.default_rng(0)
    trials = []
    for number in range(count):
        searched: dict[str, Any] = {f"level{key}": int(rng.integers(12)) for key in range(4)}
        searched |= {f"range{key}": float(10 ** rng.uniform(-4, 0)) for key in range(4)}
        searched |= {f"a long name of a setting {key}": "x".join(["32"] * (1 + number % 40)) for key in range(2)}
        name = f"search-{number:04d} {'long ' * 20}"
        trials.append(Trial(name, searched, 1 - number / count, rng.random(60).tolist(), finished=number % 7 > 0))
    return trials[1:]


def many_settings() -> list[Trial]:
    rng = np.random.default_rng(0)
    return [Trial(f"t-{n}", {f"s{key}": rng.random() for key in range(25)}, 1 - n / 50, [0.5]) for n in range(50)]


def model_of(architecture: Architecture) -> dict[str, np.ndarray]:
    arrays = {name: values[0] for name, values in initial_model(architecture, [Settings()]).items()}
    return arrays | architecture_arrays(architecture)


Draw = Callable[[], Figure]


def large_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3, 1000, 1000), np.float32)


def mistakes() -> Draw:
    likely, labels = np.random.default_rng(0).dirichlet(np.ones(500), 24), np.arange(24)
    return partial(images.mistakes, large_images(24), labels, likely, labels, NAMES, "")


def deep() -> dict[str, np.ndarray]:
    """What a network of a hundred blocks has beside its filters."""
    rng = np.random.default_rng(0)
    found = {f"b{n}": rng.normal(size=300) for n in range(1, 102)}
    return found | {f"{name}{n}": rng.normal(size=300) for name in ("gamma", "beta") for n in range(1, 101)}


def extremes() -> dict[str, Callable[[], Draw]]:
    """By name, what makes all that a picture shows, some of it large, and returns what draws it."""
    rng = np.random.default_rng(0)
    trials = many_trials()
    heights = [Trial(t.name, {"lr": n}, t.height, [], True) for n, t in enumerate(trials)]
    of_a_stage = search.pictures(trials, "A title of a stage: " + "on and on " * 60)
    return {
        **{name: partial(lambda draw: draw, draw) for name, draw in of_a_stage.items()},
        "effects of 25 settings": lambda: partial(search.main_effects, many_settings(), ""),
        "lines through 25 settings": lambda: partial(search.parallel, many_settings(), ""),
        "by-value": lambda: partial(search.by_value, heights, ""),
        "side-by-side": lambda: partial(training.side_by_side, dict.fromkeys(NAMES[:8], HISTORY), ""),
        "curves of 5,000 epochs": lambda: partial(training.curves, HISTORY, 4000, ""),
        "confusion": lambda: partial(images.confusion, rng.integers(0, 9, (500, 500)), NAMES, ""),
        "probabilities": lambda: partial(images.probabilities, rng.dirichlet(np.ones(500)), NAMES, 7, ""),
        "mistakes": mistakes,
        "maps": lambda: partial(images.feature_maps, rng.random((512, 60, 90), np.float32), ""),
        "input": lambda: partial(images.input_image, large_images(1)[0], NAMES[0]),
        "augmented": lambda: partial(figures.augmented, [("as they are", large_images(8))] * 3, ""),
        "filters": lambda: partial(weights.filters, rng.normal(size=(64, 64, 3, 3)), 1),
        "many filters": lambda: partial(weights.filters, rng.normal(size=(2048, 3, 3, 3)), 1),
        "biases": lambda: partial(weights.biases, deep(), 100, NAMES),
        "batch norm": lambda: partial(weights.batch_norm, deep(), 100),
        "linear": lambda: partial(weights.linear, rng.random((20_000, 500), np.float32), 64, NAMES),
    }


EXTREMES = extremes()


def memory(what: str) -> int:
    """KiB of this process, where the system tells."""
    status = Path("/proc/self/status")
    found = (
        [line.split()[1] for line in status.read_text().splitlines() if line.startswith(what)]
        if status.exists()
        else []
    )
    return int(found[0]) if found else 0


@pytest.mark.slow("draws what takes seconds and 300 MB")
@pytest.mark.parametrize("name", EXTREMES)
def test_what_is_very_large_is_drawn_on_a_canvas_of_bounded_size(name: str, tmp_path: Path) -> None:
    draw = EXTREMES[name]()
    before = memory("VmRSS")
    if before:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from now on
    figure = draw()
    (tmp_path / "drawn.png").write_bytes(content(figure, "png"))
    assert memory("VmHWM") - before < 256 * 1024
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert max(drawn.size) <= LARGEST * DOTS
    for axes in figure.axes:  # every one keeps a place to be seen in
        if axes.axison:
            assert min(axes.get_window_extent().size) > 8, axes.get_title()


def test_a_canvas_is_as_large_as_asked_for_up_to_the_bound() -> None:
    assert list(blank(9, 4, "").get_size_inches()) == [9, 4]
    assert list(blank(9, 400, "").get_size_inches()) == [9, LARGEST]


def test_titles_that_are_too_long_are_broken_then_cut() -> None:
    assert blank(4, 4, "short\nand in two lines").get_suptitle() == "short\nand in two lines"
    assert blank(4, 4, "word " * 10).get_suptitle() == "word word word word word word word word\nword word"
    assert blank(4, 4, "word " * 100).get_suptitle().endswith("word word \u2026")
    assert blank(4, 4, "word " * 100).get_suptitle().count("\n") == 2


@pytest.mark.slow("draws many large pictures")
def test_many_curves_stay_small_as_svg() -> None:
    trials = {trial.name: trial.curve for trial in many_trials(600)}
    drawn = content(training.overlay(trials, None, ""), "svg")
    assert len(drawn) < 2**20
    assert drawn.count(b"<image") == 1


def test_of_many_classes_those_with_most_mistakes_have_a_row_each() -> None:
    rng = np.random.default_rng(0)
    counts = np.diag(rng.integers(5, 9, 100))
    mistaken = rng.permutation(100)[:40]
    for number, label in enumerate(mistaken):
        counts[label, mistaken[number - 1]] += 1 + number % 3
    counts[0, 1] += 0
    figure = images.confusion(counts, [f"c{number}" for number in range(100)], "100 images")
    axes = figure.axes[0]
    expected = [f"c{number}" for number in sorted(mistaken)]
    assert [text.get_text() for text in axes.get_yticklabels()] == [*expected, "all others"]
    assert [text.get_text() for text in axes.get_xticklabels()] == [*expected, "all others"]
    shares = np.asarray(axes.images[0].get_array())
    for row, label in enumerate(sorted(mistaken)):
        np.testing.assert_allclose(shares[row, :40], counts[label, sorted(mistaken)] / counts[label].sum())
    np.testing.assert_allclose(shares[40], [0] * 40 + [1])
    assert "40 of 100 classes" in figure.get_suptitle()


def test_counts_of_all_classes_are_kept_when_some_stand_together() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (60, 60))
    found, shown = images.most_confused(counts)
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    assert set(wrong[shown]) == set(np.sort(wrong)[-40:])
    others = np.setdiff1d(np.arange(60), shown)
    np.testing.assert_array_equal(found[:40, :40], counts[np.ix_(shown, shown)])
    np.testing.assert_array_equal(found[40, :40], counts[np.ix_(others, shown)].sum(axis=0))
    np.testing.assert_array_equal(found[:40, 40], counts[np.ix_(shown, others)].sum(axis=1))
    assert found[40, 40] == counts[np.ix_(others, others)].sum()


def test_of_many_classes_the_likeliest_have_a_bar_and_the_true_one() -> None:
    values = np.random.default_rng(0).dirichlet(np.ones(100))
    order = np.argsort(-values)
    label = int(order[70])
    (axes,) = images.probabilities(values, [f"c{number}" for number in range(100)], label, "").axes
    expected = [*order[:39], label]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], values[expected])
    assert [text.get_text() for text in axes.get_yticklabels()] == [f"c{number}" for number in expected]
    assert axes.get_legend().get_texts()[0].get_text() == f"true class: c{label}"
    assert [bar.get_facecolor() != axes.patches[0].get_facecolor() for bar in axes.patches] == [False] * 39 + [True]


def test_of_many_weights_the_largest_of_each_few_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "WEIGHTS", 12)
    w = np.array([[1, -9], [2, 3], [-4, 0], [0, 5], [7, -8], [6, 1], [2, 2], [-3, 0]], float)  # of 16 values
    axes, bar = weights.linear(w, 1, ["a", "b"]).axes
    np.testing.assert_array_equal(axes.images[0].get_array(), [[2, -4, 7, -3], [-9, 5, -8, 2]])
    assert bar.get_ylabel() == "weight, the largest in each place"


def test_a_deep_network_has_pictures_of_some_of_its_layers() -> None:
    architecture = Architecture((1, 6, 6), (2,) * 40, 3, (False,) * 40)
    rng = np.random.default_rng(0)
    seen = Images(rng.integers(0, 256, (4, 1, 6, 6), np.uint8), rng.integers(0, 3, 4), 1 / 255)
    shown = InputImage(seen.pixels[0] / np.float32(255), "image 0", 1)
    given = (backends.load("reference"), model_of(architecture), seen, "abc", shown, PixelRange(1 / 255, white=255.0))
    found = model_pictures(*given, of="images")
    filters = [name for name in found if name.startswith("filters-conv")]
    assert len(filters) == 16
    assert {"filters-conv1", "filters-conv40", "maps-conv1", "maps-relu40"} <= found.keys()
    figure = found["biases"]()
    assert figure.get_suptitle() == "Biases: 24 of 41 layers"
    assert {"b1", "b41"} <= {axes.get_ylabel() for axes in figure.axes}


# ------------------------------------------------------------------------------------- a picture that cannot be drawn


def broken() -> Figure:
    raise MemoryError("Unable to allocate 5 GiB\nfor a canvas")


def test_a_picture_that_fails_is_one_line_and_the_others_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    fine = partial(blank, 2, 2, "fine")
    found = dict(figures.rendered({"one": fine, "two": broken, "three": fine}, "png", "svg"))
    assert list(found) == ["one.png", "one.svg", "three.png", "three.svg"]
    assert found["one.png"].startswith(b"\x89PNG")
    assert found["three.svg"].startswith(b"<?xml")
    lines = capsys.readouterr().err.splitlines()
    reason = "MemoryError: Unable to allocate 5 GiB"
    assert lines == [f"warning: the picture two is left out, as it cannot be drawn: {reason}"]


@pytest.mark.slow("draws many large pictures")
def test_a_picture_that_fails_does_not_end_a_sweep(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Figure:
        return broken()

    monkeypatch.setenv("SWEEP_FIGURES", "all")
    monkeypatch.setattr(images, "confusion", fails)
    monkeypatch.setattr(search, "main_effects", fails)
    monkeypatch.setattr(figures, "curves", fails)
    (project / "experiments/small.toml").write_text(EXPERIMENT.partition("[stages.dropout]")[0])
    assert main(["run", "small", "--quiet", "--json"]) == 0
    captured = capsys.readouterr()
    (stage,) = json.loads(captured.out)["stages"]
    assert stage["winner"]
    warnings = [line for line in captured.err.splitlines() if line.startswith("warning: the picture ")]
    assert [line.split()[3] for line in warnings] == ["curves"] * 4 + ["main-effects", "confusion"]
    tracker = Tracker()
    run, winner = (tracker.lookup.find(stage[of]["run_id"] if of else stage["run_id"]) for of in ("", "winner"))
    assert run.status == "FINISHED"
    assert tracker.artifacts.names(run, "figures") == [
        f"figures/{name}.png" for name in ("activation-spread", "curves", "heat-maps", "parallel")
    ]
    names = tracker.artifacts.names(winner, "figures")
    assert "figures/mistakes.png" in names
    assert "figures/confusion.png" not in names


@pytest.mark.slow("draws many large pictures")
def test_hundreds_of_classes_do_not_keep_a_sweep_from_its_end(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_FIGURES", "all")
    x, _ = small_images(900, 0)
    np.savez(project / "small.npz", x=x, y=np.arange(900) % 300)
    text = EXPERIMENT.partition("[stages.dropout]")[0].replace("lr = [0.01, 0.1]", "lr = [0.1]")
    (project / "experiments/small.toml").write_text(text)
    assert main(["run", "small", "--quiet", "--json", "--epochs", "1"]) == 0
    captured = capsys.readouterr()
    assert [line.split()[:3] for line in captured.err.splitlines()] == [
        ["No", "training", "image"],
        ["No", "validation", "image"],
    ]  # of some of 300 classes; and no picture is left out
    tracker = Tracker()
    winner = tracker.lookup.find(json.loads(captured.out)["stages"][0]["winner"]["run_id"])
    for name in ("confusion", "probabilities", "linear", "biases"):
        with Image.open(tracker.artifacts.path(winner, f"figures/{name}.png")) as drawn:
            assert max(drawn.size) <= LARGEST * DOTS


# ----------------------------------------------------------------------------- trials that lack a setting, or an ending


def conditional() -> list[Trial]:
    """SGD with momentum and Adam with beta1, the winner of the former; two that diverged had been better."""
    rng = np.random.default_rng(1)
    trials = []
    for number in range(16):
        lr, adam = float(10 ** rng.uniform(-3, -0.5)), number % 2
        searched: dict[str, Any] = {"optimiser": "adam" if adam else "sgd", "lr": lr}
        searched |= (
            {"beta1": float(rng.uniform(0.5, 0.99)), "momentum": None}
            if adam
            else {"momentum": (0.0, 0.9)[number // 2 % 2]}
        )
        trials.append(Trial(f"s-{number:02d}", searched, 0.9 - number / 50, [0.1, 0.9 - number / 50]))
    for name, better in (("s-16", 0.95), ("s-17", 0.93)):
        searched = {"optimiser": "sgd", "lr": 0.3 if better > 0.94 else 0.31, "momentum": 0.9}
        trials.append(Trial(name, searched, better, [better, float("nan")], finished=False))
    return trials


def stars(axes: Any) -> list[tuple[float, ...]]:
    """Where the winner's stars are."""
    lines = [line for line in axes.lines if line.get_marker() == "*"]
    return [tuple(float(values[0]) for values in line.get_data()) for line in lines]


def test_the_star_is_at_the_winner_or_nowhere() -> None:
    trials = conditional()
    panels = {axes.get_xlabel(): axes for axes in search.main_effects(trials, "").axes if axes.get_xlabel()}
    assert list(panels) == ["optimiser", "lr", "momentum", "beta1"]
    best = trials[0]
    assert stars(panels["lr"]) == [pytest.approx((np.log10(best.searched["lr"]), 0.9))]
    assert stars(panels["optimiser"]) == [(1.0, 0.9)]  # after adam
    assert stars(panels["momentum"]) == [(0.0, 0.9)]
    assert stars(panels["beta1"]) == []
    assert panels["beta1"].get_title() == "8 of 18 trials"
    assert panels["momentum"].get_title() == "10 of 18 trials"
    assert panels["lr"].get_title() == ""


@pytest.mark.parametrize("key", ["lr", "momentum", "beta1"])
def test_every_trial_that_has_a_setting_is_a_point_hollow_if_it_did_not_finish(key: str) -> None:
    trials = conditional()
    (axes,) = (axes for axes in search.main_effects(trials, "").axes if axes.get_xlabel() == key)
    for finished, marker in ((True, "."), (False, "o")):
        heights = [t.accuracy for t in trials if key in t.searched and t.finished is finished]
        points = [line for line in axes.lines if line.get_marker() == marker]
        assert [list(line.get_ydata()) for line in points] == ([heights] if heights else [])


def test_a_surface_of_a_conditional_space_has_all_trials_of_the_winners_part() -> None:
    trials = conditional()
    figure = planes.surface(trials, "s: 18 trials")
    (axes,) = figure.axes
    assert figure.get_suptitle() == "s: 18 trials\n10 of them have lr and momentum"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("lr", "momentum")
    points = [line.get_data_3d() for line in axes.lines if line.get_marker() == "o"]
    found = sorted(tuple(map(float, place)) for line in points for place in zip(*line, strict=True))
    part = [trial for trial in trials if "momentum" in trial.searched]
    expected = sorted((np.log10(t.searched["lr"]), float(t.searched["momentum"] > 0), t.accuracy) for t in part)
    np.testing.assert_allclose(found, expected)
    (star,) = (line for line in axes.lines if line.get_marker() == "*")
    assert [float(v[0]) for v in star.get_data_3d()] == pytest.approx([np.log10(trials[0].searched["lr"]), 0, 0.9])


def test_there_is_no_heat_map_where_no_trial_has_both_settings() -> None:
    assert set(search.pictures(conditional(), "")) == {"curves", "main-effects", "parallel", "surface"}
    only = [{"a": 1, "p": 1}, {"a": 1, "p": 2}, {"a": 2, "q": 1}, {"a": 2, "q": 2}, {"a": 1, "p": 1}, {"a": 2, "q": 2}]
    trials = [Trial(f"t-{n}", searched, 0.9 - n / 10, [0.5]) for n, searched in enumerate(only)]
    assert set(search.pictures(trials, "")) == {"curves", "main-effects", "parallel"}


def test_a_heat_map_of_a_part_says_so_and_whether_the_best_is_in_it() -> None:
    rows: list[dict[str, Any]] = [{"a": 3}]
    rows += [{"a": a, "p": p} for a in (1, 2) for p in (1, 2)]
    trials = [Trial(f"t-{n}", searched, 0.9 - n / 10, [0.5]) for n, searched in enumerate([*rows, rows[-1]])]
    figure = planes.heat_maps(trials, "s: 6 trials")
    told = "s: 6 trials 5 of them have a and p; the best, t-0, is not among them"
    assert figure.get_suptitle().replace("\n", " ") == told
    axes, bar = figure.axes
    assert [text.get_text() for text in axes.texts] == ["0.8000", "0.7000", "0.6000", "0.5000"]
    assert {text.get_fontweight() for text in axes.texts} == {"normal"}
    assert bar.get_ylabel() == "best validation accuracy\nthe best in each place"


def four(*accuracies: tuple[float | None, bool]) -> list[Trial]:
    """Trials of a grid of two by two, as they are ranked."""
    points = [(0.1, 0.01), (0.1, 0.001), (0.2, 0.01), (0.2, 0.001)]
    return [
        Trial(f"s-{n}", {"lr": lr, "reg": reg}, accuracy, [accuracy or 0.1], finished=finished)
        for n, ((lr, reg), (accuracy, finished)) in enumerate(zip(points, accuracies, strict=True), start=1)
    ]


def bold(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_fontweight() == "bold"]


def test_the_bold_cell_is_the_winners_not_that_of_a_better_one_that_failed() -> None:
    trials = four((0.90, True), (0.88, True), (0.85, True), (0.95, False))
    figure = planes.heat_maps(trials, "")
    assert bold(figure) == ["0.9000"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.8800", "0.9000", "(0.9500)", "0.8500"]
    assert figure.axes[-1].get_ylabel() == "best validation accuracy\nin brackets: did not finish"


def test_the_label_of_a_colour_bar_is_within_the_figure() -> None:
    trials = four((0.90, True), (0.88, True), (0.85, True), (0.95, False))
    figure = planes.heat_maps([*trials, *four(*[(0.80, True)] * 4)], "")
    figure.canvas.draw()
    label = figure.axes[-1].yaxis.label
    assert label.get_text() == "best validation accuracy\nthe best in each place\nin brackets: did not finish"
    box = label.get_window_extent()
    assert 0 <= box.y0 < box.y1 <= figure.bbox.height
    assert box.x1 <= figure.bbox.width


def test_the_mean_of_a_level_is_of_those_that_finished() -> None:
    """Else a trial that was pruned early makes the better level look the worse."""
    trials = four((0.90, True), (0.88, True), (0.89, True), (0.30, False))
    panels = {axes.get_xlabel(): axes for axes in search.main_effects(trials, "").axes if axes.get_xlabel()}
    means = {key: line for key, axes in panels.items() for line in axes.lines if line.get_marker() == "D"}
    assert list(means["lr"].get_ydata()) == pytest.approx([0.89, 0.89])
    assert list(means["reg"].get_ydata()) == pytest.approx([0.88, 0.895])  # 0.001, 0.01
    trials = four((0.90, True), (0.88, True), (0.80, False), (0.30, False))
    figure = search.main_effects(trials, "")
    lr, reg = (next(line for line in axes.lines if line.get_marker() == "D") for axes in figure.axes)
    assert [list(map(float, values)) for values in lr.get_data()] == [[0.0], pytest.approx([0.89])]  # none at 0.2
    assert list(reg.get_ydata()) == [0.88, 0.9]
    assert figure.legends[0].get_texts()[-1].get_text() == "mean of the finished"
    figure = search.main_effects(four(*[(0.5, False)] * 4), "")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a trial", "did not finish"]


def test_a_place_of_several_trials_shows_the_first_in_rank() -> None:
    trials = four((0.90, True), (0.88, True), (0.85, True), (0.80, True))
    again = [Trial(f"again-{t.name}", t.searched, 0.97, [0.97, float("nan")], finished=False) for t in trials]
    figure = planes.heat_maps([*trials, *again], "")
    assert bold(figure) == ["0.9000"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.8800", "0.9000", "0.8000", "0.8500"]
    assert figure.axes[-1].get_ylabel() == "best validation accuracy\nthe best in each place"


def test_equal_accuracies_have_one_winner() -> None:
    assert bold(planes.heat_maps(four(*[(0.9, True)] * 4), "")) == ["0.9000"]


def test_where_none_finished_none_is_the_best() -> None:
    trials = four((0.9, False), (0.8, False), (0.7, False), (None, False))
    drawn = {name: draw() for name, draw in search.pictures(trials, "").items()}
    assert set(drawn) == {"curves", "main-effects", "parallel", "heat-maps", "surface"}
    assert bold(drawn["heat-maps"]) == []
    for figure in drawn.values():
        figure.canvas.draw()
        assert not any(line.get_marker() == "*" for axes in figure.axes for line in axes.lines)
        legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
        texts = [text.get_text() for legend in legends if legend for text in legend.get_texts()]
        assert not any("the best" in text for text in texts)
    assert {line.get_linewidth() for line in drawn["curves"].axes[0].lines} == {1.0}
    assert 3 not in {line.get_linewidth() for line in drawn["parallel"].axes[0].lines}


def test_a_line_goes_through_the_values_that_its_trial_has_and_beside_all_others() -> None:
    trials = conditional()
    (axes,) = search.parallel(trials, "").axes
    keys = [text.get_text() for text in axes.get_xticklabels()][:-1]
    lines = [line for line in axes.lines if len(line.get_xdata()) == len(keys) + 1][::-1]  # the best was drawn last
    assert len(lines) == len(trials)
    heights = np.array([trial.accuracy for trial in trials])
    for trial, line in zip(trials, lines, strict=True):
        assert list(line.get_xdata()) == [*range(len(keys) + 1)]
        for key, y in zip(keys, line.get_ydata(), strict=False):
            assert (y >= -0.03) == (key in trial.searched)
        assert line.get_ydata()[-1] == pytest.approx((trial.accuracy - heights.min()) / np.ptp(heights))
        assert line.get_linestyle() == ("-" if trial.finished else "--")
    beta = [t.searched["beta1"] for t in trials if "beta1" in t.searched]
    shares = [
        line.get_ydata()[keys.index("beta1")] for t, line in zip(trials, lines, strict=True) if "beta1" in t.searched
    ]
    np.testing.assert_allclose(shares, (np.array(beta) - min(beta)) / np.ptp(beta))


def test_draws_that_did_not_finish_are_hollow_and_none_of_them_is_the_best() -> None:
    points = [(0.3, 0.7, True), (0.5, 0.6, True), (0.9, 0.8, False)]
    trials = [Trial(f"d-{n}", {"dropout": x}, y, [y], finished=done) for n, (x, y, done) in enumerate(points)]
    (axes,) = search.by_value(trials, "").axes
    drawn, ended, best = axes.lines
    assert [list(drawn.get_xdata()), list(ended.get_xdata()), list(best.get_xdata())] == [[0.3, 0.5], [0.9], [0.3]]
    assert ended.get_markerfacecolor() == "none"
    assert best.get_label() == "the best: dropout 0.3, 0.7000"


def stage_of(rows: Sequence[tuple[dict[str, Any], float]]) -> list[Trial]:
    return [Trial(f"t-{n}", searched, accuracy, [accuracy]) for n, (searched, accuracy) in enumerate(rows)]


def test_a_single_number_that_some_trials_lack_is_drawn_of_those_that_have_it() -> None:
    trials = stage_of([({}, 0.9), ({"momentum": 0.5}, 0.8), ({"momentum": 0.9}, 0.7)])
    (axes,) = search.pictures(trials, "")["by-value"]().axes
    assert [list(line.get_xdata()) for line in axes.lines] == [[0.5, 0.9]]  # and the best is not among them


def test_the_columns_of_a_stages_table_are_read_as_what_trials_have(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.figures import runs

    text = EXPERIMENT.partition("[stages.grid.space]")[0].replace('sampler = "grid"', 'sampler = "grid"\nseeds = 2')
    text += "[stages.grid.space]\noptimiser = ['sgd', 'adam']\nlr = [0.1, 1e30]\n"
    text += "momentum = { choices = [0.0, 0.9], when = { optimiser = 'sgd' } }\n"
    (project / "experiments/small.toml").write_text(text)
    assert main(["run", "small", "--quiet", "--json", "--epochs", "2"]) in (0, 3)
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    tracker = Tracker()
    run = tracker.lookup.find(stage["run_id"])
    trials = runs.stage_trials(tracker, run)
    keys = ("optimiser", "lr", "momentum")
    expected = [{key: row[key] for key in keys if row[key] is not None} for row in stage["trials"]]
    assert [dict(trial.searched) for trial in trials] == expected
    assert [trial.finished for trial in trials] == [row["status"] in ("finished", "cut") for row in stage["trials"]]
    assert [trial.accuracy for trial in trials] == [row["best_val_accuracy"] for row in stage["trials"]]
    assert {row["status"] for row in stage["trials"]} == {"finished", "failed"}
    drawn = runs.of_stage(tracker, run)
    assert drawn["main-effects"]().get_suptitle().startswith("grid: 6 settings with 2 seeds each on small, whose mean")
    assert drawn["curves"]().get_suptitle().endswith("of which the best one's curve is drawn")
