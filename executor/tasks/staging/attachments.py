"""Attachments of a run: files given inline or fetched, placed in ``{session}/attachments``.

How they are written safely is :mod:`.attachment_folder`'s matter.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import aiohttp

from executor.session_places import ATTACHMENTS
from executor.tasks.staging.attachment_folder import open_folder
from executor.tasks.staging.attachment_names import safe_name
from executor.tasks.staging.fetching import Fetcher, Unusable
from shared.errors import ConfigError, Refusal, RunError
from shared.protocol.execution import ExecutionRequest
from shared.status import ErrorCode

MAX_ATTACHMENT_BYTES: Final = 100 * 1024 * 1024


class Attachments:
    """Places attachments, which *fetcher* reads."""

    def __init__(self, fetcher: Fetcher, *, max_bytes: int = MAX_ATTACHMENT_BYTES) -> None:
        self._fetcher = fetcher
        self._max_bytes = max_bytes

    def check(self, request: ExecutionRequest) -> None:
        """Refuse what can be seen to be unusable before anything is fetched.

        Raises:
            Refusal: ``invalid_request``, with the name of the field.
        """
        for number, attachment in enumerate(request.attachments):
            place = f"attachments.{number}"
            if attachment.size is not None and attachment.size > self._max_bytes:
                raise _invalid(f"{place}.size: must be at most {self._max_bytes} bytes")
            url = attachment.url
            if url is not None and not self._fetcher.can_fetch(request, url):
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
        async with (
            open_folder(session_dir / ATTACHMENTS) as folder,
            aiohttp.ClientSession() as http,
        ):
            for attachment in request.attachments:
                shown = safe_name(attachment.filename)
                try:
                    async with asyncio.timeout(self._fetcher.timeout_s):
                        chunks = self._fetcher.read(http, request, attachment, self._max_bytes)
                        name = await folder.write(shown, chunks, names)
                except Unusable as exc:
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


def _invalid(message: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_REQUEST, message)


def _failed(name: str, reason: str) -> RunError:
    return RunError(ErrorCode.ATTACHMENT_FAILED, f"attachment {name!r}: {reason}")
