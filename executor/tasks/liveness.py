"""A turn under watch: one that shows no sign of life for too long is interrupted.

Signs of life are messages of the agent's process, CPU used by its tools, and a pause that it makes
on purpose. The CPU of the agent's own process is none: an idle one uses some, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from executor.agents.protocol import AgentSession, Ask, TurnEnd
from executor.tasks.stall import StallClock
from shared.logging import get_logger
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.execution import ExecutionRequest
from shared.shielding import stop
from shared.status import ErrorCode

logger = get_logger("liveness")

WORKING_SHARE: Final = 0.05
"""Tools that use less of one core between two looks are idle. An idle server on Node.js uses about
0.6 %, so that some eight of them pass for idle; whatever computes uses far more, even on a machine
with nothing to spare."""

LOOKS: Final = 10
"""How often to look within the time that silence may last."""

MIN_INTERVAL_S: Final = 0.5
"""The system counts CPU in steps of 10 ms; in less time one step would be above the share."""

MAX_INTERVAL_S: Final = 5.0
"""A look takes about 10 ms in a thread."""


async def watched(
    session: AgentSession, request: ExecutionRequest, ask: Ask, clock: StallClock
) -> AsyncGenerator[AgentEvent | TurnEnd]:
    """A turn of *session* that ends as ``stalled`` when *clock* expires.

    The session interrupts it, and ends its process when that is not heard; so a stalled turn ends,
    too, and its session is not used again.
    """
    stalled = False

    async def watch() -> None:
        nonlocal stalled
        await _silence(session, clock)
        stalled = True
        logger.warning("no sign of life for %g s: the agent is interrupted", clock.limit_s)
        await session.interrupt()

    watching = asyncio.create_task(watch(), name="watch for signs of life")
    try:
        async with aclosing(session.turn(request, ask)) as items:
            async for item in items:
                yield _as_stalled(item, clock.limit_s) if stalled else item
    finally:
        await stop(watching)


def _as_stalled(item: AgentEvent | TurnEnd, limit_s: float) -> AgentEvent | TurnEnd:
    """*item*, when it comes of the interrupt; what was done all the same stays as it is."""
    error = f"the agent showed no sign of life for {limit_s:g} s"
    if isinstance(item, TurnEnd):
        if item.error_code is None:
            return item
        return replace(item, error=error, error_code=ErrorCode.STALLED, reusable=False)
    if item.type == EventType.LLM_ERROR:
        return replace(item, data={**item.data, "error": error, "code": ErrorCode.STALLED})
    return item


async def _silence(session: AgentSession, clock: StallClock) -> None:
    """Wait until *session* has been silent for as long as *clock* allows."""
    signs = SignsOfLife(session)
    clock.sign()

    async def look() -> None:
        interval_s = min(max(clock.limit_s / LOOKS, MIN_INTERVAL_S), MAX_INTERVAL_S)
        while True:
            await clock.sleep(interval_s)
            if signs.spoke() or await signs.worked():
                clock.sign()

    looking = asyncio.create_task(look(), name="look for signs of life")
    try:
        while True:
            await clock.expired()
            if not signs.spoke():  # since the last look
                return
            clock.sign()
    finally:
        await stop(looking)


class SignsOfLife:
    """What a session does, from one look to the next."""

    def __init__(self, session: AgentSession) -> None:
        self._session = session
        self._now = asyncio.get_running_loop().time
        self._heard = session.heard
        self._used: tuple[float, float] | None = None
        """When the CPU was looked at last, and how much it was; ``None``: not since it spoke."""

    def spoke(self) -> bool:
        """Whether a message has come since the last time, or the agent pauses on purpose."""
        heard, self._heard = self._heard, self._session.heard
        spoke = self._heard != heard or self._session.silent_until > self._now()
        if spoke:
            self._used = None  # no need to look while it speaks
        return spoke

    async def worked(self) -> bool:
        """Whether its tools have used CPU since the last time; the first time, they have not."""
        before = self._used
        cpu_s = await asyncio.to_thread(self._session.tools_cpu_s)
        self._used = now_s, _ = self._now(), cpu_s
        if before is None:
            return False
        return cpu_s - before[1] >= WORKING_SHARE * (now_s - before[0])
