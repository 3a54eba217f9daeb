"""Where a new version comes from: a file, or an address; and the checksum that it must have."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import urljoin, urlsplit, urlunsplit

import aiohttp

from executor.network.access import NetworkAccess
from executor.network.problem import diagnose
from executor.updating.errors import UpdateError
from shared.errors import ConfigError

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have come, and with how many there are, if that is known."""

CHUNK_BYTES: Final = 2**18
MAX_CHECKSUM_BYTES: Final = 4096
"""One line of ``sha256sum`` has some hundred; what is longer is something else."""

MAX_REDIRECTS: Final = 5
CONNECT_S: Final = 30.0
SILENCE_S: Final = 60.0
"""How long a server may send nothing; how long a download takes in all is nobody's business."""

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Source:
    """A file or an address that holds a version of this program."""

    def __init__(self, text: str, *, sha256: str | None, network: NetworkAccess) -> None:
        """Check what was typed; nothing is read yet.

        Args:
            text: A path, or an ``http(s)`` address.
            sha256: What its checksum must be; ``None``: what the file beside it says, whose name
                has ``.sha256`` added.
            network: The way to addresses.

        Raises:
            ConfigError: It cannot be used like this.
        """
        self._text = text
        self._network = network
        self._sha256 = _read_checksum(sha256) if sha256 is not None else None
        self._is_address = "://" in text
        if self._is_address:
            _check_address(text, has_checksum=sha256 is not None)

    def __str__(self) -> str:
        """The source as messages name it: what follows a question mark may be a secret."""
        return self._text.partition("?")[0] if self._is_address else self._text

    async def checksum(self) -> str:
        """What its SHA-256 checksum must be, in small hex digits.

        Raises:
            UpdateError: None was given, and none can be read beside it.
        """
        return self._sha256 or await self._checksum_beside()

    async def fetch(self, target: Path, wanted: str, progress: Progress) -> None:
        """Write it to *target*, which must not exist; after an error that may hold a part of it.

        Args:
            wanted: What :meth:`checksum` has returned.

        Raises:
            UpdateError: It cannot be downloaded, or its checksum is another.
            OSError: A file cannot be read or written.
        """
        digest = hashlib.sha256()
        with await asyncio.to_thread(target.open, "xb") as file:
            sink = _Sink(file, digest.update, progress)
            if self._is_address:
                await self._download(self._text, sink)
            else:
                await asyncio.to_thread(_copy, Path(self._text), sink)
        if digest.hexdigest() != wanted:
            raise UpdateError(
                f"the checksum does not match: expected {wanted}, found {digest.hexdigest()}",
                hint="nothing was changed; fetch the file anew, or ask who offers it",
            )

    async def _checksum_beside(self) -> str:
        parts = urlsplit(self._text)
        beside = (
            urlunsplit(parts._replace(path=f"{parts.path}.sha256"))
            if self._is_address
            else f"{self._text}.sha256"
        )
        hint = "give it with --sha256"
        try:
            if self._is_address:
                line = await self._small_answer(beside)
            else:
                line = await asyncio.to_thread(_read_start, Path(beside))
        except UpdateError as exc:  # what is in the way there is in the way of the program, too
            raise UpdateError(
                f"no checksum can be read beside {self}: {exc.message}", hint=exc.hint or hint
            ) from exc
        except OSError as exc:
            if not await asyncio.to_thread(Path(self._text).exists):
                raise UpdateError(f"there is no file {self}") from exc
            raise UpdateError(
                f"no checksum can be read beside {self}: {exc.strerror}", hint=hint
            ) from exc
        first, *_ = line.decode("ascii", "replace").split(maxsplit=1) or [""]
        try:
            return _read_checksum(first)
        except ConfigError as exc:  # nothing that was typed is wrong
            raise UpdateError(f"beside {self}, {exc.message}", hint=hint) from exc

    async def _small_answer(self, address: str) -> bytes:
        async with self._answer(address) as response:
            start = bytearray()  # what has come may be less than what there is
            while more := await response.content.read(MAX_CHECKSUM_BYTES - len(start)):
                start += more
            return bytes(start)

    async def _download(self, address: str, sink: _Sink) -> None:
        async with self._answer(address) as response:
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                await asyncio.to_thread(sink.write, chunk, response.content_length)

    @asynccontextmanager
    async def _answer(self, address: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer from *address*, or from where it leads; never from https to http."""
        where = urlsplit(address).hostname or str(self)
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=SILENCE_S)
        try:
            # The checksum is that of the bytes as they are offered: nothing is unpacked on the way.
            async with aiohttp.ClientSession(
                timeout=timeout, auto_decompress=False, headers={"Accept-Encoding": "identity"}
            ) as session:
                for _ in range(MAX_REDIRECTS):
                    options = await self._network.options(address)
                    async with session.get(address, allow_redirects=False, **options) as response:
                        if 300 <= response.status < 400 and "Location" in response.headers:
                            address = self._follow(address, response.headers["Location"])
                            continue
                        response.raise_for_status()
                        yield response
                        return
        except aiohttp.ClientPayloadError as exc:
            raise UpdateError(f"the download of {self} was cut off", hint="try again") from exc
        except (aiohttp.ClientError, TimeoutError) as exc:
            proxy = self._network.proxies.lead_to(address)
            problem = diagnose(exc, where=where, proxy=proxy)
            raise UpdateError(problem.message, hint=problem.hint) from exc
        raise UpdateError(f"{self} leads from one address to the next")

    def _follow(self, address: str, location: str) -> str:
        target = urljoin(address, location)
        parts = urlsplit(target)
        as_safe = parts.scheme == "http" == urlsplit(address).scheme and (
            self._sha256 is not None or parts.hostname in _LOOPBACK
        )
        if not (as_safe or parts.scheme == "https"):
            where = urlsplit(address).hostname
            raise UpdateError(f"{where} leads to an address that is not https://")
        return target


class _Sink:
    """Where the bytes go: into a file, into the checksum, and to whoever watches."""

    def __init__(
        self, file: BinaryIO, digest: Callable[[bytes], object], progress: Progress
    ) -> None:
        self._file = file
        self._digest = digest
        self._progress = progress
        self._written = 0

    def write(self, chunk: bytes, total: int | None) -> None:
        """Take the next bytes. Blocks."""
        self._file.write(chunk)
        self._digest(chunk)
        self._written += len(chunk)
        self._progress(self._written, total)


def _copy(source: Path, sink: _Sink) -> None:
    total = source.stat().st_size
    with source.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            sink.write(chunk, total)


def _read_start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_CHECKSUM_BYTES)


def _read_checksum(text: str) -> str:
    checksum = text.lower()
    if not re.fullmatch(r"[0-9a-f]{64}", checksum):
        raise ConfigError("what should be a SHA-256 checksum is none", hint="it has 64 hex digits")
    return checksum


def _check_address(address: str, *, has_checksum: bool) -> None:
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError("--from: only files and http(s) addresses can be used")
    if "@" in parts.netloc:
        raise ConfigError(
            "--from: an address with a login shows it to everybody on this machine",
            hint="download the file first, and name that",
        )
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not has_checksum:
        raise ConfigError(
            "--from: who can change a file on its way over http:// can change its checksum, too",
            hint="use https://, or give the checksum with --sha256",
        )
