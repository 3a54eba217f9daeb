"""Wake-ups: none is lost, none is for another run, and nothing is kept of those who left."""

from __future__ import annotations

import asyncio

import pytest

from shared.web.hub import Hub, WakeUp


async def returns(wake_up: WakeUp) -> bool:
    """Whether a wait returns without anything else happening."""
    waiting = asyncio.create_task(wake_up.wait())
    for _ in range(3):
        await asyncio.sleep(0)
    done = waiting.done()
    waiting.cancel()
    return done


async def test_the_first_wait_returns_so_that_the_log_is_read_once() -> None:
    with Hub().follow("r") as wake_up:
        assert await returns(wake_up)
        assert not await returns(wake_up)


async def test_every_follower_of_a_run_is_woken_and_no_other() -> None:
    hub = Hub()
    with hub.follow("r") as one, hub.follow("r") as two, hub.follow("s") as other:
        for follower in (one, two, other):
            await follower.wait()
        hub.run_changed("r")
        hub.run_changed("r")
        assert [await returns(follower) for follower in (one, two, other)] == [True, True, False]
        assert not await returns(one)


async def test_a_change_between_two_waits_is_not_missed() -> None:
    hub = Hub()
    with hub.follow("r") as wake_up:
        await wake_up.wait()
        hub.run_changed("r")
        assert await returns(wake_up)


async def test_nothing_is_kept_of_a_follower_that_left() -> None:
    hub = Hub()
    with pytest.raises(ZeroDivisionError), hub.follow("r"):
        raise ZeroDivisionError
    hub.run_changed("r")
    assert not hub._runs
