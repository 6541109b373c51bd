"""What is told by absolute paths, where the project's folder was moved or copied since: MLflow's records, and data."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

if TYPE_CHECKING:
    import sqlalchemy

_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def local(address: str) -> Path | None:
    """The path that an address of MLflow's stands for; None if it is none of this machine's."""
    parsed = urlparse(address)
    return Path(unquote(parsed.path)) if parsed.scheme in ("", "file") else None


def artifacts(stored: Path, run_id: str, root: Path, own: bool) -> Path:
    """Where a run's artifacts are that MLflow says to be at stored.

    A project has them in mlruns/<experiment>/<run>/artifacts. They are below root's mlruns/ if they are there alone, or
    MLflow's database is root's own, which nothing else goes by; and if the experiment's folder that stored is in is
    gone: then this project has moved, and they are still to be written.
    """
    *_, mlruns, experiment, run, last = ("", "", "", "", *stored.parts)
    if (mlruns, run, last) != ("mlruns", run_id, "artifacts") or experiment == "..":
        return stored
    here, there = root / mlruns / experiment, stored.parent.parent
    found = (here / run_id).exists() and (own or not (there / run_id).exists())
    return here / run_id / last if found or (here.is_dir() and not there.exists()) else stored


def is_own(database: str, root: Path) -> bool:
    """Whether this address is that of the database in root."""
    return Path(database.removeprefix("sqlite:///")).resolve() == root / "mlflow.db"


def follow(database: str, root: Path) -> None:
    """Let all that a database says of experiments of this project, which lay elsewhere before it moved, be below root.

    database  its address, as SQLAlchemy takes it

    An experiment is this project's if files of its runs are here. A database other than root's own may be shared by
    projects, also by copies of each other: of it, only what is no longer where it was, and only if no other experiment
    keeps its files here. One that cannot be written stays as it is.
    """
    import sqlalchemy

    engine = sqlalchemy.create_engine(database)
    with suppress(sqlalchemy.exc.SQLAlchemyError), engine.begin() as connection:
        known = connection.execute(sqlalchemy.text("SELECT experiment_id, artifact_location FROM experiments"))
        every = known.all()
        own = is_own(database, root)
        settled = set() if own else {local(address or "") for _, address in every}
        for experiment, address in every:
            was, now = local(address or ""), root / "mlruns" / unquote((address or "").rpartition("/mlruns/")[2])
            if was is None or was == now or now in settled or "/mlruns/" not in address or not now.is_dir():
                continue
            runs = sqlalchemy.text("SELECT run_uuid FROM runs WHERE experiment_id = :experiment")
            ids = connection.execute(runs, {"experiment": experiment}).scalars().all()
            if _lie_here(was, now, ids, own):
                _rewrite(connection, address, now.as_uri())
    engine.dispose()


def _lie_here(was: Path, now: Path, runs: Sequence[str], own: bool) -> bool:
    here = [run for run in runs if (now / run).is_dir()]
    if own:
        return bool(here) or not (runs or was.exists())
    return bool(here) and not any((was / run).exists() for run in here)


def _rewrite(connection: sqlalchemy.Connection, was: str, now: str) -> None:
    """Let all addresses at or below was be at or below now."""
    import sqlalchemy

    for table, name in _ADDRESSES:
        column = sqlalchemy.column(name, sqlalchemy.String)
        concerned = (column == was) | column.startswith(f"{was}/", autoescape=True)
        changed = {name: sqlalchemy.func.replace(column, was, now)}
        connection.execute(sqlalchemy.table(table, column).update().where(concerned).values(changed))


def found_below(root: Path, path: Path) -> Path:
    """Where a file or folder is now that was in the project's folder before it moved; path itself if it is nowhere."""
    places = (root.joinpath(*path.parts[start:]) for start in range(1, len(path.parts)))
    return path if path.exists() else next((place for place in places if place.exists()), path)
