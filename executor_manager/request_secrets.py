"""Splits a request into what may be kept and shown, and what is kept encrypted. Pure."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

_SECRET_NAME: Final = re.compile(
    r"token|password|passwd|secret|api_?key|credential|authorization|^env$|^headers$"
    r"|^mcp_servers$|^mcp_config$|^variables$",
    re.IGNORECASE,
)
"""Fields that are taken out whole, at any depth: their values are, or may hold, credentials."""

_URL_NAME: Final = re.compile(r"url$", re.IGNORECASE)
"""Fields whose value may carry a login (``https://user:key@…``) or a signature (``?sig=…``)."""


def split(request: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take the secrets out of a request.

    Returns:
        The public part, and the secrets by their place as JSON pointer (RFC 6901). The argument
        is not changed. An URL with a login or a query stays public without them.
    """
    secrets: dict[str, Any] = {}
    public = _public(dict(request), "", secrets)
    return public, secrets


def merge(public: Mapping[str, Any], secrets: Mapping[str, Any]) -> dict[str, Any]:
    """Undo :func:`split`."""
    merged: dict[str, Any] = copy.deepcopy(dict(public))
    for pointer, value in secrets.items():
        *parents, last = [_unescape(part) for part in pointer.split("/")[1:]]
        place: Any = merged
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        place[last] = copy.deepcopy(value)
    return merged


def _public(value: Any, pointer: str, secrets: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_public(item, f"{pointer}/{n}", secrets) for n, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    kept: dict[str, Any] = {}
    for name, item in value.items():
        place = f"{pointer}/{_escape(str(name))}"
        if item is not None and _SECRET_NAME.search(str(name)):
            secrets[place] = item
        elif isinstance(item, str) and _URL_NAME.search(str(name)):
            kept[name] = _without_login(item)
            if kept[name] != item:
                secrets[place] = item
        else:
            kept[name] = _public(item, place, secrets)
    return kept


def _without_login(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _unescape(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")
