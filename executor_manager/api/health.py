"""``/api/v1/health``: whether the manager works. The only address that needs no token."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from fastapi import APIRouter

from executor_manager.api.schemas import Health
from executor_manager.api.services import Injected
from executor_manager.store.database import StoreError
from executor_manager.store.records import NodeStatus
from shared.status import RunState
from shared.version import __version__

STORE_TIMEOUT_SECONDS: Final = 5.0
"""A database that takes longer to answer two small questions does not work."""

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/api/v1/health", tags=["health"])


@router.get("")
async def get_health(services: Injected) -> Health:
    """Asks the store; 503 when it does not answer."""
    try:
        async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
            counts = await services.store.runs.counts()
            nodes = await services.store.nodes.all()
    except Exception as exc:  # whatever the database fails with, it does not work
        logger.warning("the store does not answer: %s", type(exc).__name__)
        raise StoreError("the store does not answer", hint="see the manager's log") from exc
    return Health(
        version=__version__,
        nodes_online=sum(node.status is NodeStatus.ONLINE for node in nodes),
        tasks_queued=counts.get(RunState.QUEUED, 0),
        tasks_running=sum(counts.values()) - counts.get(RunState.QUEUED, 0),
    )
