from __future__ import annotations

import asyncio

from executor.tasks.run_time import SAVED_EVERY_S, RunTime


class Counted:
    """A run's time, and what it has led to."""

    def __init__(self, limit_s: float | None, used_s: float = 0.0) -> None:
        self.saved: asyncio.Queue[float] = asyncio.Queue()
        self.over = asyncio.Event()
        self.time = RunTime(limit_s, used_s=used_s, save=self.saved.put_nowait, over=self.over.set)

    async def next_saved(self) -> float:
        async with asyncio.timeout(30):
            return await self.saved.get()


async def test_time_that_earlier_processes_have_used_is_not_given_again() -> None:
    counted = Counted(3600, used_s=3600)
    counted.time.start()
    async with asyncio.timeout(30):
        await counted.over.wait()
    counted.time.stop()


async def test_what_is_saved_at_the_start_counts_a_life_that_is_killed_at_once() -> None:
    counted = Counted(None, used_s=10)
    counted.time.start()
    assert await counted.next_saved() >= 10 + SAVED_EVERY_S
    counted.time.stop()
    assert 10 <= await counted.next_saved() < 10 + SAVED_EVERY_S  # what was told ahead is gone


async def test_it_is_saved_again_while_it_passes() -> None:
    counted = Counted(3)
    counted.time.start()
    first, second = [await counted.next_saved() for _ in range(2)]
    counted.time.stop()
    assert second > first


async def test_a_tiny_limit_is_no_reason_to_save_without_a_pause() -> None:
    counted = Counted(0.001)
    counted.time.start()
    assert await counted.next_saved() >= 0.25
    async with asyncio.timeout(30):
        await counted.over.wait()
    counted.time.stop()


async def test_time_that_was_stopped_is_never_over() -> None:
    counted = Counted(0.05)
    counted.time.start()
    counted.time.stop()
    later = Counted(0.1)
    later.time.start()
    async with asyncio.timeout(30):
        await later.over.wait()
    later.time.stop()
    assert not counted.over.is_set()
