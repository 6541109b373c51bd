"""What is told by absolute paths, where the project's folder was moved or copied since: MLflow's records, and data."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import unquote, urlparse

_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def follow(database: Path, root: Path) -> None:
    """Let all that the database says to be below another mlruns/, and is below the one of root, be there.

    A database other than root's own may be shared with other folders: of it, only what is no longer where it was.
    One that cannot be written stays as it is.
    """
    here = (root / "mlruns").as_uri() + "/"
    own = database.resolve() == root / "mlflow.db"
    with suppress(sqlite3.Error), closing(sqlite3.connect(database)) as connection, connection:
        for table, column in _ADDRESSES:
            elsewhere = f"SELECT rowid, {column} FROM {table} WHERE substr({column}, 1, ?) != ?"
            for row, address in connection.execute(elsewhere, (len(here), here)).fetchall():
                rest = address.rpartition("/mlruns/")[2]
                was, now = urlparse(address), root / "mlruns" / unquote(rest)
                is_file = was.scheme in ("", "file") and rest != address
                if is_file and now.is_dir() and (own or not Path(unquote(was.path)).exists()):
                    connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (here + rest, row))


def found_below(root: Path, path: Path) -> Path:
    """Where a file or folder is now that was in the project's folder before it moved; path itself if it is nowhere."""
    places = (root.joinpath(*path.parts[start:]) for start in range(1, len(path.parts)))
    return path if path.exists() else next((place for place in places if place.exists()), path)
