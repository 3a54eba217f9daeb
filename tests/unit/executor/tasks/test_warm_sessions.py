from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from executor.agents.protocol import TurnEnd
from executor.tasks.warm_sessions import WarmSessions
from shared.protocol.events import AgentEvent
from shared.protocol.execution import ExecutionRequest


class Session:
    """A live session that only knows whether it was closed."""

    session_id = "s"
    pid = None

    def __init__(self) -> None:
        self.alive = True
        self.closing = asyncio.Event()
        self.may_close = asyncio.Event()
        self.may_close.set()
        self.closed = asyncio.Event()

    def turn(self, request: ExecutionRequest) -> AsyncGenerator[AgentEvent | TurnEnd]:
        raise AssertionError("no turn is taken here")

    async def interrupt(self) -> None:
        raise AssertionError("nothing is interrupted here")

    async def close(self) -> None:
        self.closing.set()
        await self.may_close.wait()
        self.alive = False
        self.closed.set()


async def test_a_parked_session_is_taken_once() -> None:
    warm = WarmSessions(limit=1, idle_s=60)
    session = Session()
    await warm.park("7", session, "f")
    assert await warm.take("7", "f") is session
    assert await warm.take("7", "f") is None
    assert not session.closed.is_set()
    await warm.close()


async def test_a_session_with_other_options_is_ended_instead() -> None:
    warm = WarmSessions(limit=1, idle_s=60)
    session = Session()
    await warm.park("7", session, "old")
    assert await warm.take("7", "new") is None
    assert session.closed.is_set()


async def test_a_session_whose_process_has_died_is_not_taken() -> None:
    warm = WarmSessions(limit=1, idle_s=60)
    session = Session()
    await warm.park("7", session, "f")
    session.alive = False
    assert await warm.take("7", "f") is None
    assert session.closed.is_set()


@pytest.mark.parametrize("how", ["expired", "closed", "too many"])
async def test_nothing_is_taken_before_the_sessions_old_process_has_ended(how: str) -> None:
    warm = WarmSessions(limit=1, idle_s=0.001 if how == "expired" else 60)
    session = Session()
    session.may_close.clear()
    await warm.park("7", session, "f")
    asked = asyncio.create_task(warm.close_session("7")) if how == "closed" else None
    if how == "too many":
        await warm.park("8", Session(), "f")
    await asyncio.wait_for(session.closing.wait(), 5)
    taking = asyncio.create_task(warm.take("7", "f"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not taking.done()  # it would resume what the old one is still writing down
    session.may_close.set()
    assert await asyncio.wait_for(taking, 5) is None
    if asked is not None:
        await asked
    await warm.close()


async def test_beyond_the_limit_the_least_recently_used_is_ended() -> None:
    warm = WarmSessions(limit=2, idle_s=60)
    sessions = [Session() for _ in range(3)]
    for number, session in enumerate(sessions):
        await warm.park(str(number), session, "f")
    await asyncio.wait_for(sessions[0].closed.wait(), 5)
    assert await warm.take("1", "f") is sessions[1]
    assert await warm.take("2", "f") is sessions[2]


async def test_an_idle_session_is_ended_after_its_time() -> None:
    warm = WarmSessions(limit=1, idle_s=0.001)
    session = Session()
    await warm.park("7", session, "f")
    await asyncio.wait_for(session.closed.wait(), 5)
    assert await warm.take("7", "f") is None


async def test_a_taken_session_does_not_expire() -> None:
    warm = WarmSessions(limit=1, idle_s=0.001)
    first, second = Session(), Session()
    await warm.park("7", first, "f")
    assert await warm.take("7", "f") is first
    await warm.park("8", second, "f")
    await asyncio.wait_for(second.closed.wait(), 5)
    assert not first.closed.is_set()


async def test_a_limit_of_none_ends_every_session_at_once() -> None:
    warm = WarmSessions(limit=0, idle_s=60)
    session = Session()
    await warm.park("7", session, "f")
    assert session.closed.is_set()


async def test_closing_ends_all() -> None:
    warm = WarmSessions(limit=3, idle_s=60)
    sessions = [Session() for _ in range(3)]
    for number, session in enumerate(sessions):
        await warm.park(str(number), session, "f")
    await warm.close_session("0")
    assert sessions[0].closed.is_set()
    await warm.close()
    assert all(session.closed.is_set() for session in sessions)
