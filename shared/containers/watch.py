"""Following the engine's events: learning of deaths at once, and of the engine's own absence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from shared.containers.errors import ContainerError, EngineUnavailable
from shared.containers.spec import owner_labels
from shared.containers.states import EngineEvent
from shared.logging import get_logger

if TYPE_CHECKING:
    from shared.containers.engine import Engine

logger = get_logger("containers")

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0


class EngineWatch:
    """Reads the events of one owner's containers for as long as :meth:`run` runs.

    Args:
        on_event: Called for each event; must neither block nor raise.
        on_connected: Called each time the engine has begun to tell; likewise.
    """

    def __init__(
        self,
        engine: Engine,
        owner: str,
        on_event: Callable[[EngineEvent], None],
        on_connected: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._owner = owner
        self._on_event = on_event
        self._on_connected = on_connected
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._lost_at: float | None = None

    def lost_since(self, moment: float) -> bool:
        """Whether the engine has gone away after *moment* (of the monotonic clock)."""
        return self._lost_at is not None and self._lost_at > moment

    async def wait_lost(self, moment: float, within_s: float) -> bool:
        """Whether the engine has gone away after *moment*, or does within *within_s* seconds."""
        try:
            async with asyncio.timeout(within_s):
                while not self.lost_since(moment):
                    self._lost.clear()
                    await self._lost.wait()
        except TimeoutError:
            return False
        return True

    async def wait_connected(self, within_s: float) -> None:
        """Wait until the engine is there.

        Raises:
            EngineUnavailable: It was not within *within_s* seconds.
        """
        try:
            async with asyncio.timeout(within_s):
                await self._connected.wait()
        except TimeoutError:
            raise EngineUnavailable(f"no Docker engine was there for {within_s:g} s") from None

    async def run(self) -> None:
        """Until it is cancelled; connects again whenever the engine has gone away."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                async with self._engine.events(owner_labels(self._owner)) as events:
                    logger.debug("following the Docker engine")
                    self._connected.set()
                    self._on_connected()
                    pause = FIRST_PAUSE_S
                    async for event in events:
                        self._on_event(event)
            except ContainerError as exc:
                if self._connected.is_set():
                    logger.warning("the Docker engine has gone away: %s", exc.message)
                else:
                    logger.debug("no Docker engine: %s", exc.message)
            finally:
                if self._connected.is_set():
                    self._lost_at = time.monotonic()
                    self._connected.clear()
                    self._lost.set()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
