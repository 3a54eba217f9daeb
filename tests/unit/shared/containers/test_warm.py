"""How many containers are kept warm, and how a failing one is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.containers.errors import ContainerError
from shared.containers.members import Endpoint, Member, Members
from shared.containers.warm import WarmKeeper


def member(key: str) -> Member:
    return Member(f"warm-{key}", "image", "ephemeral", Path(key))


async def start(one: Member) -> None:
    one.endpoint = Endpoint("http://127.0.0.1:1", one.name, SecretStr("t"))


@asynccontextmanager
async def keeping(
    members: Members, target: int, start: Callable[[Member], Awaitable[None]]
) -> AsyncIterator[WarmKeeper]:
    keeper = WarmKeeper(members, target, member, start)
    task = asyncio.create_task(keeper.run())
    try:
        async with asyncio.timeout(10):
            yield keeper
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What it has slept, without sleeping."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    return slept


async def test_as_many_are_started_as_are_wanted_and_no_more() -> None:
    members, started = Members(10), asyncio.Queue[Member]()

    async def started_one(one: Member) -> None:
        await start(one)
        started.put_nowait(one)

    async with keeping(members, 2, started_one) as keeper:
        first, _ = await started.get(), await started.get()
        members.drop(first)
        keeper.look()
        await started.get()
        assert len(members.warm) == 2
    assert started.empty()


async def test_none_is_started_without_room() -> None:
    members, started = Members(2), asyncio.Queue[Member]()
    members.add(Member("s", "image", "ephemeral", Path("s"), "7"))

    async def started_one(one: Member) -> None:
        await start(one)
        started.put_nowait(one)

    async with keeping(members, 5, started_one):
        await started.get()
    assert started.empty()
    assert len(members) == 2


async def test_failures_wait_longer_each_time_and_leave_no_place_taken(
    pauses: list[float],
) -> None:
    members, tried = Members(10), asyncio.Queue[None]()
    fine = asyncio.Event()
    failures = 0

    async def fail_four_times(one: Member) -> None:
        nonlocal failures
        tried.put_nowait(None)
        if failures < 4:
            failures += 1
            raise ContainerError("no")
        await start(one)
        fine.set()

    async with keeping(members, 1, fail_four_times):
        await fine.wait()
    assert pauses == [0.0, 1.0, 2.0, 4.0, 8.0]
    assert len(members) == 1


async def test_a_use_ends_the_pauses(pauses: list[float]) -> None:
    members, started = Members(10), asyncio.Queue[Member]()

    async def started_one(one: Member) -> None:
        await start(one)
        started.put_nowait(one)

    async with keeping(members, 1, started_one) as keeper:
        keeper.failed()
        one = await started.get()
        members.drop(one)
        keeper.succeeded()
        keeper.look()
        await started.get()
    assert pauses[-1] == 0.0
    assert 1.0 in pauses
