"""The local socket on Windows: a named pipe, with a name made of the home's.

Its default access list lets others open it for reading only; who cannot write cannot ask.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from executor.control.errors import ControlError, NotRunning
from executor.control.protocol import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES

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

    try:
        return Listener(await loop.start_serving_pipe(protocol, _name(home)))
    except OSError as exc:
        raise ControlError(f"{_name(home)}: {exc.strerror}") from exc


def is_trusted(_writer: asyncio.StreamWriter) -> bool:
    """Whether the client may ask: who can write to the pipe may."""
    return True


def exchange(home: Path, request: bytes, timeout_s: float) -> bytes:
    """Send one line to the executor of *home* and return the line that it answers. Blocks.

    Raises:
        NotRunning: There is none.
        ControlError: It does not answer within *timeout_s* seconds, or not in one line.
    """
    outcome: list[bytes | ControlError] = []

    def work() -> None:
        try:
            outcome.append(_exchange(home, request))
        except ControlError as exc:
            outcome.append(exc)
        except OSError as exc:
            outcome.append(ControlError(f"the executor cannot be asked: {exc.strerror}"))

    # Reading from a pipe has no time limit of its own.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not outcome:
        raise ControlError(
            f"the executor does not answer within {timeout_s:g} s", hint="its log may say why"
        )
    if isinstance(outcome[0], ControlError):
        raise outcome[0]
    return outcome[0]


def _exchange(home: Path, request: bytes) -> bytes:
    try:
        pipe = open(_name(home), "r+b", buffering=0)  # noqa: SIM115, PTH123 - closed below; no path
    except FileNotFoundError:
        raise NotRunning(f"no executor is running with the home {home}") from None
    with pipe:
        pipe.write(request)
        answer = bytearray()
        while not answer.endswith(b"\n") and len(answer) < MAX_ANSWER_BYTES:
            if not (piece := pipe.read(65536)):
                raise ControlError("the executor has hung up", hint="try again")
            answer += piece
    return bytes(answer)


def _name(home: Path) -> str:
    whole = os.path.normcase(home.resolve())
    return rf"\\.\pipe\wegent-executor-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:16]}"
