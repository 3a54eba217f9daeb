"""Reading what a request gives inline or by address, within bounds.

A request's token goes to the origin of its backend, and to nobody else.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, Mapping
from typing import Final, Protocol
from urllib.parse import urljoin, urlsplit

import aiohttp

from executor.network.access import NetworkAccess
from executor.network.problem import diagnose
from shared.protocol.execution import ExecutionRequest

DOWNLOAD_TIMEOUT_S: Final = 600.0
"""For one file, all redirects included."""

_SILENCE_TIMEOUT_S: Final = 60.0
_MAX_REDIRECTS: Final = 5
_CHUNK_BYTES: Final = 256 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class Unusable(Exception):
    """Something that a request brings cannot be used; says why in words without values."""


class Given(Protocol):
    """Something that a request gives inline or by address; exactly one of them is set."""

    @property
    def content(self) -> str | None:
        """Text, which becomes UTF-8."""
        ...

    @property
    def content_base64(self) -> str | None: ...

    @property
    def url(self) -> str | None:
        """Absolute, or relative to the backend's address."""
        ...

    @property
    def size(self) -> int | None:
        """How many bytes it must have; ``None``: it is not said."""
        ...


def origin(url: str) -> str | None:
    """Scheme, host and port of *url*, with ``ws`` read as ``http``; ``None``: not such a URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme.lower(), parts.scheme.lower())
    if scheme not in ("http", "https") or not parts.hostname:
        return None
    return f"{scheme}://{parts.hostname.lower()}:{port or {'http': 80, 'https': 443}[scheme]}"


class Fetcher:
    """Reads what requests give.

    Args:
        backend_url: The backend this executor is connected to. A request's ``auth_token`` goes to
            its origin only, and only when the request names the same backend, or none. ``None``:
            it is connected to none, and a request's token goes to the backend that it names.
        environ: Where proxies and authorities are read from.
        timeout_s: For one file.
    """

    def __init__(
        self,
        *,
        backend_url: str | None,
        environ: Mapping[str, str],
        timeout_s: float = DOWNLOAD_TIMEOUT_S,
    ) -> None:
        self._backend_url = backend_url
        self._network = NetworkAccess(environ)
        self.timeout_s = timeout_s

    def can_fetch(self, request: ExecutionRequest, url: str) -> bool:
        """Whether *url* is an address that :meth:`read` fetches from."""
        return origin(self._absolute(request, url)) is not None

    def read(
        self, http: aiohttp.ClientSession, request: ExecutionRequest, given: Given, limit: int
    ) -> AsyncGenerator[bytes]:
        """The bytes of *given*, at most *limit*; not bounded in time.

        Raises:
            Unusable: They are too many, not as many as was said, or not to be had.
            ConfigError: The settings of the network are wrong.
        """
        bound = limit if given.size is None else min(limit, given.size)
        if given.content is not None:
            chunks = _encoded(given.content)
        elif given.content_base64 is not None:
            chunks = _decoded(given.content_base64)
        else:
            url = self._absolute(request, given.url or "")
            chunks = self._downloaded(http, request, url)
        return _bounded(chunks, bound, given.size)

    def _absolute(self, request: ExecutionRequest, url: str) -> str:
        base = request.backend_url or self._backend_url or ""
        if origin(base) is None:
            return url
        http_scheme = {"ws": "http", "wss": "https"}.get(urlsplit(base).scheme.lower())
        if http_scheme is not None:
            base = f"{http_scheme}:{base.partition(':')[2]}"
        return _joined(base, url)

    async def _downloaded(
        self, http: aiohttp.ClientSession, request: ExecutionRequest, url: str
    ) -> AsyncGenerator[bytes]:
        for _ in range(_MAX_REDIRECTS + 1):
            place = origin(url)
            if place is None:
                raise Unusable("it leads to an address that is neither http nor https")
            try:
                async with http.get(
                    url,
                    headers=self._headers(request, url),
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        sock_connect=_SILENCE_TIMEOUT_S, sock_read=_SILENCE_TIMEOUT_S
                    ),
                    **await self._network.options(url),
                ) as response:
                    if response.status in _REDIRECTS and "Location" in response.headers:
                        url = _joined(url, response.headers["Location"])
                        continue
                    if response.status == 407:
                        response.raise_for_status()
                    if response.status != 200:
                        raise Unusable(f"the server answered {response.status}")
                    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                        yield chunk
                    return
            except aiohttp.ClientError as exc:
                # Its text may hold the address, and that a signature.
                proxy = self._network.proxies.lead_to(url)
                problem = diagnose(exc, where=place, proxy=proxy)
                raise Unusable(f"the download failed: {problem}") from None
        raise Unusable("it is redirected too often")

    def _headers(self, request: ExecutionRequest, url: str) -> dict[str, str]:
        if request.auth_token is None:
            return {}
        ours = origin(self._backend_url or request.backend_url or "")
        named = ours if request.backend_url is None else origin(request.backend_url)
        if ours is None or named != ours or origin(url) != ours:
            return {}
        return {"Authorization": f"Bearer {request.auth_token.get_secret_value()}"}


def _joined(base: str, url: str) -> str:
    try:
        return urljoin(base, url)
    except ValueError:
        return ""  # no address at all, which whoever uses it refuses


async def _bounded(
    chunks: AsyncGenerator[bytes], limit: int, declared: int | None
) -> AsyncGenerator[bytes]:
    size = 0
    try:
        async for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise Unusable(f"it is larger than {limit} bytes")
            yield chunk
    finally:
        await chunks.aclose()
    if declared is not None and size != declared:
        raise Unusable(f"it has {size} bytes instead of the {declared} announced")


async def _decoded(text: str) -> AsyncGenerator[bytes]:
    try:
        # Line breaks are usual in Base64, other foreign characters a sign of something else.
        content = await asyncio.to_thread(
            lambda: base64.b64decode("".join(text.split()), validate=True)
        )
    except (binascii.Error, ValueError):
        raise Unusable("its content is not valid Base64") from None
    yield content


async def _encoded(text: str) -> AsyncGenerator[bytes]:
    yield await asyncio.to_thread(text.encode, "utf-8", "replace")
