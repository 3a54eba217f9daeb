"""Watches leases: the one loop that notices that an executor is gone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from executor_manager.store.leases import Leases

EVERY_S: Final = 5.0

logger = logging.getLogger(__name__)


async def expire_forever(
    leases: Leases,
    *,
    grace_s: float,
    every_s: float = EVERY_S,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> NoReturn:
    """End leases that nobody renewed.

    Args:
        grace_s: How long executors have to be heard again when nobody could be, which is no fault
            of theirs: at the start, after this program or the machine was suspended, after a
            failure of the database.
        clock: Seconds that go on while the machine sleeps.
    """
    pause, looked = grace_s, clock()
    while True:
        await sleep(pause)
        try:
            now = await leases.now()
            # Not before: to be suspended between the two would look like silence of everyone.
            took, looked = clock() - looked, clock()
            if took > pause + every_s:
                logger.info("this program has not run for a while, executors get time to be heard")
                pause = grace_s
                continue
            expired = await leases.expire(now)
        except Exception:
            # A database that fails for a moment must not end the watch.
            logger.exception("leases could not be looked at")
            pause, looked = grace_s, clock()
            continue
        for node_id in expired.offline:
            logger.warning("executor %s is offline: no heartbeat came", node_id)
        for run_id in expired.unreachable:
            logger.warning("run %s is unreachable, its executor may come back", run_id)
        for run_id in expired.lost:
            logger.warning("run %s ends here, its executor is gone", run_id)
        pause = every_s
