"""The way to a server, taken one step after the other: name, connection, proxy, TLS.

Made by hand, where the executor itself uses a library: only so is it known which step failed, or
took too long.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from email.message import Message
from email.parser import HeaderParser
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from executor.diagnosis import obstacles
from executor.diagnosis.obstacles import Blocked, Step, Target
from executor.network.proxies import Proxies, Proxy
from shared.errors import ConfigError

LIMIT_S: Final = 4.0
"""For the whole way and the answer. What takes longer is of no use to an executor either."""

_ATTEMPT_S: Final = 1.5
"""For one of several addresses, so that others get their turn."""

_ADDRESSES: Final = 4
"""How many addresses of a name are tried."""

_UNUSABLE_ANSWER: Final = (OSError, EOFError, ValueError, asyncio.LimitOverrunError)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Route:
    """One connection, and what was learned on the way to it.

    Attributes:
        passed: The steps taken, and what was found there.
    """

    def __init__(self, target: Target, proxies: Proxies, trust: ssl.SSLContext) -> None:
        """Nothing is connected yet; *trust*: whose certificates are accepted."""
        self.passed: list[tuple[Step, str]] = []
        self._target = target
        self._proxies = proxies
        self._trust = trust
        self._at = Step.NAME
        self._ends_at = 0.0
        self._proxy: Proxy | None = None
        self._streams: Streams | None = None

    async def take(self) -> None:
        """Take all steps up to a connection that is open to the server itself.

        Raises:
            Blocked: One of them does not lead further.
        """
        self._ends_at = asyncio.get_running_loop().time() + LIMIT_S
        try:
            async with asyncio.timeout_at(self._ends_at):
                await self._take()
        except TimeoutError:
            raise self._no_answer() from None

    async def ask(self) -> Message:
        """Send one GET request; the headers of the answer.

        Raises:
            Blocked: There is no answer, or none in HTTP, or it is the proxy's.
        """
        assert self._streams is not None  # noqa: S101 - take() comes first
        reader, writer = self._streams
        self._at = Step.HTTP
        url = self._target.url
        proxy = None if url.secure else self._proxy
        address = f"http://{url.host}/{url.prefix}" if proxy else f"/{url.prefix}"
        lines = [f"GET {address} HTTP/1.1", f"Host: {url.host}", "Connection: close"]
        try:
            async with asyncio.timeout_at(self._ends_at):
                status, headers = await _request(
                    reader, writer, lines + (_login(proxy) if proxy else [])
                )
        except TimeoutError:
            raise self._no_answer() from None
        except _UNUSABLE_ANSWER as exc:
            raise obstacles.no_http(self._target, exc) from None
        if proxy and status in {407, 502, 503, 504}:
            raise obstacles.refused_by_proxy(proxy, url.host, status, _logins(headers))
        return headers

    async def close(self) -> None:
        """End the connection, if there is one."""
        if self._streams is not None:
            self._streams[1].transport.abort()

    async def _take(self) -> None:
        url = self._target.url
        host, port = _host_and_port(url.host, secure=url.secure)
        try:
            proxy = self._proxy = self._proxies.lead_to(str(url))
        except ConfigError as exc:
            raise obstacles.unusable_setting(Step.PROXY, exc) from None
        nearest = (proxy.url.host or "", proxy.url.port or 0) if proxy else (host, port)
        reader, writer = self._streams = await self._connect(*nearest)
        if proxy is not None:
            self._at = Step.PROXY
            if proxy.url.scheme == "https":
                await self._encrypt(writer, nearest[0], obstacles.name_of(proxy))
            if url.secure:
                await self._ask_proxy(proxy, host, port, reader, writer)
            self.passed.append((Step.PROXY, f"{obstacles.name_of(proxy)} leads there"))
        if url.secure:
            self._at = Step.TLS
            await self._encrypt(writer, host, str(url))
            self.passed.append((Step.TLS, _describe(writer.get_extra_info("ssl_object"))))

    async def _connect(self, host: str, port: int) -> Streams:
        addresses = await self._look_up(host, port)
        self._at = Step.CONNECTION
        tried: list[tuple[str, OSError]] = []
        for address in addresses[:_ADDRESSES]:
            try:
                async with asyncio.timeout(_ATTEMPT_S if len(addresses) > 1 else None):
                    streams = await asyncio.open_connection(address, port)
            except TimeoutError:
                tried.append((_authority(address, port), OSError(errno.ETIMEDOUT, "")))
            except OSError as exc:
                tried.append((_authority(address, port), exc))
            else:
                self.passed.append((Step.CONNECTION, f"{_authority(address, port)} accepts"))
                return streams
        raise obstacles.unreachable(self._target, self._proxy, tried)

    async def _look_up(self, host: str, port: int) -> list[str]:
        """The addresses of *host*, those of IPv4 first."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as exc:
            raise obstacles.unknown_name(self._target, self._proxy, host, exc) from None
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if addresses != [host]:
            self.passed.append((Step.NAME, f"{host} is {', '.join(addresses[:_ADDRESSES])}"))
        return addresses

    async def _ask_proxy(
        self,
        proxy: Proxy,
        host: str,
        port: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        authority = _authority(host, port)
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *_login(proxy)]
        try:
            status, headers = await _request(reader, writer, lines)
        except _UNUSABLE_ANSWER as exc:
            raise obstacles.no_proxy(proxy, exc) from None
        if status != 200:
            raise obstacles.refused_by_proxy(proxy, host, status, _logins(headers))

    async def _encrypt(self, writer: asyncio.StreamWriter, host: str, name: str) -> None:
        try:
            await writer.start_tls(self._trust, server_hostname=host)
        except ssl.SSLCertVerificationError as exc:
            raise obstacles.untrusted(self._target, name, self._at, exc) from None
        except (OSError, EOFError) as exc:
            raise obstacles.no_tls(self._target, name, self._at, exc) from None

    def _no_answer(self) -> Blocked:
        return obstacles.no_answer(self._target, self._proxy, self._at, LIMIT_S)


