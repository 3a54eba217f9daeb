"""Attachments of a run: files given inline or fetched, placed in ``{session}/attachments``.

How they are written safely is :mod:`.attachment_folder`'s matter.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import aiohttp

from executor.network.access import NetworkAccess
from executor.network.problem import diagnose
from executor.tasks.attachment_folder import open_folder
from executor.tasks.attachment_names import safe_name
from shared.errors import ConfigError, Refusal, RunError
from shared.protocol.execution import Attachment, ExecutionRequest
from shared.status import ErrorCode

FOLDER: Final = "attachments"

MAX_ATTACHMENT_BYTES: Final = 100 * 1024 * 1024
DOWNLOAD_TIMEOUT_S: Final = 600.0
"""For one file, all redirects included."""

_SILENCE_TIMEOUT_S: Final = 60.0
_MAX_REDIRECTS: Final = 5
_CHUNK_BYTES: Final = 256 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


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


class Attachments:
    """Places attachments.

    Args:
        backend_url: The backend this executor is connected to. A request's ``auth_token`` goes to
            its origin only, and only when the request names the same backend, or none. ``None``:
            to nobody.
        environ: Where proxies and authorities are read from.
    """

    def __init__(
        self,
        *,
        backend_url: str | None,
        environ: Mapping[str, str],
        max_bytes: int = MAX_ATTACHMENT_BYTES,
        timeout_s: float = DOWNLOAD_TIMEOUT_S,
    ) -> None:
        self._backend_url = backend_url
        self._network = NetworkAccess(environ)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    def check(self, request: ExecutionRequest) -> None:
        """Refuse what can be seen to be unusable before anything is fetched.

        Raises:
            Refusal: ``invalid_request``, with the name of the field.
        """
        for number, attachment in enumerate(request.attachments):
            place = f"attachments.{number}"
            if attachment.size is not None and attachment.size > self._max_bytes:
                raise _invalid(f"{place}.size: must be at most {self._max_bytes} bytes")
            if (
                attachment.url is not None
                and origin(self._absolute(request, attachment.url)) is None
            ):
                raise _invalid(f"{place}.url: must be an http or https address")

    async def place(self, request: ExecutionRequest, session_dir: Path) -> tuple[Path, ...]:
        """Write the attachments of *request* below *session_dir*; returns where they are.

        A file that is there already, from an earlier message, is not written again; another one
        of the same name gets a number.

        Raises:
            RunError: ``attachment_failed``, naming the file; nothing partial is left.
        """
        if not request.attachments:
            return ()
        paths: list[Path] = []
        names: set[str] = set()
        async with open_folder(session_dir / FOLDER) as folder, aiohttp.ClientSession() as http:
            for attachment in request.attachments:
                shown = safe_name(attachment.filename)
                try:
                    async with asyncio.timeout(self._timeout_s):
                        chunks = self._content(http, request, attachment)
                        name = await folder.write(shown, chunks, names)
                except _Unusable as exc:
                    raise _failed(shown, str(exc)) from None
                except TimeoutError:
                    raise _failed(shown, "the download took too long") from None
                except ConfigError as exc:
                    raise _failed(shown, f"the download failed: {exc}") from None
                except OSError as exc:
                    raise _failed(shown, exc.strerror or type(exc).__name__) from None
                names.add(name.casefold())
                paths.append(folder.path / name)
        return tuple(paths)

    def _absolute(self, request: ExecutionRequest, url: str) -> str:
        base = request.backend_url or self._backend_url or ""
        if origin(base) is None:
            return url
        http_scheme = {"ws": "http", "wss": "https"}.get(urlsplit(base).scheme.lower())
        if http_scheme is not None:
            base = f"{http_scheme}:{base.partition(':')[2]}"
        return _joined(base, url)

    def _content(
        self, http: aiohttp.ClientSession, request: ExecutionRequest, attachment: Attachment
    ) -> AsyncGenerator[bytes]:
        limit = self._max_bytes if attachment.size is None else attachment.size
        if attachment.content_base64 is not None:
            return _bounded(_decoded(attachment.content_base64), limit, attachment.size)
        url = self._absolute(request, attachment.url or "")
        return _bounded(self._downloaded(http, request, url), limit, attachment.size)

    async def _downloaded(
        self, http: aiohttp.ClientSession, request: ExecutionRequest, url: str
    ) -> AsyncGenerator[bytes]:
        for _ in range(_MAX_REDIRECTS + 1):
            place = origin(url)
            if place is None:
                raise _Unusable("it leads to an address that is neither http nor https")
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
                        raise _Unusable(f"the server answered {response.status}")
                    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                        yield chunk
                    return
            except aiohttp.ClientError as exc:
                # Its text may hold the address, and that a signature.
                proxy = self._network.proxies.lead_to(url)
                problem = diagnose(exc, where=place, proxy=proxy)
                raise _Unusable(f"the download failed: {problem}") from None
        raise _Unusable("it is redirected too often")

    def _headers(self, request: ExecutionRequest, url: str) -> dict[str, str]:
        if request.auth_token is None or self._backend_url is None:
            return {}
        ours = origin(self._backend_url)
        named = ours if request.backend_url is None else origin(request.backend_url)
        if ours is None or named != ours or origin(url) != ours:
            return {}
        return {"Authorization": f"Bearer {request.auth_token.get_secret_value()}"}


def _joined(base: str, url: str) -> str:
    try:
        return urljoin(base, url)
    except ValueError:
        return ""  # no address at all, which whoever uses it refuses


class _Unusable(Exception):
    """The content cannot be used; says why in words without values."""


def _invalid(message: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_REQUEST, message)


def _failed(name: str, reason: str) -> RunError:
    return RunError(ErrorCode.ATTACHMENT_FAILED, f"attachment {name!r}: {reason}")


async def _bounded(
    chunks: AsyncGenerator[bytes], limit: int, declared: int | None
) -> AsyncGenerator[bytes]:
    size = 0
    try:
        async for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise _Unusable(f"it is larger than {limit} bytes")
            yield chunk
    finally:
        await chunks.aclose()
    if declared is not None and size != declared:
        raise _Unusable(f"it has {size} bytes instead of the {declared} announced")


async def _decoded(text: str) -> AsyncGenerator[bytes]:
    try:
        # Line breaks are usual in Base64, other foreign characters a sign of something else.
        content = await asyncio.to_thread(
            lambda: base64.b64decode("".join(text.split()), validate=True)
        )
    except (binascii.Error, ValueError):
        raise _Unusable("its content is not valid Base64") from None
    yield content
