"""When processes end, to the millisecond, whoever their parent is (Linux)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress


class Exit:
    """One process's end; made while it lives."""

    def __init__(self, pid: int) -> None:
        """Watch *pid*.

        Raises:
            ProcessLookupError: It has ended already.
        """
        self.pid = pid
        self.at_s: float | None = None
        """When it ended, by the system's monotonic clock; ``None`` while it lives."""
        self._over = asyncio.Event()
        self._file = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._file, self._ended)

    async def wait(self, timeout_s: float) -> bool:
        """Wait so long; whether it has ended."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._over.wait()
        except TimeoutError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL to a process that lives, and watch no more: :attr:`at_s` stays ``None``."""
        if self._file >= 0:
            with suppress(ProcessLookupError):  # ended this moment
                signal.pidfd_send_signal(self._file, signal.SIGKILL)
            self._close()

    def _close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._file)
        os.close(self._file)
        self._file = -1

    def _ended(self) -> None:
        self.at_s = time.monotonic()
        self._over.set()
        self._close()
