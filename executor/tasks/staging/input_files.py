"""The input files of a request, placed in ``{session}/input``.

The folder is what the last request brought that had any, as a whole. The same files again leave
it alone, with what the agent has made of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

from executor.plain_files import read_plain
from executor.session_places import INPUT
from executor.tasks.staging.fetching import Fetcher, Unusable
from executor.tasks.staging.folders import StagedFolder
from shared.errors import ConfigError, Refusal, RunError
from shared.protocol.execution import ExecutionRequest
from shared.protocol.provisions import InputFile
from shared.shielding import in_thread
from shared.status import ErrorCode

MAX_FILE_BYTES: Final = 100 * 2**20
MAX_TOTAL_BYTES: Final = 2**30

_MARK: Final = ".staged"
"""A file in the folder that says which request's files these are."""


class Inputs:
    """Places input files, which *fetcher* reads."""

    def __init__(
        self,
        fetcher: Fetcher,
        *,
        max_file_bytes: int = MAX_FILE_BYTES,
        max_total_bytes: int = MAX_TOTAL_BYTES,
    ) -> None:
        self._fetcher = fetcher
        self._max_file_bytes = max_file_bytes
        self._max_total_bytes = max_total_bytes

    def check(self, request: ExecutionRequest) -> None:
        """Refuse what can be seen to be unusable before anything is fetched.

        Raises:
            Refusal: ``invalid_request``, with the name of the field.
        """
        for number, file in enumerate(request.input_files):
            place = f"input_files.{number}"
            if file.filename.partition("/")[0].lower() == _MARK:
                raise _invalid(f"{place}.filename: must not be {_MARK}")
            if file.size is not None and file.size > self._max_file_bytes:
                raise _invalid(f"{place}.size: must be at most {self._max_file_bytes} bytes")
            if file.url is not None and not self._fetcher.can_fetch(request, file.url):
                raise _invalid(f"{place}.url: must be an http or https address")

    @asynccontextmanager
    async def staged(
        self, request: ExecutionRequest, session_dir: Path
    ) -> AsyncIterator[Callable[[], None]]:
        """Prepare the files of *request*; what it yields puts them into their place, and blocks.

        Raises:
            RunError: ``attachment_failed``, naming the file.
        """
        mark = await in_thread(_mark_of, request.input_files)
        there = not request.input_files or await in_thread(_is_there, session_dir, mark)
        if there:
            yield lambda: None
            return
        folder = StagedFolder(session_dir, INPUT)
        try:
            await in_thread(folder.open)
            async with aiohttp.ClientSession() as http:
                left = self._max_total_bytes
                for file in request.input_files:
                    left -= await self._fill(http, request, file, folder, left)
            await in_thread(_write_mark, folder, mark)
            yield folder.put
        finally:
            await in_thread(folder.discard)

    async def _fill(
        self,
        http: aiohttp.ClientSession,
        request: ExecutionRequest,
        file: InputFile,
        folder: StagedFolder,
        left: int,
    ) -> int:
        """Write one file, of at most *left* bytes; how many it has."""
        size = 0
        try:
            async with asyncio.timeout(self._fetcher.timeout_s):
                limit = min(left, self._max_file_bytes)
                chunks = self._fetcher.read(http, request, file, limit)
                try:
                    with await in_thread(folder.create, file.filename) as target:
                        async for chunk in chunks:
                            size += await in_thread(target.write, chunk)
                finally:
                    await chunks.aclose()
        except Unusable as exc:
            raise _failed(file, str(exc)) from None
        except TimeoutError:
            raise _failed(file, "the download took too long") from None
        except ConfigError as exc:
            raise _failed(file, f"the download failed: {exc}") from None
        return size


def _mark_of(files: list[InputFile]) -> bytes:
    given = json.dumps([file.model_dump() for file in files], sort_keys=True)
    return hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest().encode()


def _is_there(session_dir: Path, mark: bytes) -> bool:
    folder = session_dir / INPUT
    try:
        return not folder.is_symlink() and read_plain(folder / _MARK, len(mark) + 1) == mark
    except OSError:
        return False


def _write_mark(folder: StagedFolder, mark: bytes) -> None:
    with folder.create(_MARK) as file:
        file.write(mark)


def _invalid(message: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_REQUEST, message)


def _failed(file: InputFile, reason: str) -> RunError:
    return RunError(ErrorCode.ATTACHMENT_FAILED, f"input file {file.filename!r}: {reason}")
