"""Pages in a real browser: Chromium, driven by Playwright. Skipped where one of them is missing."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image

from core.tracking.entities import RunInfo
from core.tracking.tracker import Tracker
from sweep.__main__ import main
from tests.conftest import EXPERIMENT
from tests.helpers.servers import free_port, wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.slow("starts Chromium and MLflow's page, on a sweep with all its pictures")

WIDE = EXPERIMENT.replace("lr = [0.01, 0.1]", "lr = [0.01, 0.02, 0.1, 1e30]\nreg = [0.001, 0.01]")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        found = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield found
        found.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """The report's page of a sweep whose grid has 16 trials, four of which fail."""
    from numpy import savez

    from tests.conftest import small_images

    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEP_ROOT", str(folder))
        patch.setenv("SWEEP_FIGURES", "all")
        patch.chdir(folder)
        shutil.copy(empty_store, folder / "mlflow.db")
        (folder / "experiments").mkdir()
        (folder / "experiments/small.toml").write_text(WIDE)
        (x, y), (x_test, y_test) = small_images(60, 0), small_images(20, 1)
        savez(folder / "small.npz", x=x, y=y, x_test=x_test, y_test=y_test)
        assert main(["run", "small", "--quiet"]) == 3
        assert main(["report", "small"]) == 0
    (page,) = (folder / "reports").glob("*.html")
    return page


def violations(page: Any) -> list[tuple[str, str]]:
    """Rules of accessibility that a page breaks, each with the first place."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    return [(found["id"], found["nodes"][0]["html"]) for found in axe.run(page).response["violations"]]


class Opened:
    """A page, and what the browser complained of."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def column(self, name: str) -> list[str]:
        """What the rows shown of the grid's table have in this column, from above."""
        found: list[str] = self.page.evaluate(
            """(name) => {
                const table = document.getElementById("grid-table");
                const column = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === name);
                return [...table.tBodies[0].rows].filter((row) => row.checkVisibility())
                    .map((row) => row.cells[column].dataset.value);
            }""",
            name,
        )
        return found

    def sort(self, name: str) -> None:
        self.page.locator("#grid-table thead button", has_text=name).first.click()


@pytest.fixture
def opened(browser: Any, path: Path) -> Iterator[Opened]:
    found = Opened(browser, path, viewport={"width": 1600, "height": 1000})
    yield found
    assert found.complaints == []
    assert {url.partition(":")[0] for url in found.requests} <= {"file", "data"}
    found.context.close()


def test_a_heading_sorts_by_size_and_the_other_way_when_pressed_again(opened: Opened) -> None:
    assert [int(rank) for rank in opened.column("rank")] == list(range(1, 17))
    opened.sort("lr")
    rates = [float(lr) for lr in opened.column("lr")]
    assert rates == sorted(rates)
    assert len(set(rates)) == 4
    opened.sort("lr")
    assert [float(lr) for lr in opened.column("lr")] == sorted(rates, reverse=True)
    for name, best_is_highest in (("best_val_loss", False), ("best_val_accuracy", True)):
        for first in (True, False):  # the best comes first, when pressed again last; what is empty is below either way
            opened.sort(name)
            known = opened.column(name)
            numbers = [float(value) for value in known if value]
            assert known == [*map(str, numbers), *[""] * 4]
            assert numbers == sorted(numbers, reverse=first == best_is_highest)
    headings = opened.page.locator("#grid-table th[aria-sort]")
    assert [headings.count(), headings.inner_text()] == [1, "best_val_accuracy"]


def test_filters_are_words_and_values_of_columns(opened: Opened) -> None:
    box, count = opened.page.get_by_label("Filter").first, opened.page.locator("#grid-table-count")
    box.fill("lr=0.1")
    assert set(opened.column("lr")) == {"0.1"}
    assert count.inner_text() == "4 of 16"
    box.fill("lr=0.10 filters=3x4")
    assert opened.column("filters") == ["3x4", "3x4"]
    box.fill("FAILED")
    assert set(opened.column("status")) == {"failed"}
    assert count.inner_text() == "4 of 16"
    box.fill("no such thing")
    assert opened.column("rank") == []
    box.fill("")
    assert len(opened.column("rank")) == 16


