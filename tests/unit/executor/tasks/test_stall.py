"""The stall clock, with time that passes when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from executor.tasks.stall import StallClock
from tests.fakes.clock import ManualClock


class Watched:
    """A stall clock of 10 seconds, and somebody who waits for it."""

    def __init__(self) -> None:
        self.time = ManualClock()
        self.clock = StallClock(10, now=self.time.now, sleep=self.time.sleep)
        self.waiting = asyncio.create_task(self.clock.expired())

    async def expired_after(self, seconds: float) -> bool:
        await self.time.advance(seconds)
        return self.waiting.done()


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    watched = Watched()
    yield watched
    watched.waiting.cancel()


async def test_silence_expires_at_the_limit_and_not_before(watched: Watched) -> None:
    assert not await watched.expired_after(9.9)
    assert await watched.expired_after(0.1)


async def test_each_sign_of_life_begins_the_silence_anew(watched: Watched) -> None:
    for _ in range(5):
        assert not await watched.expired_after(9)
        watched.clock.sign()
    assert not await watched.expired_after(9.9)
    assert await watched.expired_after(0.1)


async def test_a_held_clock_stands_and_goes_on_where_it_stood(watched: Watched) -> None:
    await watched.time.advance(6)
    with watched.clock.held():
        assert watched.clock.standing
        assert not await watched.expired_after(1000)
        assert watched.clock.silence_s == 6
    assert not watched.clock.standing
    assert not await watched.expired_after(3.9)
    assert await watched.expired_after(0.1)


async def test_two_holds_that_overlap_hold_until_the_second_ends(watched: Watched) -> None:
    first, second = watched.clock.held(), watched.clock.held()
    first.__enter__()
    await watched.time.advance(1000)
    second.__enter__()
    first.__exit__(None, None, None)
    assert not await watched.expired_after(1000)
    second.__exit__(None, None, None)
    assert not await watched.expired_after(9.9)
    assert await watched.expired_after(0.1)


async def test_a_sign_while_the_clock_stands_counts(watched: Watched) -> None:
    await watched.time.advance(6)
    with watched.clock.held():
        await watched.time.advance(5)
        watched.clock.sign()
        await watched.time.advance(5)
    assert not await watched.expired_after(9.9)
    assert await watched.expired_after(0.1)


async def test_a_hold_ends_with_an_error_in_it(watched: Watched) -> None:
    with pytest.raises(ValueError, match="inside"), watched.clock.held():
        raise ValueError("inside")
    assert await watched.expired_after(10)


async def test_a_silence_that_is_over_the_limit_already_is_told_at_once(watched: Watched) -> None:
    await watched.time.advance(10)
    async with asyncio.timeout(30):
        await watched.clock.expired()


async def test_whoever_has_stood_still_itself_blames_nobody_for_its_silence(
    watched: Watched,
) -> None:
    await watched.time.advance(5)
    await watched.time.skip(1000)
    assert not watched.waiting.done()
    assert not await watched.expired_after(9.9)
    assert await watched.expired_after(0.1)
