"""Time that passes when a test says so."""

from __future__ import annotations

import asyncio
import heapq
import itertools

import pytest

_STEPS = 50
"""How often others get their turn after each moment; a few would do."""


class ManualClock:
    """Give its :meth:`now` and :meth:`sleep` to what is to be tested."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Let so much time pass; everybody wakes at the right moment and does what there is."""
        await _let_others_run()
        end = self._now + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, woken = heapq.heappop(self._sleepers)
            self._now = max(self._now, due)
            if not woken.done():
                woken.set_result(None)
                await _let_others_run()
        self._now = end
        await _let_others_run()

    async def skip(self, seconds: float) -> None:
        """Let so much time pass in which nobody wakes, as for a process that is stopped."""
        await _let_others_run()
        self._now += seconds
        await self.advance(0)


class LoopTime:
    """The running event loop's own time, which a test moves on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self._skipped = 0.0
        time = loop.time
        monkeypatch.setattr(loop, "time", lambda: time() + self._skipped)

    async def advance(self, seconds: float) -> None:
        """Let so much time pass at once; what is due by then happens."""
        self._skipped += seconds
        await _let_others_run()


async def _let_others_run() -> None:
    for _ in range(_STEPS):
        await asyncio.sleep(0)
