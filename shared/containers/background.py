"""Work that goes on when the call that caused it has returned, or was cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from shared.logging import get_logger

logger = get_logger("containers")


class Background:
    """Holds such work until it is done. What it raises is logged, and matters to nobody."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin *work*; it may be waited for with ``asyncio.wait``, and must not be cancelled."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_failure)
        return task

    async def settle(self, within_s: float) -> None:
        """Wait until nothing is left; what takes longer is cancelled."""
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=within_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


def log_failure(task: asyncio.Task[None]) -> None:
    """To be called when *task* is done: what it raised would otherwise be noticed by nobody."""
    if not task.cancelled() and (exc := task.exception()) is not None:
        logger.error("work on containers failed", exc_info=exc)
