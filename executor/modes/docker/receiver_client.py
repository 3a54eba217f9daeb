"""HTTP to the receivers that requests name: bounded in time and size, and led nowhere else."""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

import aiohttp
from yarl import URL

from executor.network.access import NetworkAccess
from executor.network.problem import diagnose
from shared.errors import ConfigError, WegentError
from shared.protocol import wire_json
from shared.protocol.execution import MAX_DEPTH, nests_deeper
from shared.version import __version__

TIMEOUT_S: Final = 30.0
"""For one exchange, redirects included."""

CONNECT_TIMEOUT_S: Final = 10.0

MAX_ANSWER_BYTES: Final = 1024 * 1024
"""What is read of an answer; more than any answer of a user."""

MAX_RETRY_AFTER_S: Final = 3600.0
"""How long a receiver may ask not to be called."""

_MAX_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_LATER: Final = frozenset({408, 425, 429})


class Unanswered(WegentError):
    """There was no answer: what was sent may have arrived, or not."""

    code = "unanswered"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver has answered."""

    status: int
    body: bytes = field(default=b"", repr=False)
    """At most :data:`MAX_ANSWER_BYTES`, cut."""
    retry_after_s: float | None = None
    """How long it wants to be left alone."""

    @property
    def means(self) -> Literal["done", "later", "gone", "refused"]:
        """``later``: the same may succeed then; ``gone``: nothing is wanted any more."""
        if 200 <= self.status < 300:
            return "done"
        if self.status == 410:
            return "gone"
        if self.status >= 500 or self.status in _LATER:
            return "later"
        return "refused"

    def json(self) -> Any:
        """The body as JSON; ``None`` when it is none, or nests too deep to be walked."""
        try:
            body = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return None if nests_deeper(body, MAX_DEPTH) else body


class ReceiverClient:
    """Sends to receivers. Made on a running loop; :meth:`close` ends its connections."""

    def __init__(self, network: NetworkAccess, *, timeout_s: float = TIMEOUT_S) -> None:
        """Begin without a connection.

        Args:
            network: How this machine gets out.
            timeout_s: See :data:`TIMEOUT_S`.
        """
        self._network = network
        self._timeout_s = timeout_s
        self._http = aiohttp.ClientSession(
            # One receiver that hangs must hold up no other.
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"wegent-executor/{__version__}", "Accept": "application/json"},
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def send(
        self,
        method: Literal["GET", "POST"],
        url: str,
        *,
        token: str | None,
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Send *body* as JSON and take the answer, whatever its status.

        A redirect is followed within the same origin only: any other is an answer, which was not
        what the token is for.

        Raises:
            Unanswered: There was none; says why, without credentials.
        """
        content = None
        sent = dict(headers)
        if body is not None:
            content = wire_json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        proxy = None
        try:
            address = URL(url)
            async with asyncio.timeout(self._timeout_s):
                for _ in range(_MAX_REDIRECTS + 1):
                    options = await self._network.options(str(address))
                    proxy = self._network.proxies.lead_to(str(address))
                    async with self._http.request(
                        method, address, data=content, headers=sent, allow_redirects=False,
                        **options,
                    ) as response:  # fmt: skip
                        target = _within_origin(address, response)
                        if target is None:
                            return await _read(response)
                        address = target
        except ConfigError as exc:
            raise Unanswered(str(exc)) from None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            where = origin_of(url)
            problem = diagnose(exc, where=where, proxy=proxy, timeout_s=self._timeout_s)
            raise Unanswered(str(problem)) from None
        raise Unanswered(f"{origin_of(url)} redirects without end")


def origin_of(url: str) -> str:
    """Scheme, host and port of *url*: all that messages may show of it."""
    try:
        return str(URL(url).origin())
    except ValueError:
        return "the receiver"


def retry_delays(base_s: float = 1.0, most_s: float = 60.0) -> Iterator[float]:
    """Seconds to wait before each further try: full jitter over *base_s*, doubling to *most_s*."""
    limit = base_s
    while True:
        yield random.uniform(0, limit)
        limit = min(most_s, 2 * limit)


def _within_origin(address: URL, response: aiohttp.ClientResponse) -> URL | None:
    if response.status not in _REDIRECTS or "Location" not in response.headers:
        return None
    target = address.join(URL(response.headers["Location"]))
    return target if target.is_absolute() and target.origin() == address.origin() else None


async def _read(response: aiohttp.ClientResponse) -> Reply:
    chunks: list[bytes] = []
    size = 0
    while size < MAX_ANSWER_BYTES and (chunk := await response.content.readany()):
        chunks.append(chunk)
        size += len(chunk)
    return Reply(
        response.status,
        b"".join(chunks)[:MAX_ANSWER_BYTES],
        read_retry_after(response.headers.get("Retry-After")),
    )


def read_retry_after(header: str | None) -> float | None:
    """``Retry-After`` in seconds, from either form of it; ``None``: not given, or not readable."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            until = email.utils.parsedate_to_datetime(header)
        except ValueError:
            return None
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        seconds = (until - datetime.now(UTC)).total_seconds()
    return None if math.isnan(seconds) else min(max(0.0, seconds), MAX_RETRY_AFTER_S)
