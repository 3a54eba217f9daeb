"""ControlServer: lets the user of this machine ask the running executor.

Nobody who connects can hold anything up: what is sent is bounded in size and time, what is not read
is dropped, and only so many may be connected at once.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from executor.control import protocol
from executor.control.errors import ControlError
from shared.logging import get_logger

if sys.platform == "win32":
    from executor.control.pipe_listener import Listener, is_trusted, listen
else:
    from executor.control.unix_listener import Listener, is_trusted, listen

logger = get_logger("control")

MAX_CLIENTS: Final = 16
"""Those who come while there are so many are turned away."""

IO_TIMEOUT_S: Final = 5.0
"""How long a client may take to send its line, and again to read the answer."""

Answer = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""From a request to its result; raises ControlError for a refusal, and bounds itself in time."""


class ControlServer:
    """The local socket, from :meth:`start` to :meth:`close`."""

    def __init__(self, home: Path, answer: Answer, *, io_timeout_s: float = IO_TIMEOUT_S) -> None:
        """*home* is locked by this process; *io_timeout_s*: see :data:`IO_TIMEOUT_S`."""
        self._home = home
        self._answer = answer
        self._io_timeout_s = io_timeout_s
        self._listener: Listener | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen; that it cannot costs a warning and ends nothing."""
        try:
            self._listener = await listen(self._home, self._welcome)
        except (ControlError, OSError) as exc:
            logger.warning("there is no local socket, so status, tasks and cancel fail: %s", exc)

    async def close(self) -> None:
        """Stop listening, and hang up on those who are connected."""
        if self._listener is not None:
            await self._listener.close()
        for client in self._clients:
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients)

    def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MAX_CLIENTS or not is_trusted(writer):
            writer.transport.abort()
            return
        client = asyncio.create_task(self._serve(reader, writer), name="control client")
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(0)  # a drain waits until all is out
        try:
            async with asyncio.timeout(self._io_timeout_s):
                line = await _read_line(reader)
            if line is None:
                return
            answer = protocol.encode(await self._answered(line))
            async with asyncio.timeout(self._io_timeout_s):
                writer.write(answer)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError):
            pass  # whoever it was has gone, or does not read
        finally:
            writer.transport.abort()

    async def _answered(self, line: bytes) -> Mapping[str, Any]:
        try:
            return {"ok": True, "result": await self._answer(protocol.decode(line))}
        except ControlError as exc:
            return protocol.failure(exc)
        except Exception as exc:
            logger.exception("a request at the local socket could not be answered")
            return protocol.failure(ControlError(f"internal error: {type(exc).__name__}"))


async def _read_line(reader: asyncio.StreamReader) -> bytes | None:
    """The first line; what is too long for one is returned as far as it goes, ``None``: none came.

    Raises:
        OSError: The connection is broken.
    """
    with suppress(asyncio.LimitOverrunError):
        try:
            return await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as exc:
            return exc.partial or None
    return await reader.read(protocol.MAX_REQUEST_BYTES)
