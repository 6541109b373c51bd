"""The one exception that a command line turns into a single clear line and exit status 2."""


class InputError(ValueError):
    """Something the user gave is wrong. The text says what, the value, and what would be right."""
