"""Watches leases: the one loop that notices that an executor is gone."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, NoReturn

from executor_manager.store.leases import Leases

EVERY_S: Final = 5.0

logger = logging.getLogger(__name__)


async def expire_forever(
    leases: Leases, *, first_after_s: float, every_s: float = EVERY_S
) -> NoReturn:
    """End leases that nobody renewed.

    Args:
        first_after_s: How long executors have to come back after a start of the manager, whose
            absence is no fault of theirs; as long as a lease.
    """
    await asyncio.sleep(first_after_s)
    while True:
        try:
            expired = await leases.expire()
        except Exception:
            # A database that fails for a moment must not end the watch.
            logger.exception("leases could not be looked at")
        else:
            for node_id in expired.offline:
                logger.warning("executor %s is offline: no heartbeat came", node_id)
            for run_id in expired.unreachable:
                logger.warning("run %s is unreachable, its executor may come back", run_id)
            for run_id in expired.lost:
                logger.warning("run %s is lost with its executor", run_id)
        await asyncio.sleep(every_s)
