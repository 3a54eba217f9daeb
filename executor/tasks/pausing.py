"""Stopping an agent's whole process tree where it stands, and letting it go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress

import psutil

_ROUNDS = 5
"""How often to look for processes that were started while others were being stopped."""


class Pause:
    """Whether a run is paused, and its agent's processes with it."""

    def __init__(self, held: Callable[[], AbstractContextManager[None]]) -> None:
        """*held* is entered while the run is paused."""
        self._held = held
        self._holding = ExitStack()
        self._wanted = False
        self._suspended: int | None = None
        self._one_at_a_time = asyncio.Lock()

    async def begin(self, pid: int | None) -> None:
        """Pause; *pid* is the agent's process, or ``None`` while there is none."""
        if not self._wanted:
            self._wanted = True
            self._holding.enter_context(self._held())
        await self.extend_to(pid)

    async def end(self) -> None:
        """Go on; harmless when not paused."""
        self._wanted = False
        self._holding.close()
        await self.let_go()

    async def extend_to(self, pid: int | None) -> None:
        """Let a process that is new stand still, too, if the run is paused."""
        async with self._one_at_a_time:
            if self._wanted and pid is not None:
                self._suspended = pid
                await asyncio.to_thread(suspend_tree, pid)

    async def let_go(self) -> None:
        """Let the agent's process go on, so that it can be ended; the run stays paused."""
        async with self._one_at_a_time:
            pid, self._suspended = self._suspended, None
            if pid is not None:
                await asyncio.to_thread(resume_tree, pid)


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
