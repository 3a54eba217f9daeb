"""Stopping an agent's whole process tree where it stands, and letting it go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress

import psutil

from shared.shielding import in_thread

_ROUNDS = 5
"""How often to look for processes that were started while others were being stopped."""


class Pause:
    """Whether a run is paused, and its agent's processes with it."""

    def __init__(self, held: Callable[[], AbstractContextManager[None]]) -> None:
        """*held* is entered while the run is paused."""
        self._held = held
        self._holding = ExitStack()
        self._over = asyncio.Event()
        self._over.set()
        self._pid: int | None = None
        """The agent's process."""
        self._suspended: int | None = None
        self._one_at_a_time = asyncio.Lock()

    async def begin(self) -> None:
        """Pause; harmless again."""
        if self._over.is_set():
            self._over.clear()
            self._holding.enter_context(self._held())
        await self._apply()

    async def end(self) -> None:
        """Go on; harmless when not paused."""
        self._over.set()
        self._holding.close()
        await self._apply()

    async def over(self) -> None:
        """Wait until the run is not paused."""
        await self._over.wait()

    async def attach(self, pid: int | None) -> None:
        """Take on the agent's process, which stands still at once if the run is paused.

        ``None``: it has none.
        """
        self._pid = pid
        await self._apply()

    async def detach(self) -> None:
        """Let go of the agent's process, so that it can be ended; the run stays paused."""
        await self.attach(None)

    async def _apply(self) -> None:
        # What holds when its turn has come counts, and a thread that has begun is waited for: a
        # process is never left standing by one who is late.
        async with self._one_at_a_time:
            wanted = None if self._over.is_set() else self._pid
            if wanted == self._suspended:
                return
            suspended, self._suspended = self._suspended, wanted
            if suspended is not None:
                await in_thread(resume_tree, suspended)
            if wanted is not None:
                await in_thread(suspend_tree, wanted)


def suspend_tree(pid: int) -> None:
    """Stop *pid* and everything it has started. Looks at the process table: not for the loop."""
    stopped: set[psutil.Process] = set()
    for _ in range(_ROUNDS):
        running = [process for process in _tree(pid) if process not in stopped]
        if not running:
            return
        for process in running:
            with suppress(psutil.Error):
                process.suspend()
        stopped.update(running)


def resume_tree(pid: int) -> None:
    """Undo :func:`suspend_tree`. Looks at the process table: not for the loop."""
    for process in reversed(_tree(pid)):  # the agent last: it finds its tools at work
        with suppress(psutil.Error):
            process.resume()


def _tree(pid: int) -> list[psutil.Process]:
    """The process and all that descend from it; none when it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []
