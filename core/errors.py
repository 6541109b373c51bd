"""What the user got wrong, and how a command line says so."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave is wrong. The text says what, the value, and what would be right."""


class DamageError(InputError):
    """A record is not as we wrote it."""


_UNSAID = (  # what exceptions without a text mean
    (EOFError, "it ends too early"),
    (MemoryError, "no more could be had"),
    (TimeoutError, "no answer came in time"),
)


def reason(error: BaseException) -> str:
    """Why, on one line: an exception's own text may be empty, or no more than a key."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, KeyError) and error.args:
        text = str(error.args[0]) if " " in str(error.args[0]) else f"{text} is missing"
    unsaid = next((words for kind, words in _UNSAID if isinstance(error, kind)), type(error).__name__)
    return text.strip().partition("\n")[0].strip() or unsaid


def printable(text: object) -> str:
    """The text with its control characters as escapes: from a file of somebody else's they could steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