@contextlib.asynccontextmanager
async def open_route(
    target: Target, proxies: Proxies, trust: ssl.SSLContext
) -> AsyncIterator[Route]:
    """A route that is not taken yet; closed at the end."""
    route = Route(target, proxies, trust)
    try:
        yield route
    finally:
        await route.close()


async def _request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lines: list[str]
) -> tuple[int, Message]:
    """Send the head of a request; the status and the headers of the answer.

    Raises:
        ValueError: What came is not HTTP.
        OSError: The connection broke.
        EOFError: The connection was closed before the answer was complete.
        asyncio.LimitOverrunError: The answer has no end.
    """
    writer.write("\r\n".join([*lines, "User-Agent: wegent-executor", "", ""]).encode("latin-1"))
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, _, rest = head.partition("\r\n")
    version, _, status = first.partition(" ")
    if not version.startswith("HTTP/1.") or not status[:3].isdecimal():
        raise ValueError("what came is not HTTP")
    return int(status[:3]), HeaderParser().parsestr(rest)


def _logins(headers: Message) -> list[str]:
    return headers.get_all("Proxy-Authenticate", [])


def _login(proxy: Proxy) -> list[str]:
    login = aiohttp.BasicAuth.from_url(proxy.url)
    return [f"Proxy-Authorization: {login.encode()}"] if login else []


def _host_and_port(host: str, *, secure: bool) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    return parts.hostname or "", parts.port or (443 if secure else 80)


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _describe(tls: ssl.SSLObject) -> str:
    """Which TLS it is, who issued the server's certificate and until when it is valid."""
    certificate: dict[str, Any] = dict(tls.getpeercert() or {})
    issuer = {key: value for part in certificate.get("issuer", ()) for key, value in part}
    by = issuer.get("organizationName") or issuer.get("commonName") or "an unnamed authority"
    return f"{tls.version()}, certificate of {by}, valid until {certificate.get('notAfter')}"
