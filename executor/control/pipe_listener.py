"""The executor's end of the local socket on Windows: a named pipe.

Its default access list lets others open it for reading only; who cannot write cannot ask.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from executor.control.errors import ControlError
from executor.control.places import pipe_name
from executor.control.protocol import MAX_REQUEST_BYTES

assert sys.platform == "win32"  # noqa: S101 - for whoever checks the types

OnClient = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]


class Listener:
    """An open pipe, which takes clients."""

    def __init__(self, servers: list[Any]) -> None:
        """Use :func:`listen`."""
        self._servers = servers

    async def close(self) -> None:
        """Take no clients any more; those that there are stay."""
        for server in self._servers:
            server.close()


async def listen(home: Path, on_client: OnClient) -> Listener:
    """Open the pipe of the executor that holds the lock of *home*.

    Raises:
        ControlError: It cannot be opened; somebody else may have taken its name.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, asyncio.ProactorEventLoop)  # noqa: S101 - the default on Windows

    def protocol() -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(limit=MAX_REQUEST_BYTES)
        return asyncio.StreamReaderProtocol(reader, on_client)

    name = pipe_name(home)
    try:
        return Listener(await loop.start_serving_pipe(protocol, name))
    except OSError as exc:
        raise ControlError(f"{name}: {exc.strerror}") from exc


def is_trusted(_writer: asyncio.StreamWriter) -> bool:
    """Whether the client may ask: who can write to the pipe may."""
    return True
