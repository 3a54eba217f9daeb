"""Runs stand still while the disk takes no writes: what they told could not be kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from executor.tasks.known_runs import AcceptedRun
from shared.logging import get_logger

logger = get_logger("supervisor")


class DiskPause:
    """Pauses runs when there is trouble with the disk, and lets them go on after it."""

    def __init__(self) -> None:
        self.trouble: str | None = None
        """Why the disk takes no writes; ``None`` when it does."""
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def changed(self, trouble: str | None, running: Iterable[AcceptedRun]) -> None:
        """Say so in the log, and pause or resume *running*; returns before that is done."""
        self.trouble = trouble
        if trouble is not None:
            logger.error("%s: agents are paused, and new tasks are refused", trouble)
        else:
            logger.info("the disk takes writes again; agents go on")
        task = asyncio.create_task(self._apply(list(running)), name="pause or resume")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _apply(self, running: list[AcceptedRun]) -> None:
        # What holds when its turn has come counts: trouble may come and go quickly.
        async with self._one_at_a_time:
            for entry in running:
                if entry.execution is None:
                    continue
                run = entry.execution.run
                try:
                    await (run.pause() if self.trouble else run.resume())
                except Exception:
                    logger.exception("the agent could not be paused or resumed", **entry.names)
