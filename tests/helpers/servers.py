"""Commands that serve, in processes of their own."""

from __future__ import annotations

import random
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path


def free_port() -> int:
    """One below those that systems give to connections, any of which could take it before the server does."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the address answers. If the process ends instead, or never answers, its log tells why."""
    until = time.monotonic() + 120
    while not _answers(address):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.2)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
