"""The clock that says when a run has shown no sign of life for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

STOOD_STILL_S: Final = 10.0
"""Whoever oversleeps by so long stood still itself, as in a container that was paused, and so did
the agent."""


class StallClock:
    """Counts the silence of one run. For one event loop; nothing here blocks."""

    def __init__(
        self,
        limit_s: float,
        *,
        now: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Start to count.

        Args:
            limit_s: Seconds of silence after which :meth:`expired` returns.
            now: A monotonic clock in seconds; ``None``: the event loop's.
            sleep: Waits that many seconds of *now*.
        """
        self.limit_s = limit_s
        self.now = now or asyncio.get_running_loop().time
        self.sleep = sleep
        self._silent_s = 0.0
        """The silence up to when the clock was last held."""
        self._counts_since = self.now()
        self._holds = 0
        self._counting = asyncio.Event()
        self._counting.set()

    @property
    def silence_s(self) -> float:
        """Seconds since the last sign of life, without those in which the clock stood."""
        if self._holds:
            return self._silent_s
        return self._silent_s + self.now() - self._counts_since

    @property
    def standing(self) -> bool:
        """Whether somebody holds the clock."""
        return self._holds > 0

    def sign(self) -> None:
        """Take note of a sign of life: the silence begins anew."""
        self._silent_s = 0.0
        self._counts_since = self.now()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the clock stand: silence has a reason meanwhile. May be nested and overlap."""
        if not self._holds:
            self._silent_s = self.silence_s
            self._counting.clear()
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            if not self._holds:
                self._counts_since = self.now()
                self._counting.set()

    async def expired(self) -> None:
        """Wait until the silence has lasted as long as it may; at once when it has already."""
        while True:
            await self._counting.wait()
            left_s = self.limit_s - self.silence_s
            if left_s <= 0:
                return
            # Signs and holds meanwhile need no notice: they are seen when this time is over.
            began = self.now()
            await self.sleep(left_s)
            if self.now() - began > left_s + STOOD_STILL_S:
                self.sign()
