"""Cleanup that outlives cancellation."""

from __future__ import annotations

import asyncio
import threading

import pytest

from shared.shielding import finish, in_thread, stop


async def test_cleanup_ends_before_a_repeated_cancellation_is_raised() -> None:
    begun, release, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def cleanup() -> None:
        begun.set()
        await release.wait()
        done.set()

    waiter = asyncio.create_task(finish(asyncio.create_task(cleanup())))
    await begun.wait()
    for _ in range(3):
        waiter.cancel()
        await asyncio.sleep(0)
    assert not waiter.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert done.is_set()


async def test_an_error_of_the_cleanup_is_raised() -> None:
    async def cleanup() -> None:
        raise ValueError("not graceful")

    with pytest.raises(ValueError, match="not graceful"):
        await finish(asyncio.create_task(cleanup()))


async def test_work_beyond_its_time_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def overruns() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        await finish(overruns(), within_s=0)
    assert cancelled.is_set()


async def test_a_threads_work_has_ended_when_its_caller_is_cancelled() -> None:
    loop, begun, release = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    done: list[bool] = []

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        release.wait()
        done.append(True)

    waiter = asyncio.create_task(in_thread(work))
    await begun.wait()
    waiter.cancel()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert done == [True]


async def test_a_stopped_task_has_ended_whatever_it_raises() -> None:
    begun = asyncio.Event()

    async def fails_when_stopped() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("at the end") from None

    task = asyncio.create_task(fails_when_stopped())
    await begun.wait()
    await stop(task)
    assert task.done()


async def test_stopping_a_task_does_not_swallow_ones_own_cancellation() -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def ends_slowly() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await release.wait()

    task = asyncio.create_task(ends_slowly())
    await begun.wait()
    stopping = asyncio.create_task(stop(task))
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.sleep(0)
    assert not stopping.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert task.done()
