"""python -m core.cifar10: download CIFAR-10."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from core.arguments import exit_status
from core.data.formats.cifar10 import SHA256, URL, download
from core.project import root


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m core.cifar10", description="Download CIFAR-10 (163 MB).")
    parser.add_argument("--dir", type=Path, default=root() / "data", help="where to put it (default: data/)")
    parser.add_argument("--url", default=URL)
    parser.add_argument("--sha256", default=SHA256)
    options = parser.parse_args(arguments)

    def command() -> int:
        try:
            print(f"CIFAR-10 is in {download(options.dir, options.url, options.sha256)}")
        except KeyboardInterrupt:
            print("stopped; nothing was kept", file=sys.stderr)
            raise
        return 0

    return exit_status(command)


if __name__ == "__main__":
    sys.exit(main())
