"""Which GPU a process computes on. Imports no CuPy, which looks at the choice once, as it is imported."""

from __future__ import annotations

import os


def choose_device(number: int) -> None:
    """Let this process, before it loads the backend, see one GPU alone: the one of this number, from 0, of those it
    could see.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number] if visible else str(number)
