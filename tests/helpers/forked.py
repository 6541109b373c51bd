"""Python code in processes of its own that need no start-up: forks of one that has imported all that a sweep needs."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def python(code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it in this folder and environment, with these variables and sys.argv[1:]."""
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    request = {"code": code, "arguments": arguments, "folder": os.getcwd(), "variables": dict(os.environ | variables)}
    print(json.dumps(request), file=server.stdin, flush=True)
    status, output, errors = json.loads(server.stdout.readline())
    return subprocess.CompletedProcess(["-c", *arguments], status, output, errors)


@cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-m", __name__], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(server.communicate)  # which closes its input, and so ends it
    return server


def _serve() -> None:
    from tests.faults import project

    def answer(code: str, arguments: list[str], folder: str, variables: dict[str, str]) -> tuple[int, str, str]:
        def run(arguments: Sequence[str]) -> int:
            sys.argv[:] = ["-c", *arguments]
            exec(code, {"__name__": "__main__"})
            return 0

        def prepare() -> None:
            os.environ.clear()
            os.environ |= variables

        command = project.Command(Path(folder), arguments, run, prepare)
        return command.wait(), command.output, command.errors

    project.load()
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)


if __name__ == "__main__":
    _serve()