@pytest.mark.parametrize(
    ("asked", "keeps"),
    [
        ("lr>=0.02", lambda row: float(row["lr"]) >= 0.02),
        ("lr > 0.02", lambda row: float(row["lr"]) > 0.02),
        ("lr<0.02", lambda row: float(row["lr"]) < 0.02),
        ("LR <= 2e-2 filters=3x4", lambda row: float(row["lr"]) <= 0.02 and row["filters"] == "3x4"),
        ("lr\u22650.1 reg!=0.001", lambda row: float(row["lr"]) >= 0.1 and float(row["reg"]) != 0.001),
        ("accuracy>=0.5", lambda row: row["best_val_accuracy"] != "" and float(row["best_val_accuracy"]) >= 0.5),
        ("loss<1e9", lambda row: row["best_val_loss"] != ""),
        ("loss=-", lambda row: row["best_val_loss"] == ""),
        ("lr>", lambda row: True),
    ],
)
def test_numbers_of_columns_are_compared(opened: Opened, asked: str, keeps: Any) -> None:
    names = ("rank", "lr", "reg", "filters", "best_val_accuracy", "best_val_loss")
    every = [dict(zip(names, row, strict=True)) for row in zip(*map(opened.column, names), strict=True)]
    opened.page.get_by_label("Filter").first.fill(asked)
    expected = [row["rank"] for row in every if keeps(row)]
    assert opened.column("rank") == expected
    assert opened.page.locator("#grid-table-count").inner_text() == f"{len(expected)} of 16"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("lrr>=0.05", "there is no column lrr"),
        ("filters>3", "filters has no numbers to compare: use ="),
        ("lr>big", "big is no number"),
        ("epoch>2", "epoch may be best_epoch or epochs"),
    ],
)
def test_what_cannot_be_asked_for_is_told(opened: Opened, asked: str, told: str) -> None:
    opened.page.get_by_label("Filter").first.fill(asked)
    assert opened.page.locator("#grid-table-count").inner_text() == f"16 of 16; {told}"
    opened.page.get_by_label("Filter").first.fill(f"{asked} lr=0.1")
    assert opened.page.locator("#grid-table-count").inner_text() == f"4 of 16; {told}"


def test_a_picture_opens_large_and_closes_by_keyboard(opened: Opened) -> None:
    page = opened.page
    picture = page.get_by_role("button", name="Best validation accuracy by each setting")
    picture.focus()
    page.keyboard.press("Enter")
    large, small = page.locator("dialog img"), picture.locator("img")
    assert large.get_attribute("src") == small.get_attribute("src")
    assert large.bounding_box()["width"] > 1.2 * small.bounding_box()["width"]
    assert violations(page) == []
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert page.evaluate("document.activeElement.firstElementChild.alt").startswith("Best validation accuracy by each")
    picture.click()
    page.get_by_role("button", name="Close").click()
    assert not page.locator("dialog").is_visible()


def test_wide_pictures_take_the_pages_width(opened: Opened) -> None:
    width = opened.page.locator("#grid .pictures").first.bounding_box()["width"]
    shares = {
        name: opened.page.locator("#grid").get_by_alt_text(name).bounding_box()["width"] / width
        for name in ("Best validation accuracy by each setting", "Validation accuracy by epoch of all trials")
    }
    wide, other = shares.values()
    assert wide == 1
    assert other < 0.5


