"""Write constraints.txt: the version of every package that an installation may need, for all extras of pyproject.toml.

Run by `make constraints`. pip resolves them for the Python that runs this script, the oldest that the project supports:
later Pythons can install the same versions, while the reverse does not hold.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
INSTALLATIONS = (
    "browser,dev,gpu,postgres",
    "browser,dev,gpu13,postgres",
)  # one at a time: the two ask for different versions of cuda-toolkit
HEADER = """\
# Versions that work together on Python 3.11 to 3.13, for all extras of pyproject.toml. Written by: make constraints
# cuda-toolkit is left out: the two CuPy extras need different versions of it, and pin it themselves.
"""


def resolve(python: str, extras: str) -> dict[str, str]:
    """Name and version of all packages that pip would install for the project with these extras."""
    command = [python, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    answer = subprocess.run([*command, f"{ROOT}[{extras}]"], stdout=subprocess.PIPE, check=True).stdout
    packages = (item["metadata"] for item in json.loads(answer)["install"])
    return {package["name"].lower().replace("_", "-"): package["version"] for package in packages}


def text(resolved: Iterable[dict[str, str]]) -> str:
    """The file: a header, then name==version for each package on which all installations agree, sorted."""
    versions: dict[str, set[str]] = {}
    for packages in resolved:
        for name, version in packages.items():
            versions.setdefault(name, set()).add(version)
    versions.pop("fused-sweep")
    lines = [f"{name}=={found.pop()}\n" for name, found in sorted(versions.items()) if len(found) == 1]
    return HEADER + "".join(lines)


def main() -> int:
    """Write constraints.txt; returns the exit status."""
    if sys.version_info[:2] != OLDEST:
        found, needed = ".".join(map(str, sys.version_info[:2])), ".".join(map(str, OLDEST))
        print(f"error: this is Python {found}: constraints.txt must be made by Python {needed}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True, upgrade_deps=True)  # an older pip fetches whole packages to resolve them
        resolved = [resolve(f"{folder}/bin/python", extras) for extras in INSTALLATIONS]
    (ROOT / "constraints.txt").write_text(text(resolved))
    return 0


if __name__ == "__main__":
    sys.exit(main())
