"""python -m sweep report: what the page, the Markdown and the CSV tell of real sweeps."""

from __future__ import annotations

import base64
import csv
import json
import re
import shlex
import webbrowser
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.data import registry as datasets
from core.evaluate.metrics import LargestClass, largest_in_validation
from core.tracking.tracker import Tracker
from sweep.__main__ import main
from sweep.report import course_report
from sweep.report.stage_part import Accuracy, StagePart
from tests.conftest import EXPERIMENT, Once, Stages, copy_swept, make_swept
from tests.helpers.slow import slow


class Page(HTMLParser):
    """The tables, headings and addresses of a page, and whether all that was opened is closed in order."""

    VOID = ("meta", "img", "input", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.headings: list[str] = []
        self.sources: list[str] = []
        self.alternatives: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag in ("h1", "h2"):
            self.headings.append("")
        self.sources += [value for key in ("src", "href") if (value := values.get(key))]
        self.alternatives += [values["alt"] or ""] if "alt" in values else []
        self.ids += [value] if (value := values.get("id")) else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data
        if {"h1", "h2"} & set(self.open):
            self.headings[-1] += data


def sweep(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The stages of a sweep that runs, by name."""
    assert main(["run", "small", "--json", "--quiet", *arguments]) in (0, 3)
    result = json.loads(capsys.readouterr().out)
    return {stage["stage"]: stage for stage in result["stages"]}


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str, list[dict[str, str]]]:
    """The report's page, Markdown and CSV."""
    assert main(["report", "small", *arguments]) == 0
    return written(Path(capsys.readouterr().out.splitlines()[-1]))


def written(page: Path) -> tuple[str, str, list[dict[str, str]]]:
    rows = list(csv.DictReader(page.with_suffix(".csv").read_text().splitlines()))
    return page.read_text(), page.with_suffix(".md").read_text(), rows


@pytest.fixture
def reported(project: Path, once: Once, empty_store: Path) -> tuple[Stages, str, str, list[dict[str, str]]]:
    """The stages of a project that are done, and its report's page, Markdown and CSV."""

    def make(folder: Path) -> None:
        make_swept(folder, empty_store, "--figures", "none")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SWEEP_ROOT", str(folder))
            patch.chdir(folder)
            assert main(["report", "small"]) == 0

    stages = copy_swept(once("reported", make), project)
    (page,) = (project / "reports").glob("*.html")
    return {stage["stage"]: stage for stage in stages}, *written(page)


def test_the_page_opens_with_the_answer_and_ranks_all_trials(project: Path, reported) -> None:
    stages, text, markdown, rows = reported
    best = max(reversed(stages.values()), key=lambda stage: stage["winner"]["best_val_accuracy"])["winner"]
    page = Page(text)
    assert page.headings[0].startswith(f"Best: {best['trial']} ")
    assert page.headings[1:] == ["Stage 1: grid", "Stage 2: dropout", "How to repeat it"]
    assert len(page.ids) == len(set(page.ids))
    for table, stage in zip(page.tables, stages.values(), strict=False):
        header, *lines = table
        assert [line[header.index("trial")] for line in lines] == [row["trial"] for row in stage["trials"]]
        accuracy = header.index("best_val_accuracy")
        assert [line[accuracy] for line in lines] == [f"{row['best_val_accuracy']:.4f}" for row in stage["trials"]]
    accuracy = Accuracy(best["best_val_accuracy"], largest_in_validation(datasets.load("small.npz"), 1))
    assert accuracy.images == 12
    assert str(accuracy.largest) in text
    assert f"{accuracy.value:.4f}" in text
    assert f"Best: **{best['trial']}" in markdown
    assert str(accuracy) in markdown
    assert re.search(f"Not tested yet: <code>.* -m core.evaluate --run-id {best['run_id']}</code>", text)
    assert [(row["stage"], row["run_id"], row["best_val_accuracy"]) for row in rows] == [
        (name, row["run_id"], str(row["best_val_accuracy"]))
        for name, stage in stages.items()
        for row in stage["trials"]
    ]


def test_the_page_needs_nothing_but_itself_and_is_kept_with_each_stage(reported) -> None:
    stages, text, markdown, _ = reported
    page = Page(text)
    assert all(source.startswith(("data:image/", "#")) for source in page.sources)
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert sum(source.startswith("data:image/svg+xml") for source in page.sources) == len(page.alternatives) == 6
    assert all(page.alternatives)
    tracker = Tracker()
    for stage in stages.values():
        run = tracker.lookup.find(stage["run_id"])
        assert tracker.artifacts.path(run, "report/report.html").read_text() == text
        assert tracker.artifacts.path(run, "report/report.md").read_text() == markdown


@pytest.mark.slow("draws all pictures of a sweep")
def test_pictures_that_mlflow_keeps_are_in_the_page_those_of_the_winner_folded(
    project: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_FIGURES", "all")
    path = project / "experiments/small.toml"
    path.write_text(
        EXPERIMENT.replace("dropout = 0.25", "flip = 0.5, residual = true").partition("[stages.dropout]")[0]
    )
    stage = sweep(capsys)["grid"]
    text, _, _ = report(capsys)
    assert all(Page(text).alternatives)
    shown, folded = text.split("<summary>The winner's network</summary>")
    folded = folded.partition("</details>")[0]
    order = ["curves", "confusion", "mistakes", *(f"filters-conv{n}" for n in range(1, 5))]
    order += ["batch-norm", "biases", "linear", "image"]
    order += [f"maps-{kind}{n}" for n in range(1, 5) for kind in ("conv", "pool", "relu")] + ["probabilities"]
    tracker = Tracker()
    winner = tracker.lookup.find(stage["winner"]["run_id"])
    kept = [
        name for name in order if (tracker.artifacts.path(winner, "model.npz").parent / f"figures/{name}.png").exists()
    ]
    assert len(kept) == len(tracker.artifacts.names(winner, "figures")) > 10
    for part, run, names in (
        (shown, tracker.lookup.find(stage["run_id"]), ["activation-spread", "augmented"]),
        (folded, winner, kept),
    ):
        found = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]*)"', part)]
        assert found == [tracker.artifacts.path(run, f"figures/{name}.png").read_bytes() for name in names]


def test_only_settings_that_differ_have_a_column(project: Path, capsys) -> None:
    path = project / "experiments/small.toml"
    path.write_text(EXPERIMENT.replace('["3x4", "2"]', '["3x4"]').partition("[stages.dropout]")[0])
    sweep(capsys)
    text, _, rows = report(capsys)
    header = Page(text).tables[0][0]
    assert "lr" in header
    assert "filters" not in header
    assert rows[0]["filters"] == "3x4"


def test_accuracy_stands_right_after_the_trial(reported) -> None:
    stages, text, markdown, _ = reported
    for table in Page(text).tables[: len(stages)]:
        assert table[0][:3] == ["rank", "trial", "best_val_accuracy"]
    assert "| rank | trial | best_val_accuracy | lr | filters |" in markdown


@pytest.mark.parametrize("command", ["report", *slow("draws the page's pictures twice", "compare")])
def test_the_page_is_opened_when_asked_for(
    project: Path, swept: Stages, capsys, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    browser = project / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {project}/opened\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    monkeypatch.setattr(webbrowser, "_tryorder", None)  # $BROWSER is read once
    asked = ["small"] if command == "report" else [trial["run_id"] for trial in swept["grid"]["trials"][:2]]
    assert main([command, *asked, "--open"]) == 0
    path = Path(capsys.readouterr().out.splitlines()[-1])
    assert (project / "opened").read_text() == path.resolve().as_uri()
    monkeypatch.setattr(webbrowser, "_tryorder", [])
    assert main([command, *asked, "--open"]) == 0
    captured = capsys.readouterr()
    assert Path(captured.out.splitlines()[-1]) == path
    assert captured.err == "no browser could be started: open the page yourself, or set BROWSER\n"


def test_a_tested_winner_shows_its_test_accuracy(project: Path, capsys) -> None:
    from core.evaluate.__main__ import main as evaluate

    stages = sweep(capsys, "--stage", "grid")
    assert evaluate(["--run-id", stages["grid"]["winner"]["run_id"], "--json"]) == 0
    tested = json.loads(capsys.readouterr().out)
    text, markdown, _ = report(capsys)
    largest = tested["largest_class"]
    accuracy = Accuracy(tested["test_accuracy"], LargestClass(largest["class"], largest["images"], 20, "test"))
    assert f"Test accuracy {accuracy}." in markdown
    assert "tested yet" not in text


def test_a_stage_that_has_not_run_says_what_to_run(project: Path, capsys) -> None:
    sweep(capsys, "--stage", "grid")
    text, markdown, rows = report(capsys)
    assert re.search("<code>.* -m sweep run small --stage dropout .*</code>", text)
    assert re.search("Not run yet: `.* -m sweep run small --stage dropout .*`", markdown)
    assert {row["stage"] for row in rows} == {"grid"}


def test_the_command_that_repeats_it_asks_for_all_that_was_trained(project: Path, capsys) -> None:
    path = (project / "experiments/small.toml").rename(project / "an experiment.toml")
    options = [str(path), "--epochs", "2", "--seed", "3"]
    assert main(["run", *options, "--points", "named", "--quiet"]) == 0
    assert main(["report", *options]) == 0
    (markdown,) = project.glob("reports/*.md")
    command = re.search("python -m sweep (run .*)", markdown.read_text())
    assert command
    capsys.readouterr()
    assert main([*shlex.split(command[1]), "--json"]) == 0
    stages = {stage["stage"]: stage for stage in json.loads(capsys.readouterr().out)["stages"]}
    assert [(stage["trained"], len(stage["trials"])) for stage in stages.values()] == [(0, 4), (0, 5)]


def test_failures_are_listed_with_their_reasons(project: Path, capsys) -> None:
    path = project / "experiments/small.toml"
    path.write_text(EXPERIMENT.replace("lr = [0.01, 0.1]", "lr = [0.01, 1e30]").partition("[stages.dropout]")[0])
    stages = sweep(capsys)
    failed = [row["trial"] for row in stages["grid"]["trials"] if row["status"] == "failed"]
    assert failed
    text, markdown, _ = report(capsys)
    for name in failed:
        assert re.search(rf"<b>{name}</b> failed: .*loss", text)
        assert re.search(rf"- {name} failed: .*loss", markdown)


def test_a_sweep_of_which_all_trials_fail_has_a_page(project: Path, capsys) -> None:
    path = project / "experiments/small.toml"
    path.write_text(EXPERIMENT.replace("lr = [0.01, 0.1]", "lr = [1e30]").partition("[stages.dropout]")[0])
    assert main(["run", "small", "--quiet"]) == 1
    capsys.readouterr()
    text, _, _ = report(capsys)
    assert Page(text).headings[0] == "Nothing is ranked yet"
    assert "No trial finished" in text


def test_nothing_trained_is_one_clear_line(project: Path, capsys) -> None:
    assert main(["report", "small"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch("error: nothing of small was trained on small: first run `.* -m sweep run small .*`", error)
    assert not (project / "reports").exists()
    assert not (project / "mlruns").exists()


def test_a_folder_that_cannot_be_written_is_one_clear_line(project: Path, swept: Stages, capsys) -> None:
    (project / "taken").write_text("")
    assert main(["report", "small", "--out", "taken"]) == 2
    assert re.fullmatch(r"error: taken/small-.*\.html cannot be written: .*\n", capsys.readouterr().err)


def test_markup_in_names_is_shown_not_obeyed(project: Path, capsys) -> None:
    path = project / "experiments/small.toml"
    path.write_text(f"# Who <script>alert(1)</script> & `co`\n{EXPERIMENT}")
    sweep(capsys, "--stage", "grid")
    text, _, _ = report(capsys)
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; `co`" in text
    Page(text)


def test_the_reports_tables_stand_beside_ours() -> None:
    cells = product(("32x64", "32x32", "16x32"), (0.01, 0.05, 0.1), (0.001, 0.005, 0.01))
    trials = [{"filters": f, "lr": lr, "reg": reg, "best_val_accuracy": 0.7} for f, lr, reg in list(cells)[1:]]
    grid = StagePart("grid", "grid", dict.fromkeys(("lr", "reg", "filters"), ""), {}, trials=trials)
    draws = [{"dropout": 0.3, "best_val_accuracy": 0.6966}, {"dropout": 0.123, "best_val_accuracy": 0.5}]
    dropout = StagePart("dropout", "random", {"dropout": ""}, {}, trials=draws)
    third, fourth = course_report.comparisons([grid, dropout])
    assert third.header == ["filters", "lr", "reg", "published", "ours", "difference"]
    assert len(third.rows) == 27
    assert third.rows[0] == ["32x64", "0.01", "0.001", "0.6854", "-", "-"]
    assert third.rows[1] == ["32x64", "0.01", "0.005", "0.7002", "0.7000", "-0.0002"]
    assert third.rows[22] == ["16x32", "0.05", "0.005", "-", "0.7000", "-"]
    assert np.mean([float(row[3]) for row in third.rows if row[3] != "-"]) == pytest.approx(0.57122, abs=0.00001)
    assert [row[1:] for row in fourth.rows] == [
        ["0.6429", "-", "-"],
        ["0.6966", "0.6966", "+0.0000"],
        ["0.6762", "-", "-"],
        ["0.6840", "-", "-"],
    ]
    assert course_report.comparisons([StagePart("fine", "tpe", {"lr": ""}, {}, trials=[])]) == []
    assert course_report.comparisons([StagePart("dropout", "random", {"dropout": ""}, {}, trials=[])]) == []
