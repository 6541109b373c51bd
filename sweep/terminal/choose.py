"""Which display is right for where stderr leads."""

from __future__ import annotations

from rich.console import Console

from sweep.terminal.display import Display
from sweep.terminal.lines import Lines


def choose(quiet: bool) -> Display:
    """Quiet, bars and curves on a terminal, or lines."""
    if quiet:
        return Display()
    console = Console(stderr=True)
    if not console.is_terminal:
        return Lines()
    from sweep.terminal.live import Live

    return Live(console)
