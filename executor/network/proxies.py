"""Which proxy leads to an address, by the variables that every program of a company follows."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import unquote_to_bytes, urlsplit

from yarl import URL

from shared.errors import ConfigError

_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_PORTS: Final = {"http": 80, "https": 443}
_USABLE: Final = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and which variable names it. As text it shows no credentials."""

    url: URL = field(repr=False)
    """With the credentials, as aiohttp wants them."""
    variable: str
    """The variable's name as it is spelled in the environment."""

    def __str__(self) -> str:
        return f"{self.url.host_subcomponent}:{self.url.port}"


class Proxies:
    """``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, read as curl reads them.

    Small letters count more than capital ones; empty is not set. A proxy without a scheme speaks
    HTTP. ``NO_PROXY`` has hosts, which stand for their subdomains too, addresses, networks such as
    ``10.0.0.0/8``, and ``*``; beyond curl, an entry may name the one port that it is about.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._named = {
            name.lower(): (name, environ[name].strip())
            for name in sorted(environ)  # capitals first, so that small letters overwrite them
            if name.lower().endswith("_proxy") and environ[name].strip()
        }
        entries = re.split(r"[\s,]+", self._named.get("no_proxy", ("", ""))[1])
        self._direct = tuple(_Direct.read(entry) for entry in entries if entry)

    def lead_to(self, url: str) -> Proxy | None:
        """The proxy for *url*, which is ``http(s)`` or ``ws(s)``; ``None``: go there directly.

        Raises:
            ConfigError: The variable names no proxy that this program can use.
        """
        parts = urlsplit(url)
        scheme = _SCHEMES[parts.scheme.lower()]
        named = self._named.get(f"{scheme}_proxy") or self._named.get("all_proxy")
        if named is None:
            return None
        host = _plain(parts.hostname or "")
        if any(entry.covers(host, parts.port or _PORTS[scheme]) for entry in self._direct):
            return None
        return _read_proxy(*named)


def is_loopback(host: str) -> bool:
    """Whether *host*, a name or an address, is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@dataclass(frozen=True, slots=True)
class _Direct:
    """An entry of ``NO_PROXY``."""

    host: str
    """A name without leading dots, an address or a network; ``*`` for everything."""
    port: int | None

    @classmethod
    def read(cls, entry: str) -> Self:
        match = re.fullmatch(r"(\[[^\]]*\]|[^:]*):(\d{1,5})", entry)
        host, port = (match[1], int(match[2])) if match else (entry, None)
        return cls(host if host == "*" else _plain(host).removeprefix("*").lstrip("."), port)

    def covers(self, host: str, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.host == "*" or host == self.host:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return bool(self.host) and host.endswith(f".{self.host}")
        return any(address in network for network in self._networks())

    def _networks(self) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        try:
            yield ipaddress.ip_network(self.host, strict=False)
        except ValueError:
            return


def _plain(host: str) -> str:
    """*host* as it is compared: small letters, no brackets, no dot at the end."""
    return host.lower().removeprefix("[").removesuffix("]").rstrip(".")


def _read_proxy(variable: str, value: str) -> Proxy:
    text = value if "://" in value else f"http://{value}"
    problem = "does not have the form http://user:password@host:port"
    try:
        url = URL(text)
        if url.scheme not in _USABLE:
            problem = f"names a {url.scheme} proxy, which this program cannot use"
        elif url.host and url.port:
            return Proxy(_with_readable_login(url), variable)
    except ValueError:
        pass
    raise ConfigError(
        f"{variable} {problem}",
        hint="set it to an HTTP proxy, with special characters of a password as %XX, "
        "or name hosts that need none in NO_PROXY",
    )


def _with_readable_login(url: URL) -> URL:
    """*url* such that aiohttp sends the very bytes of its login, as curl and git do.

    aiohttp encodes a login as Latin-1: it loses most characters of most languages.
    """
    if url.raw_user is None:
        return url
    user = unquote_to_bytes(url.raw_user).decode("latin-1")
    if ":" in user:
        raise ValueError("no login has a colon in its name")
    password = unquote_to_bytes(url.raw_password or "").decode("latin-1")
    return url.with_user(user).with_password(password)
