"""Looks from time to time after the bounds of what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from executor.delivery.bounding import Bounds
from executor.delivery.state import StateStore
from shared.logging import get_logger

logger = get_logger("outbox")

EVERY_S: Final = 60.0
EVERY_EVENTS: Final = 256
"""How often the bounds of size and age are looked after."""


class BoundKeeper:
    """Replaces the oldest events by placeholders when there are too many or too old ones.

    Runs from when it is made to :meth:`close`.
    """

    def __init__(
        self,
        store: StateStore,
        bounds: Bounds,
        *,
        warning: str,
        holds_any: Callable[[], bool],
        has_spare: Callable[[], bool],
        after: Callable[[], int] = lambda: 0,
        on_shortened: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin, with a first look.

        Args:
            store: Holds the events.
            bounds: What may stay.
            warning: Logged once, when events are replaced.
            holds_any: Whether there is anything to look after.
            has_spare: Whether to return unused space of the file to the disk.
            after: The position from which on events may be replaced.
            on_shortened: Called when some were.
        """
        self._store = store
        self._bounds = bounds
        self._warning = warning
        self._holds_any = holds_any
        self._has_spare = has_spare
        self._after = after
        self._on_shortened = on_shortened
        self._since = 0
        self._shortened = False
        """Whether events were replaced by placeholders in the life of this process."""
        self._shrinking: asyncio.Task[None] | None = None
        self._timer = self._keep()

    @property
    def events_lost(self) -> bool:
        """Whether events were replaced by now, or may be in this moment."""
        return self._shortened or self._shrinking is not None

    def grown(self) -> None:
        """One more event is there."""
        self._since += 1
        if self._since >= EVERY_EVENTS:
            self._look()

    async def close(self) -> None:
        """Stop looking."""
        self._timer.cancel()
        if self._shrinking is not None:
            self._shrinking.cancel()
            await asyncio.wait({self._shrinking})

    def _keep(self) -> asyncio.TimerHandle:
        if self._has_spare():
            self._store.give_back_space()
        self._look()
        return asyncio.get_running_loop().call_later(EVERY_S, self._keep_again)

    def _keep_again(self) -> None:
        self._timer = self._keep()

    def _look(self) -> None:
        self._since = 0
        if self._shrinking is None and self._holds_any():
            self._shrinking = asyncio.create_task(self._shrink(), name="keep the bounds")

    async def _shrink(self) -> None:
        try:
            while await self._store.shrink(self._bounds, self._after()):
                if not self._shortened:
                    logger.warning(self._warning)
                self._shortened = True
                self._on_shortened()
        except Exception:
            # What is stored stays; the next time may succeed.
            logger.exception("what is stored could not be kept within its bounds")
        finally:
            self._shrinking = None
