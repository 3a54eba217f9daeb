"""Runs stand still while a disk takes no writes: what they told, or made, could not be kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, Literal

from executor.tasks.known_runs import AcceptedRun
from shared.logging import get_logger

logger = get_logger("supervisor")

AGAIN_AFTER_S: Final = 5.0
"""Before a run is asked once more that could not be paused, or could not go on."""

Disk = Literal["home", "workspace"]
"""Whose disk: that of the executor's state, or another one, where sessions work."""


class DiskPause:
    """Pauses runs while there is trouble with a disk, and lets them go on after it."""

    def __init__(self, *, again_after_s: float = AGAIN_AFTER_S) -> None:
        """*again_after_s*: see :data:`AGAIN_AFTER_S`."""
        self._again_after_s = again_after_s
        self._troubles: dict[Disk, str] = {}
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def trouble(self) -> str | None:
        """Why a disk takes no writes; ``None`` when all do."""
        return next(iter(self._troubles.values()), None)

    def of(self, disk: Disk) -> str | None:
        """Why this disk takes no writes; ``None`` when it does."""
        return self._troubles.get(disk)

    def changed(self, disk: Disk, trouble: str | None, running: Iterable[AcceptedRun]) -> None:
        """Say so in the log, and pause or resume *running*; returns before that is done."""
        if trouble is not None:
            self._troubles[disk] = trouble
            logger.error("%s: agents are paused, and new tasks are refused", trouble)
        elif self._troubles.pop(disk, None) is not None and not self._troubles:
            logger.info("the disk takes writes again; agents go on")
        self.apply(running)

    def apply(self, running: Iterable[AcceptedRun]) -> None:
        """Have *running* stand still or go on, as it is; returns before that is done."""
        task = asyncio.create_task(self._apply(list(running)), name="pause or resume")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _apply(self, running: list[AcceptedRun]) -> None:
        failed = []
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
                    failed.append(entry)
        if failed:  # one that never goes on would stand still until its time is over
            asyncio.get_running_loop().call_later(self._again_after_s, self.apply, failed)
