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
    members: Members,
    target: int,
    start: Callable[[Member], Awaitable[None]],
    first_pause_s: float = 0.001,
) -> AsyncIterator[WarmKeeper]:
    keeper = WarmKeeper(members, target, member, start, first_pause_s=first_pause_s)
    task = asyncio.create_task(keeper.run())
    try:
        async with asyncio.timeout(30):
            yield keeper
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


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


@pytest.mark.parametrize("problem", [ContainerError("no"), KeyError("no such field")])
async def test_whatever_one_fails_with_the_next_is_started(problem: Exception) -> None:
    members, started = Members(10), asyncio.Queue[Member]()
    problems = [problem]

    async def fail_first(one: Member) -> None:
        if problems:
            raise problems.pop()
        await start(one)
        started.put_nowait(one)

    async with keeping(members, 1, fail_first):
        await started.get()
        assert len(members) == 1


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


async def test_failures_wait_longer_each_time_and_leave_no_place_taken() -> None:
    members, fine = Members(10), asyncio.Event()
    pauses: list[float] = []

    async def fail_four_times(one: Member) -> None:
        pauses.append(keeper._pause_s)
        if len(pauses) < 5:
            raise ContainerError("no")
        await start(one)
        fine.set()

    async with keeping(members, 1, fail_four_times) as keeper:
        await fine.wait()
    assert pauses == [0.0, 0.001, 0.002, 0.004, 0.008]
    assert len(members) == 1


async def test_none_is_started_when_its_place_was_taken_during_a_pause() -> None:
    members, tried = Members(1), asyncio.Queue[int]()
    session = Member("s", "image", "ephemeral", Path("s"), "7")

    async def fail(_: Member) -> None:
        tried.put_nowait(len(members))
        raise ContainerError("no")

    async with keeping(members, 1, fail, first_pause_s=3600) as keeper:
        assert await tried.get() == 1
        members.add(session)
        keeper.encourage()
        for _ in range(100):
            await asyncio.sleep(0)
        members.drop(session)
        keeper.encourage()
        assert await tried.get() == 1  # of so many as there may be
    assert tried.empty()


async def test_encouragement_ends_a_pause() -> None:
    members, started = Members(10), asyncio.Queue[Member]()

    async def started_one(one: Member) -> None:
        await start(one)
        started.put_nowait(one)

    async with keeping(members, 1, started_one) as keeper:
        members.drop(await started.get())
        keeper.failed(at_least_s=1000.0)
        keeper.encourage()
        await started.get()
        assert keeper._pause_s == 0.0


async def test_an_engine_that_seems_to_end_is_left_alone() -> None:
    members, started = Members(10), asyncio.Queue[Member]()

    async def started_one(one: Member) -> None:
        await start(one)
        started.put_nowait(one)

    async with keeping(members, 1, started_one) as keeper:
        members.drop(await started.get())
        keeper.failed(at_least_s=1000.0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert started.empty()
