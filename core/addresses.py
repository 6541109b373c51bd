"""Addresses of stores, in which a password may stand: it is never shown."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from core.errors import InputError, reason

_SECRET = "pass|pwd|token|secret|key|credential|signature|odbc_connect"
_QUERY = re.compile(rf"([?&;][^=&;\s]*(?:{_SECRET})[^=&;\s]*=)[^&;\s'\")]*", re.IGNORECASE)
_USER = re.compile(r"://(?=[^/\s])\S*@")  # to the last @ of a word, as a password may have @ and /
_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def without_passwords(text: str) -> str:
    """The text, of somebody else's making, without users and passwords in the addresses that it names, and without
    those of MLflow's variables.
    """
    for part in (part for name in _VARIABLES for part in os.environ.get(name, "").split()):
        if len(part) > 3:  # less is a part of words
            text = text.replace(part, "***")
    return _QUERY.sub(r"\1***", _USER.sub("://", text))


def redacted(uri: str) -> str:
    """An address without user and password; all of it is one, so that they may also have blanks."""
    return _QUERY.sub(r"\1***", re.sub(r"://(?=[^/]).*@", "://", uri, flags=re.DOTALL))


def require_server(uri: str) -> None:
    """See that the address http(s)://... is read as it is meant. With a / in it, a part of a password would be taken
    for the host, and shown in any error.

    Raises InputError.
    """
    user = uri.partition("://")[2].rpartition("@")[0]
    try:
        named = urlsplit(uri).hostname
    except ValueError as error:
        raise InputError(f'tracking URI is "{redacted(uri)}": {reason(error)}') from None
    if not named or re.search(r"[/?#\s]", user):
        raise InputError(
            f'tracking URI is "{redacted(uri)}": it must be http://HOST:PORT, with user and password as USER:PASSWORD@ '
            "before HOST, in which / is written %2F, ? %3F, # %23, @ %40 and a blank %20"
        )
