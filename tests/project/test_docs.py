"""The documentation names every option and target, its links lead somewhere, its translations are in step."""

from __future__ import annotations

import re
import sys
import unicodedata
from importlib import import_module
from pathlib import Path

import pytest

from sweep.__main__ import ENVIRONMENT
from sweep.commands.parser import COMMANDS
from sweep.experiment.pruner import PRUNERS
from sweep.experiment.sampler import SAMPLERS

ROOT = Path(__file__).resolve().parents[2]
DOCS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("core", "sweep", "bench", "tests", "tools")
TEXT = (ROOT / "docs/commands.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in TEXT.split("\n## ")[1:]}

# The section of docs/commands.md, and the module and first arguments of the commands that it is about.
DOCUMENTED: dict[str, list[tuple[str, ...]]] = {
    **{f"python -m sweep {name}": [("sweep.__main__", name)] for name in COMMANDS},
    "python -m core.evaluate": [("core.evaluate.__main__",)],
    "python -m core.figures": [("core.figures.__main__",)],
    "python -m core.figures init-study": [("core.figures.__main__", "init-study")],
    "python -m core.cifar10": [("core.cifar10",)],
    "Measurements": [(f"bench.{name}",) for name in ("checkpoints", "cpu", "gpu", "load", "pruning", "search")],
}


def options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))


def usage(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, module: str, *arguments: str) -> str:
    """What the command's help says first."""
    monkeypatch.setattr(sys, "argv", [module, *arguments, "--help"])
    with pytest.raises(SystemExit):
        import_module(module).main()
    return capsys.readouterr().out.partition("\n\n")[0]


@pytest.mark.parametrize("section", DOCUMENTED)
def test_a_section_names_all_options_of_its_commands_and_no_others(
    section: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = set().union(*(options(usage(capsys, monkeypatch, *command)) for command in DOCUMENTED[section]))
    assert options(SECTIONS[section]) == known
    indented = "".join(re.findall(r"^    .*\n", SECTIONS[section], re.M))
    assert options(indented) in (known, set())  # the usage, where there is one


def test_every_command_has_a_section() -> None:
    files = [path for folder in ("core", "sweep", "bench") for path in (ROOT / folder).rglob("*.py")]
    modules = {command[0] for commands in DOCUMENTED.values() for command in commands}
    documented = {ROOT / f"{module.replace('.', '/')}.py" for module in modules}
    assert {path for path in files if '__name__ == "__main__"' in path.read_text()} == documented


def columns(line: str) -> int:
    """How wide a line is on a terminal: an east Asian wide character takes two columns."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_no_line_is_wider_than_120_columns(path: Path) -> None:
    lines = enumerate(path.read_text().splitlines(), 1)
    assert [(number, columns(line)) for number, line in lines if columns(line) > 120] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 180


def structure(path: Path) -> list[str]:
    """Levels of headings, pictures, code without its comments, outputs, and the figures and code in tables' cells."""
    parts, fence = [], ""
    for line in path.read_text().splitlines():
        if line.startswith("```"):
            fence = "" if fence else line
            parts.append(line)
        elif fence == "```":
            parts.append(line)
        elif fence or line.startswith("    "):
            parts.append(re.sub(" *# .*", "", line))
        elif line.startswith("|"):
            parts += [" ".join(sorted(re.findall(r"`.*?`|\d+(?:[.,]\d+)*", cell))) for cell in line.split("|")]
        elif line.startswith(("#", "![")):
            parts.append(re.sub(r"(?<=#) .*|\[.*\]", "", line))
    return parts


TRANSLATED = [path for path in DOCS if path.name.endswith(".zh-CN.md")]


@pytest.mark.parametrize("chinese", TRANSLATED, ids=lambda path: path.name)
def test_a_chinese_page_is_in_step_with_the_english_one(chinese: Path) -> None:
    english = chinese.with_name(chinese.name.replace(".zh-CN", ""))
    assert structure(chinese) == structure(english)


def test_every_option_has_a_row_that_explains_it() -> None:
    tables = {name: part for name, part in SECTIONS.items() if name != "Measurements"}
    rows = {option for part in tables.values() for option in options("\n".join(re.findall(r"^\| `.*?`", part, re.M)))}
    named = {option for name in DOCUMENTED if name in tables for option in options(tables[name])}
    assert rows == named


def test_variables_and_targets_are_those_there_are() -> None:
    assert {name for name in ENVIRONMENT.values() if f"`{name}`" not in TEXT} == set()
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M)
    assert re.findall(r"^\| `make ([a-z-]+)`", SECTIONS["make"], re.M) == targets


def test_the_manual_names_every_sampler_and_pruner() -> None:
    rows = re.findall(
        r"^\| `(?:sampler|pruner)` \|.*$|^\*\*Pruners\.\*\*[^.]*", (ROOT / "docs/experiments.md").read_text(), re.M
    )
    assert {*SAMPLERS, *PRUNERS} <= set(re.findall(r"`(\w+)`", "".join(rows)))


def links(path: Path) -> list[tuple[Path, str]]:
    """The files that a page links to, each with the heading's anchor or ""."""
    found = re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", path.read_text())
    return [(path.parent / name if name else path, anchor) for name, anchor in found if ":" not in name]


def anchors(path: Path) -> set[str]:
    """What the headings of a page are called in links to them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    assert [name for name, anchor in links(path) if not name.exists() or (anchor and anchor not in anchors(name))] == []


def test_every_picture_is_shown() -> None:
    shown = {name.resolve() for path in DOCS for name, _ in links(path)}
    assert {picture.name for picture in (ROOT / "docs").glob("*.png") if picture not in shown} == set()


def tree() -> list[str]:
    """The paths that ARCHITECTURE's tree names: "core/", "core/ops.py", ..."""
    drawn = (ROOT / "ARCHITECTURE.md").read_text().partition("```\n")[2].partition("```")[0]
    paths: list[str] = []
    folders: list[str] = []
    for line in drawn.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name]
        paths.append("".join(folders))
    return paths


def test_the_tree_of_the_architecture_names_every_folder_of_the_sources_and_what_there_is() -> None:
    sources = {path.parent for folder in ("core", "sweep") for path in (ROOT / folder).rglob("*.py")}
    named = tree()
    assert {f"{folder.relative_to(ROOT).as_posix()}/" for folder in sources} - set(named) == set()
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_the_sources_that_a_page_names_exist(path: Path) -> None:
    """A file may go by the end of its path."""
    text = path.read_text()
    folders = re.findall(r"`((?:core|sweep|bench|tests|tools)/(?:\w+/)*)`", text)
    assert [name for name in folders if not (ROOT / name).is_dir()] == []
    sources = {f"/{file.relative_to(ROOT).as_posix()}" for name in FOLDERS for file in (ROOT / name).rglob("*.*")}
    files = re.findall(r"`([\w/]+\.(?:py|cuh?))`", text)
    assert [name for name in files if not any(source.endswith(f"/{name}") for source in sources)] == []
