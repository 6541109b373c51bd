"""A sample of the fault injection; `make test-faults` does all of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow("runs a hundred sweeps")
def test_a_sample_of_every_kind_of_fault_is_survived() -> None:
    command = [sys.executable, "-m", "tests.faults", "--short"]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True)
    tally = re.search(r"^faults tried (\d+), survived (\d+), epochs lost \d+$", done.stdout, re.M)
    assert tally, done.stdout + done.stderr
    assert tally[1] == tally[2], done.stdout
    skipped = sum(map(int, re.findall(r"(\d+) faults of", done.stdout)))  # without a C compiler, or the right to mount
    assert int(tally[1]) + skipped >= 30
    assert done.returncode == 0
