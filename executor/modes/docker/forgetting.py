"""Forgets sessions whose folders the operator has removed; the executor itself removes none."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from executor.delivery.known_sessions import forget_sessions
from executor.delivery.state import StateStore
from shared.logging import get_logger
from shared.shielding import in_thread

logger = get_logger("task_executor")

EVERY_S: Final = 24 * 3600.0


async def keep_forgetting(store: StateStore, workspace_root: Path) -> None:
    """Look now and every day, until cancelled."""
    while True:
        try:
            await forget_gone(store, workspace_root)
        except OSError as exc:
            logger.warning("the folders of sessions cannot be listed: %s", exc.strerror)
        await asyncio.sleep(EVERY_S)


async def forget_gone(store: StateStore, workspace_root: Path) -> None:
    """Look once; without any folder there the disk may not be mounted, and nothing is forgotten.

    Raises:
        OSError: The folders cannot be listed.
    """
    if folders := await in_thread(os.listdir, workspace_root):
        forget_sessions(store, folders)
