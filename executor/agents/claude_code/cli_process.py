"""Start the CLI as a child process whose end is its own, whoever else holds its pipes."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

PIPES_GRACE_S: Final = 1.0
"""How long after the end of the process what it had written may take to be read."""


class _Streams(SubprocessStreamProtocol):
    """Closes the pipes soon after the process has ended.

    asyncio itself waits for the end of the pipes, which a process that was left behind may hold for
    ever: nobody would hear that the CLI is dead.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._pipes = transport

    def process_exited(self) -> None:
        super().process_exited()
        asyncio.get_running_loop().call_later(PIPES_GRACE_S, self._pipes.close)


async def start(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], limit: int
) -> Process:
    """Start *command* in a session of its own, with pipes; *limit*: the longest line, in bytes.

    Raises:
        OSError: It cannot be started.
        ValueError: It has an argument that no command line can carry.
    """
    loop = asyncio.get_running_loop()
    more: dict[str, Any] = {"start_new_session": True} if sys.platform != "win32" else {}
    transport, protocol = await loop.subprocess_exec(
        lambda: _Streams(limit, loop),
        *command,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        cwd=cwd,
        env=env,
        **more,
    )
    return Process(transport, protocol, loop)


async def ended(process: Process, within_s: float) -> bool:
    """Wait for its end; ``False``: the time was over before."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await process.wait()
    return process.returncode is not None


def describe_status(status: int) -> str:
    """``exit status 1``, or ``killed by SIGKILL`` for -9."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
