"""Work in a thread of its own, and what is left of it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from executor.agents.agno.own_loop import OwnLoop


async def test_work_has_a_thread_and_a_loop_of_its_own() -> None:
    seen: list[object] = []

    async def work() -> None:
        seen.extend([threading.current_thread(), asyncio.get_running_loop()])

    own = OwnLoop(work, name="own")

    assert await own.ended(5)
    assert seen[0] is not threading.current_thread()
    assert seen[1] is not asyncio.get_running_loop()


async def test_what_is_cancelled_ends_with_the_tasks_it_has_left_behind() -> None:
    home, begun, ended = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    async def stray() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            home.call_soon_threadsafe(ended.set)

    async def work() -> None:
        task = asyncio.create_task(stray())
        await asyncio.sleep(0)
        home.call_soon_threadsafe(begun.set)
        await asyncio.shield(task)

    own = OwnLoop(work, name="own")
    await begun.wait()
    own.cancel()

    assert await own.ended(5)
    assert ended.is_set()


async def test_what_is_cancelled_at_once_ends_too() -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    own = OwnLoop(work, name="own")
    own.cancel()
    own.cancel()

    assert await own.ended(5)


async def test_what_does_not_obey_is_not_waited_for() -> None:
    home, begun, may_end = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    async def work() -> None:
        home.call_soon_threadsafe(begun.set)
        may_end.wait()

    own = OwnLoop(work, name="own")
    await begun.wait()
    own.cancel()

    assert not await own.ended(0.01)
    may_end.set()
    assert await own.ended(5)


async def test_what_is_cancelled_before_it_has_begun_does_not_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    held: list[threading.Thread] = []

    async def work() -> None:
        done.append("work")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda thread: held.append(thread))
        own = OwnLoop(work, name="test")
    own.cancel()
    held[0].start()

    assert await own.ended(5)
    assert not done
