"""Cleanup that outlives cancellation."""

from __future__ import annotations

import asyncio

import pytest

from executor.agents.shielding import finish


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
