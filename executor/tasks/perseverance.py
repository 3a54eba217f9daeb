"""A run goes on after a stall, once, and after rate limits, as long as its time allows.

Each further turn continues the same conversation. What all of them have used counts together, and
so do their limits.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from executor.agents.protocol import AgentJob, TurnEnd
from executor.tasks.continuing import AFTER_LIMIT, after_stall, noted
from executor.tasks.spending import Spent
from executor.tasks.stall import StallClock
from shared.logging import get_logger
from shared.protocol.events import AgentEvent, EventType
from shared.status import ErrorCode

logger = get_logger("perseverance")

FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 300.0
"""Pauses double from the first to the longest, when nobody says when a limit is lifted."""

RESET_SPREAD_S: Final = 5.0
"""At most so long after a limit is lifted, so that not all who wait for it begin at once."""

SHORTEST_PAUSE_S: Final = 1.0

_PROGRESS: Final = frozenset({EventType.LLM_STREAM, EventType.TOOL_CALL, EventType.REASONING})


async def persevering(
    job: AgentJob,
    take_turn: Callable[[AgentJob], AsyncGenerator[AgentEvent | TurnEnd]],
    pause: Callable[[float], Awaitable[None]],
    *,
    clock: StallClock,
    deadline: float,
    spent: Spent,
    wall: Callable[[], float] = time.time,
) -> AsyncGenerator[AgentEvent | TurnEnd]:
    """The turns of one run; ends with one TurnEnd, whose statistics are those of all of them.

    Args:
        job: What the first turn is taken with.
        take_turn: Takes one turn and ends it, however it is left.
        pause: Waits so many seconds; what it raises ends the run.
        clock: Stands while a rate limit is waited out.
        deadline: When the run's time is over, by *clock*.
        spent: Is kept up to date, also for when this is left early.
        wall: The time in seconds since the epoch.
    """
    request, prompt, stalled, refused = job.request, job.request.prompt, False, 0
    while True:
        left = spent.limits_left(request)
        if (over := _over(left)) is not None:
            code, error = over
            yield TurnEnd(error=error, error_code=code, statistics=spent.statistics, reusable=False)
            return
        job = replace(job, request=request.model_copy(update={**left, "prompt": prompt}))
        end: TurnEnd | None = None
        async with aclosing(take_turn(job)) as items:
            async for item in items:
                if isinstance(item, TurnEnd):
                    end = item
                    break
                if item.type == EventType.SESSION:
                    job = replace(job, resume=item.data["sdk_session_id"])
                elif item.type in _PROGRESS:
                    refused = 0
                yield item
        if end is None:
            return
        spent.add(end.statistics)
        end = replace(end, statistics=spent.statistics)
        if end.error_code == ErrorCode.STALLED and not stalled:
            stalled = True
            note = after_stall(clock.limit_s)
            yield _warning(f"{end.error}; it was interrupted and goes on once more")
        elif end.error_code == ErrorCode.RATE_LIMITED:
            wait_s = _wait_s(end, refused, wall())
            until = _when(wall() + wait_s)
            if clock.now() + wait_s >= deadline:
                late = f"the run's time is over before it could be tried again at {until}"
                yield replace(end, error=f"{end.error} ({late})")
                return
            refused += 1
            note = AFTER_LIMIT
            logger.warning("rate limited: the run goes on in %.0f s", wait_s)
            message = f"{end.error}; the run waits until {until} and goes on then"
            yield _warning(message, waits_for="api")
            with clock.held():
                await pause(wait_s)
        else:
            yield end
            return
        if job.resume is not None:
            prompt = noted(note, request.prompt)


def _wait_s(end: TurnEnd, refused: int, now: float) -> float:
    """Seconds until the API may be asked again, after it has refused *refused* times before."""
    if end.retry_at is not None and end.retry_at > now and not refused:
        wait_s = max(end.retry_at - now, SHORTEST_PAUSE_S)
        return wait_s + random.uniform(0, min(RESET_SPREAD_S, wait_s / 10))
    longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(refused, 16))
    backoff_s = longest_s * random.uniform(0.5, 1.0)
    return max(backoff_s, (end.retry_at or 0) - now)


def _when(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # whoever told it meant another unit
        return "a time beyond the calendar"


def _over(left: Mapping[str, Any]) -> tuple[ErrorCode, str] | None:
    if left.get("max_turns", 1) <= 0:
        return ErrorCode.MAX_TURNS, "Reached maximum number of turns over all attempts"
    if left.get("max_budget_usd", 1.0) <= 0:
        return ErrorCode.BUDGET_EXCEEDED, "Reached maximum budget over all attempts"
    return None


def _warning(message: str, **more: str) -> AgentEvent:
    return AgentEvent(EventType.WARNING, {"message": message, **more})
