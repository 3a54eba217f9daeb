"""Hosts that sandboxed agents may reach: reading the operator's list, matching names against it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from shared.protocol.repository import Repository

API_URL: Final = "https://api.anthropic.com"

_PORTS: Final = {"http": 80, "https": 443, "ssh": 22}
_AMBIGUOUS: Final = re.compile(r"[\\\x00-\x20\x7f]|//[^/?#]*@")
"""Addresses that different programs read differently; logins have no business there, either."""
_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_HOST: Final = re.compile(
    rf"(?:(?:\*\.)?{_LABEL}(?:\.{_LABEL})+|localhost|\[[0-9a-f:.]+\])(?::(\d{{1,5}}))?"
)


def read_hosts(text: str) -> tuple[str, ...]:
    """Read ``example.com, *.example.com, localhost:8080``; separated by commas or spaces.

    Raises:
        ValueError: An entry is none of these.
    """
    hosts = tuple(dict.fromkeys(text.lower().replace(",", " ").split()))
    for host in hosts:
        match = _HOST.fullmatch(host)
        # `*.com` would be a list of everybody.
        if match is None or (host.startswith("*.") and host.count(".") < 2):
            raise ValueError(
                "every entry must be a host such as example.com, *.example.com or localhost:8080"
            )
        port = _split(host)[1]
        if port and not 0 < int(port) < 65536:
            raise ValueError("a port must be between 1 and 65535")
    return hosts


def hosts_of_run(repository: str | None, api_url: str | None) -> tuple[str, ...]:
    """The hosts that a run needs: its repository's and the model API's, each with its port.

    *api_url* ``None`` is the API's own address.
    """
    found = [_host_of(api_url or API_URL)]
    if repository is not None:
        parsed = Repository.parse(repository)
        # `git@example.com:group/project` has no scheme to read a port from.
        found.append(_host_of(parsed.url if "://" in parsed.url else f"ssh://{parsed.host}"))
    return tuple(dict.fromkeys(host for host in found if host is not None))


def url_allowed(url: str, hosts: Sequence[str]) -> bool:
    """Whether the host and port of an http(s) *url* are among *hosts*."""
    # Browsers and the CLI read `\\` as `/` and skip control characters, so `http://a\\@b/` is at a.
    if _AMBIGUOUS.search(url.strip()):
        return False
    host = _host_of(url)
    return host is not None and host_allowed(host, hosts)


def host_allowed(host: str, hosts: Iterable[str]) -> bool:
    """Whether *host*, with a port or without, is among *hosts*.

    An entry with a port allows that port only, so a *host* without one does not match it.
    """
    name, port = _split(host)
    return any(_matches(name, port, *_split(entry)) for entry in hosts)


def _matches(name: str, port: str, wanted: str, wanted_port: str) -> bool:
    if wanted_port and port != wanted_port:
        return False
    return name.endswith(wanted[1:]) if wanted.startswith("*.") else name == wanted


def _split(host: str) -> tuple[str, str]:
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d+))?", host.strip().lower())
    return (match[1].rstrip("."), match[2] or "") if match is not None else ("", "")


def _host_of(url: str) -> str | None:
    """``host:port`` of *url*, ``None`` when it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    name = (parts.hostname or "").rstrip(".")
    if not name or port is None:
        return None
    try:
        if ipaddress.ip_address(name).version == 6:
            name = f"[{name}]"
    except ValueError:
        pass  # a name
    return f"{name}:{port}"
