"""Turns under watch: what counts as a sign of life, and what becomes of one that shows none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest

from executor.agents.protocol import Ask, TurnEnd
from executor.tasks.liveness import WORKING_SHARE, SignsOfLife, watched
from executor.tasks.stall import StallClock
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.execution import ExecutionRequest
from shared.status import ErrorCode
from tests.fakes.agent_jobs import make_request
from tests.fakes.clock import ManualClock

TEXT = AgentEvent(EventType.LLM_STREAM, {"content": "text"})
ERROR = AgentEvent(EventType.LLM_ERROR, {"message_id": "m", "error": "x", "code": "cancelled"})
INTERRUPTED = TurnEnd(
    error="interrupted", error_code=ErrorCode.AGENT_ERROR, statistics={"num_turns": 1}
)


async def nobody(*_: object) -> None:
    """Nobody can be asked."""


class SilentSession:
    """A session whose life is what a test sets; interrupted, it ends as told."""

    session_id = pid = None
    alive = True
    answered = 0
    cost_usd = 0.0

    def __init__(self, *after_interrupt: AgentEvent | TurnEnd) -> None:
        self.after_interrupt = after_interrupt
        self.heard = 0
        self.silent_until = 0.0
        self.cpu_s = 0.0
        self.says: asyncio.Queue[AgentEvent | TurnEnd] = asyncio.Queue()
        self.interrupts = 0

    async def turn(self, _: ExecutionRequest, __: Ask) -> AsyncGenerator[AgentEvent | TurnEnd]:
        while True:
            item = await self.says.get()
            yield item
            if isinstance(item, TurnEnd):
                return

    def tools_cpu_s(self) -> float:
        return self.cpu_s

    async def interrupt(self) -> None:
        self.interrupts += 1
        for item in self.after_interrupt:
            self.says.put_nowait(item)

    async def close(self) -> None:
        self.alive = False


class Watched:
    """A turn under watch with a limit of 10 seconds."""

    def __init__(self, session: SilentSession) -> None:
        self.session = session
        self.time = ManualClock()
        self.clock = StallClock(10, now=self.time.now, sleep=self.time.sleep)
        self.told: list[AgentEvent | TurnEnd] = []
        self.task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for item in watched(self.session, make_request(), nobody, self.clock):
            self.told.append(item)

    async def ended(self) -> TurnEnd:
        async with asyncio.timeout(30):
            await self.task
        end = self.told[-1]
        assert isinstance(end, TurnEnd)
        return end


@asynccontextmanager
async def watching(*after_interrupt: AgentEvent | TurnEnd) -> AsyncIterator[Watched]:
    turn = Watched(SilentSession(*after_interrupt))
    try:
        yield turn
    finally:
        turn.task.cancel()
        await asyncio.wait({turn.task})


async def test_a_silent_turn_is_interrupted_once_and_ends_as_stalled() -> None:
    async with watching(ERROR, INTERRUPTED) as turn:
        await turn.time.advance(9.9)
        assert turn.session.interrupts == 0
        await turn.time.advance(0.2)
        end = await turn.ended()
    assert turn.session.interrupts == 1
    assert (end.error_code, end.reusable) == (ErrorCode.STALLED, False)
    assert end.error == "the agent showed no sign of life for 10 s"
    assert end.statistics == {"num_turns": 1}
    (error,) = (item for item in turn.told if isinstance(item, AgentEvent))
    assert (error.data["code"], error.data["error"]) == ("stalled", end.error)


async def test_messages_that_tell_nothing_are_signs_of_life() -> None:
    async with watching(INTERRUPTED) as turn:
        for _ in range(5):
            await turn.time.advance(6)
            turn.session.heard += 1
        assert turn.session.interrupts == 0
        await turn.time.advance(30)
        assert (await turn.ended()).error_code == ErrorCode.STALLED


async def test_a_message_in_the_last_moment_counts() -> None:
    async with watching(INTERRUPTED) as turn:
        await turn.time.advance(9.95)
        turn.session.heard += 1
        await turn.time.advance(5)
        assert turn.session.interrupts == 0


async def test_a_pause_on_purpose_is_no_stall() -> None:
    async with watching(INTERRUPTED) as turn:
        turn.session.silent_until = asyncio.get_running_loop().time() + 3600
        await turn.time.advance(100)
        assert turn.session.interrupts == 0


async def test_a_turn_that_finishes_in_spite_of_the_interrupt_keeps_its_result() -> None:
    async with watching(TEXT, TurnEnd("done")) as turn:
        await turn.time.advance(11)
        end = await turn.ended()
    assert (end.result, end.error_code) == ("done", None)
    assert turn.told[0] == TEXT


async def test_the_silence_before_a_turn_does_not_count() -> None:
    session = SilentSession(INTERRUPTED)
    turn = Watched(session)
    turn.clock.sign()
    turn.time._now += 9  # cloned, connected
    await turn.time.advance(9)
    assert session.interrupts == 0
    turn.task.cancel()
    await asyncio.wait({turn.task})


async def test_leaving_a_turn_early_ends_it_and_its_watch() -> None:
    session = SilentSession(INTERRUPTED)
    turn = Watched(session)
    session.says.put_nowait(TEXT)
    await turn.time.advance(1)
    turn.task.cancel()
    await asyncio.wait({turn.task})
    await turn.time.advance(100)
    assert session.interrupts == 0


@pytest.mark.parametrize(("share", "working"), [(2, True), (0.5, False), (0, False), (-1, False)])
async def test_only_tools_above_the_share_work(
    monkeypatch: pytest.MonkeyPatch, share: float, working: bool
) -> None:
    session = SilentSession()
    signs = SignsOfLife(session)
    time = ManualClock()
    monkeypatch.setattr(signs, "_now", time.now)
    session.cpu_s = 100.0
    assert not await signs.worked()  # since when, nobody knows
    time._now += 10
    session.cpu_s += share * WORKING_SHARE * 10
    assert await signs.worked() is working


async def test_what_tools_did_while_the_agent_spoke_is_not_counted_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = SilentSession()
    signs = SignsOfLife(session)
    assert not await signs.worked()
    session.cpu_s, session.heard = 1000.0, 1
    assert signs.spoke()
    assert not await signs.worked()