def test_pictures_are_as_dark_as_the_page(browser: Any, path: Path) -> None:
    opened = Opened(browser, path, viewport={"width": 1600, "height": 1000}, color_scheme="light")
    names = ("Validation accuracy by epoch of all trials", "Activations by layer at the start")  # an SVG and a PNG

    def corners() -> list[int]:
        found = []
        for name in names:
            picture = opened.page.get_by_alt_text(name).first
            with Image.open(io.BytesIO(picture.screenshot())) as drawn:
                found.append(max(drawn.convert("RGB").getpixel((drawn.width // 2, drawn.height - 4))))
        return found

    assert corners() == [255, 255]
    opened.page.get_by_role("button", name="Dark").click()
    assert max(corners()) < 40
    grid = opened.page.locator("#grid")
    assert [grid.get_by_alt_text(name).count() for name in names] == [1, 1]  # not one for light and one for dark
    opened.context.close()


def test_a_narrow_screen_shows_accuracy_beside_the_trial(browser: Any, path: Path) -> None:
    opened = Opened(browser, path, viewport={"width": 400, "height": 900})
    for text in ("grid-", "1.0000"):
        box = opened.page.locator("#grid-table tr.winner td", has_text=text).first.bounding_box()
        assert 0 <= box["x"] < box["x"] + box["width"] <= 384
    opened.context.close()


def test_the_keyboard_reaches_everything(opened: Opened) -> None:
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "theme"
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert {"grid-filter", "dropout-filter", "rank", "status", "how to repeat it"} <= set(seen)
    page.locator("#grid-table thead button", has_text="rank").focus()
    page.keyboard.press("Enter")
    assert [int(rank) for rank in opened.column("rank")] == list(range(16, 0, -1))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_follow_the_system_until_the_button_is_pressed(browser: Any, path: Path, scheme: str) -> None:
    opened = Opened(browser, path, color_scheme=scheme)
    colour = "getComputedStyle(document.body).backgroundColor"
    first = opened.page.evaluate(colour)
    assert first == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 27)"}[scheme]
    opened.page.get_by_role("button", name="Dark").click()
    assert opened.page.evaluate(colour) != first
    assert opened.complaints == []
    opened.context.close()


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_readable_and_accessible_at_any_width(browser: Any, path: Path, width: int, scheme: str) -> None:
    opened = Opened(browser, path, viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened.page.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    small = opened.page.evaluate(
        """[...document.querySelectorAll("p, td, li, dd, h1, h2, button, figcaption")]
            .filter((element) => parseFloat(getComputedStyle(element).fontSize) < 13).length"""
    )
    assert small == 0
    assert opened.page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert violations(opened.page) == []
    assert opened.complaints == []
    opened.context.close()


def test_the_winners_network_is_folded_until_asked_for(opened: Opened) -> None:
    folds = opened.page.locator("details", has=opened.page.get_by_text("The winner's network"))
    assert folds.count() == 2  # one for each stage
    picture = folds.first.get_by_alt_text("Its confusion matrix on the validation images.")
    assert not picture.is_visible()
    folds.first.locator("summary").click()
    assert picture.is_visible()


def test_it_shows_what_the_runs_say(opened: Opened, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_ROOT", str(path.parent.parent))
    tracker = Tracker()
    for run_id, accuracy in zip(opened.column("run_id"), opened.column("best_val_accuracy"), strict=True):
        known = tracker.lookup.find(run_id).metrics.get("best_val_accuracy")
        assert json.dumps(known) == (accuracy or "null")


# ------------------------------------------------------------------------------------------------------ MLflow's page


@pytest.fixture(scope="module")
def mlflow_page(browser: Any, path: Path) -> Iterator[Any]:
    """A tab on MLflow's page of the sweep's runs, as `make ui` serves it."""
    with served(browser, path, sys.executable, "-m", "sweep", "ui") as page:
        yield page


@contextmanager
def served(browser: Any, path: Path, *command: str) -> Iterator[Any]:
    """A tab on the page that this command serves at --port."""
    port, log = free_port(), path.with_name("served.log")
    environment = os.environ | {"SWEEP_ROOT": str(path.parent.parent)}
    with log.open("w") as out:
        server = subprocess.Popen([*command, "--port", str(port)], env=environment, stdout=out, stderr=out)
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    page = context.new_page()
    try:
        wait_for(f"http://127.0.0.1:{port}", server, log)
        page.said = log.read_text()
        page.goto(f"http://127.0.0.1:{port}/")
        page.set_default_timeout(30_000)
        yield page
    finally:
        context.close()
        server.terminate()
        server.wait(20)


@pytest.fixture
def runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, RunInfo]:
    """The stages' runs by stage, and the grid's winner."""
    monkeypatch.setenv("SWEEP_ROOT", str(path.parent.parent))
    tracker = Tracker()
    (experiment,) = (e for e in tracker.store.client.search_experiments() if e.name.startswith("small"))
    found = {run.tags["stage"]: run for run in tracker.lookup.runs(experiment.experiment_id, kind="stage")}
    return found | {"winner": tracker.lookup.find(found["grid"].tags["winner.run_id"])}


def address(page: Any, *parts: str) -> str:
    return page.url.partition("#")[0] + "#/experiments/1/runs" + "".join(f"/{part}" for part in parts)


def test_mlflow_lists_stages_with_their_winners_and_below_them_trials(
    mlflow_page: Any, runs: dict[str, RunInfo]
) -> None:
    mlflow_page.goto(address(mlflow_page))
    for stage in ("grid", "dropout"):
        assert runs[stage].name.startswith(f"{stage} stage: {stage}-")
        mlflow_page.get_by_text(runs[stage].name, exact=True).first.wait_for()
    mlflow_page.locator(".ag-cell", has_text="grid stage").get_by_role("button").first.click()
    mlflow_page.get_by_text(runs["winner"].name, exact=True).first.wait_for()


@pytest.fixture
def fresh(browser: Any) -> Iterator[Any]:
    """A tab of a browser that has never seen MLflow's page."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


def links(mlflow_page: Any) -> dict[str, str]:
    """Those that `make ui` prints, by what they are of."""
    return dict(re.findall(r"^  (.*?): (http\S+)$", mlflow_page.said, re.M))


def test_the_printed_link_opens_on_the_ranking(mlflow_page: Any, path: Path, fresh: Any) -> None:
    fresh.goto(links(mlflow_page)["grid: trials, best first"])
    fresh.locator('.ag-row[row-index="0"]').first.wait_for()
    columns = fresh.evaluate(
        """[...document.querySelectorAll(".ag-header-cell")]
            .sort((a, b) => a.getBoundingClientRect().left - b.getBoundingClientRect().left)
            .map((cell) => cell.innerText.trim())"""
    )
    assert columns[3:8] == ["rank", "best_val_accuracy", "lr", "reg", "filters"], columns
    (summary,) = (file for file in (path.parent.parent / "mlruns").rglob("summary.csv") if "grid-" in file.read_text())
    ranked = [row["run_id"] for row in csv.DictReader(summary.read_text().splitlines())]
    shown = fresh.evaluate(
        """[...document.querySelectorAll(".ag-center-cols-container .ag-row")]
            .map((row) => [Number(row.getAttribute("row-index")), row.getAttribute("row-id")])"""
    )
    assert [run_id for _, run_id in sorted(shown)] == ranked
    fresh.get_by_role("link", name=re.compile("^grid-")).first.click(timeout=5000)  # nothing lies above it
    fresh.get_by_text("best_val_accuracy").first.wait_for()


def test_the_charts_of_the_ranking_are_curves(mlflow_page: Any, fresh: Any) -> None:
    fresh.goto(links(mlflow_page)["grid: trials, best first"] + "&compareRunsMode=CHART")
    fresh.wait_for_function("document.querySelectorAll('.js-plotly-plot .scatterlayer path.js-line').length >= 2")
    charts = fresh.get_by_test_id("experiment-view-compare-runs-card").all_inner_texts()
    assert [text.partition("\n")[0] for text in charts][:2] == ["val_accuracy", "val_loss"]


def test_mlflow_tells_of_a_stage_what_was_searched_and_what_won(mlflow_page: Any, runs: dict[str, RunInfo]) -> None:
    mlflow_page.goto(address(mlflow_page, runs["grid"].run_id))
    mlflow_page.get_by_text("Searched by grid").first.wait_for()
    mlflow_page.get_by_text(runs["winner"].name).first.wait_for()


@pytest.mark.parametrize(("run", "name"), [("grid", "heat-maps"), ("dropout", "by-value"), ("winner", "confusion")])
def test_mlflow_shows_pictures(mlflow_page: Any, runs: dict[str, RunInfo], run: str, name: str) -> None:
    mlflow_page.goto(address(mlflow_page, runs[run].run_id, "artifacts", "figures", f"{name}.png"))
    mlflow_page.wait_for_function("[...document.images].some((image) => image.naturalWidth > 400)")


def test_mlflow_compares_two_trials(mlflow_page: Any, runs: dict[str, RunInfo]) -> None:
    best, page = runs["winner"], mlflow_page.context.new_page()
    trials = Tracker().lookup.siblings(best, kind="trial", stage="grid", outcome="finished")
    other = next(run for run in trials if all(run.params[key] != best.params[key] for key in ("lr", "filters")))
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("response", lambda answer: complaints.append(answer.url) if answer.status >= 400 else None)
    page.goto(f"{address(mlflow_page)}?orderByKey={quote('metrics.`best_val_accuracy`')}")  # a flat list
    for run in (best, other):
        page.locator(f'.ag-row[row-id="{run.run_id}"] input[type=checkbox]').first.click()
    page.get_by_role("button", name="Compare", exact=True).click()
    for run in (best, other):
        page.get_by_text(run.name, exact=True).first.wait_for()
    parameters = page.get_by_role("table").filter(has=page.get_by_role("rowheader", name="filters", exact=True))
    assert parameters.get_by_role("row").count() == len(best.params)
    page.get_by_role("switch", name="Parameters - Show diff only").click()
    differing = [[key, value, other.params[key]] for key, value in best.params.items() if value != other.params[key]]
    expect = pytest.importorskip("playwright.sync_api").expect
    expect(parameters.get_by_role("row")).to_have_count(len(differing))
    shown = [row.inner_text().split("\t") for row in parameters.get_by_role("row").all()]
    assert sorted(shown) == sorted(differing)
    assert [url for url in complaints if not url.endswith("/users/current")] == []  # which no server without users has
    page.close()


def test_mlflow_draws_the_curves_of_a_trial(mlflow_page: Any, runs: dict[str, RunInfo]) -> None:
    mlflow_page.goto(address(mlflow_page, runs["winner"].run_id, "model-metrics"))
    mlflow_page.get_by_text("val_accuracy").first.wait_for()
    mlflow_page.wait_for_function("document.querySelectorAll('.js-plotly-plot .scatterlayer path.js-line').length >= 4")


def test_optunas_page_opens_the_journal(browser: Any, path: Path) -> None:
    pytest.importorskip("optuna_dashboard")
    (journal,) = (path.parent.parent / "mlruns").rglob("optuna.journal")
    program = Path(sys.executable).parent / "optuna-dashboard"
    with served(browser, path, str(program), str(journal)) as page:
        for stage in ("grid", "dropout"):
            page.get_by_text(re.compile(f"{stage}-[0-9a-f]+")).first.wait_for()
