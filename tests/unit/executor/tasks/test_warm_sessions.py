from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from executor.agents.protocol import Ask, TurnEnd
from executor.memory import Memory, MemoryPressure, SystemMemory
from executor.tasks.warm_sessions import WarmSessions
from shared.protocol.events import AgentEvent
from shared.protocol.execution import ExecutionRequest
from tests.fakes.clock import LoopTime
from tests.fakes.memory import GIB, FakeLinux


class Session:
    """A live session that only knows whether it was closed."""

    session_id = "s"
    pid = None
    heard = 0
    silent_until = 0.0
    answered = 0
    cost_usd = 0.0

    def __init__(self) -> None:
        self.alive = True
        self.closing = asyncio.Event()
        self.may_close = asyncio.Event()
        self.may_close.set()
        self.closed = asyncio.Event()

    def turn(self, request: ExecutionRequest, ask: Ask) -> AsyncGenerator[AgentEvent | TurnEnd]:
        raise AssertionError("no turn is taken here")

    def tools_cpu_s(self) -> float:
        raise AssertionError("nobody waits for it here")

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
    await asyncio.wait_for(session.closing.wait(), 30)
    taking = asyncio.create_task(warm.take("7", "f"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not taking.done()  # it would resume what the old one is still writing down
    session.may_close.set()
    assert await asyncio.wait_for(taking, 30) is None
    if asked is not None:
        await asked
    await warm.close()


async def test_beyond_the_limit_the_least_recently_used_is_ended() -> None:
    warm = WarmSessions(limit=2, idle_s=60)
    sessions = [Session() for _ in range(3)]
    for number, session in enumerate(sessions):
        await warm.park(str(number), session, "f")
    await asyncio.wait_for(sessions[0].closed.wait(), 30)
    assert await warm.take("1", "f") is sessions[1]
    assert await warm.take("2", "f") is sessions[2]


async def test_the_idle_time_begins_anew_with_every_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    time = LoopTime(monkeypatch)
    warm = WarmSessions(limit=1, idle_s=60)
    session = Session()
    for _ in range(2):
        await warm.park("7", session, "f")
        await time.advance(40)
        assert await warm.take("7", "f") is session
    await warm.close()


async def test_an_idle_session_is_ended_after_its_time() -> None:
    warm = WarmSessions(limit=1, idle_s=0.001)
    session = Session()
    await warm.park("7", session, "f")
    await asyncio.wait_for(session.closed.wait(), 30)
    assert await warm.take("7", "f") is None


async def test_a_taken_session_does_not_expire() -> None:
    warm = WarmSessions(limit=1, idle_s=0.001)
    first, second = Session(), Session()
    await warm.park("7", first, "f")
    assert await warm.take("7", "f") is first
    await warm.park("8", second, "f")
    await asyncio.wait_for(second.closed.wait(), 30)
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


async def test_winding_down_ends_all_without_waiting_for_their_ends() -> None:
    warm = WarmSessions(limit=3, idle_s=60)
    idle, busy = Session(), Session()
    idle.may_close.clear()
    await warm.park("7", idle, "f")
    warm.wind_down()
    await asyncio.wait_for(idle.closing.wait(), 30)
    await warm.park("8", busy, "f")
    assert busy.closed.is_set()
    closing = asyncio.create_task(warm.close())
    await asyncio.sleep(0)
    assert not closing.done()
    idle.may_close.set()
    await asyncio.wait_for(closing, 30)
    assert idle.closed.is_set()


async def test_one_that_comes_back_after_all_were_ended_is_ended_too() -> None:
    warm = WarmSessions(limit=3, idle_s=60)
    await warm.close()
    session = Session()
    await warm.park("7", session, "f")
    assert session.closed.is_set()


async def test_sessions_that_come_back_at_once_do_not_exceed_the_limit() -> None:
    warm = WarmSessions(limit=2, idle_s=60)
    sessions = [Session() for _ in range(6)]
    await asyncio.gather(*(warm.park(str(n), session, "f") for n, session in enumerate(sessions)))
    await asyncio.gather(*(session.closed.wait() for session in sessions[:4]))
    assert not any(session.closed.is_set() for session in sessions[4:])
    await warm.close()


async def test_an_idle_session_that_dies_is_forgotten_without_being_asked_for() -> None:
    warm = WarmSessions(limit=2, idle_s=60, check_interval_s=0.001)
    dead, living = Session(), Session()
    await warm.park("7", dead, "f")
    await warm.park("8", living, "f")
    dead.alive = False
    await asyncio.wait_for(dead.closed.wait(), 30)
    assert await warm.take("8", "f") is living
    await warm.close()


class Watched(SystemMemory):
    """Says when it is looked at."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.loop = asyncio.get_running_loop()
        self.looks: asyncio.Queue[None] = asyncio.Queue()

    def read(self) -> list[Memory]:
        found = super().read()
        self.loop.call_soon_threadsafe(self.looks.put_nowait, None)
        return found


async def test_all_are_ended_when_memory_gets_short(tmp_path: Path) -> None:
    linux = FakeLinux(tmp_path)
    memory = Watched(tmp_path)
    warm = WarmSessions(limit=3, idle_s=60, pressure=MemoryPressure(memory), check_interval_s=0.001)
    sessions = [Session() for _ in range(3)]
    for number, session in enumerate(sessions):
        await warm.park(str(number), session, "f")
    await asyncio.wait_for(memory.looks.get(), 30)
    assert not any(session.closed.is_set() for session in sessions)
    await asyncio.to_thread(linux.machine, available=GIB // 2, total=32 * GIB)
    async with asyncio.timeout(30):
        await asyncio.gather(*(session.closed.wait() for session in sessions))
    assert await warm.take("2", "f") is None
    await warm.close()


async def test_none_is_kept_until_there_is_clearly_enough_again(tmp_path: Path) -> None:
    linux = FakeLinux(tmp_path)
    memory = Watched(tmp_path)
    warm = WarmSessions(limit=3, idle_s=60, pressure=MemoryPressure(memory), check_interval_s=0.001)
    for available in (GIB // 2, GIB * 3 // 2):
        await asyncio.to_thread(linux.machine, available=available, total=32 * GIB)
        session = Session()
        await warm.park("7", session, "f")
        await asyncio.wait_for(session.closed.wait(), 30)
        await memory.looks.get()
    await asyncio.to_thread(linux.machine, available=3 * GIB, total=32 * GIB)
    session = Session()
    await warm.park("7", session, "f")
    async with asyncio.timeout(30):
        for _ in range(2):  # before the second look, the first has had its effect
            await memory.looks.get()
    assert await warm.take("7", "f") is session
    await warm.close()


async def test_nobody_looks_at_the_memory_while_nothing_is_kept(tmp_path: Path) -> None:
    FakeLinux(tmp_path)
    memory = Watched(tmp_path)
    warm = WarmSessions(limit=3, idle_s=60, pressure=MemoryPressure(memory), check_interval_s=0.001)
    before = asyncio.all_tasks()
    await warm.park("7", Session(), "f")
    (watching,) = asyncio.all_tasks() - before
    await asyncio.wait_for(memory.looks.get(), 30)
    assert await warm.take("7", "f") is not None
    await asyncio.wait_for(watching, 30)


async def test_what_is_closed_while_the_memory_is_looked_at_stays_closed(tmp_path: Path) -> None:
    FakeLinux(tmp_path)
    warm = WarmSessions(limit=3, idle_s=60, pressure=MemoryPressure(SystemMemory(tmp_path)))
    session = Session()
    parking = asyncio.create_task(warm.park("7", session, "f"))
    await asyncio.sleep(0)
    await warm.close_session("7")
    await parking
    assert session.closed.is_set()
    assert await warm.take("7", "f") is None
    await warm.close()
