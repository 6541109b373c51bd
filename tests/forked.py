"""Python code in processes of its own that need no start-up: forks of one that has imported all that a sweep needs."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path


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
        [sys.executable, __file__], cwd=Path(__file__).parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(server.communicate)  # which closes its input, and so ends it
    return server


def _serve() -> None:
    from faults import project

    project.load()
    for line in sys.stdin:
        request = json.loads(line)

        def run(arguments: list[str], code: str = request["code"]) -> int:
            sys.argv[:] = ["-c", *arguments]
            exec(code, {"__name__": "__main__"})
            return 0

        def prepare(variables: dict[str, str] = request["variables"]) -> None:
            os.environ.clear()
            os.environ |= variables

        command = project.Command(Path(request["folder"]), request["arguments"], run, prepare)
        print(json.dumps([command.wait(), command.output, command.errors]), flush=True)


if __name__ == "__main__":
    _serve()
