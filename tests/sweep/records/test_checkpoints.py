"""Groups in training that were kept: each stage has its own."""

from __future__ import annotations

from pathlib import Path

from core.config.settings import Settings
from sweep.records.checkpoints import clear, group_paths, path_of
from sweep.search.cell import Cell


def test_a_stage_that_is_done_leaves_the_groups_of_one_whose_name_begins_like_its_own(tmp_path: Path) -> None:
    paths = {stage: path_of(tmp_path, [Cell(stage, 1, {}, Settings(), "key")]) for stage in ("grid", "grid-fine")}
    for path in paths.values():
        path.touch()
        path.with_name(f"{path.name}.before").touch()
    assert group_paths(tmp_path) == sorted(paths.values())
    assert group_paths(tmp_path, "grid") == [paths["grid"]]
    clear(tmp_path, "grid")
    assert group_paths(tmp_path) == [paths["grid-fine"]]
