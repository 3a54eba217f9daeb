"""How a run goes on after stalls and rate limits, with turns and time as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor.agents.protocol import AgentJob, TurnEnd
from executor.tasks.perseverance import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    RESET_SPREAD_S,
    persevering,
)
from executor.tasks.spending import Spent
from executor.tasks.stall import StallClock
from shared.protocol.events import AgentEvent, EventType
from shared.status import ErrorCode
from tests.fakes.agent_jobs import JobMaker
from tests.fakes.clock import ManualClock

Turn = list[AgentEvent | TurnEnd]

WALL = 1_795_264_500.0
"""2026-11-21T12:35:00Z."""

SESSION = AgentEvent(EventType.SESSION, {"sdk_session_id": "conversation-1"})
TEXT = AgentEvent(EventType.LLM_STREAM, {"content": "progress"})
STALLED: Turn = [SESSION, TurnEnd(error="silence", error_code=ErrorCode.STALLED, reusable=False)]
DONE: Turn = [SESSION, TurnEnd("done")]


def limited(retry_at: float | None = None, *before: AgentEvent) -> Turn:
    end = TurnEnd(error="slow down", error_code=ErrorCode.RATE_LIMITED, retry_at=retry_at)
    return [SESSION, *before, end]


def used(turn: Turn, **statistics: Any) -> Turn:
    *before, end = turn
    assert isinstance(end, TurnEnd)
    return [*before, replace(end, statistics=statistics)]


class Persevering:
    """A run of these turns, with an hour of time."""

    def __init__(self, place: Path, *turns: Turn, **fields: Any) -> None:
        self.turns = list(turns)
        self.jobs: list[AgentJob] = []
        self.pauses: list[float] = []
        self.held: list[bool] = []
        self.ended_by: Exception | None = None
        self.spent = Spent()
        time = ManualClock()
        self.clock = StallClock(600, now=time.now, sleep=time.sleep)
        self.deadline = self.clock.now() + 3600
        self.job = JobMaker(place, "http://127.0.0.1:1").job(prompt="the task", **fields)

    async def carry_out(self) -> tuple[list[str], TurnEnd]:
        """The warnings and the end."""
        warnings, ends = [], []
        async for item in persevering(
            self.job,
            self._take_turn,
            self._pause,
            clock=self.clock,
            deadline=self.deadline,
            spent=self.spent,
            wall=lambda: WALL,
        ):
            if isinstance(item, TurnEnd):
                ends.append(item)
            elif item.type == EventType.WARNING:
                warnings.append(item.data["message"])
        assert len(ends) == 1
        return warnings, ends[0]

    @property
    def prompts(self) -> list[Any]:
        return [job.request.prompt for job in self.jobs]

    async def _take_turn(self, job: AgentJob) -> AsyncGenerator[AgentEvent | TurnEnd]:
        self.jobs.append(job)
        for item in self.turns.pop(0):
            yield item

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.held.append(self.clock.standing)
        if self.ended_by is not None:
            raise self.ended_by


async def test_a_turn_that_ends_is_the_run(tmp_path: Path) -> None:
    run = Persevering(tmp_path, DONE)
    assert await run.carry_out() == ([], TurnEnd("done"))
    assert run.prompts == ["the task"]


async def test_a_stalled_run_goes_on_once_in_the_same_conversation(tmp_path: Path) -> None:
    run = Persevering(tmp_path, STALLED, DONE)
    warnings, end = await run.carry_out()
    assert end.result == "done"
    assert warnings == ["silence; it was interrupted and goes on once more"]
    assert [job.resume for job in run.jobs] == [None, "conversation-1"]
    assert "600 seconds" in run.prompts[1]
    assert run.prompts[1].endswith("\n\nthe task")
    assert run.pauses == []


async def test_a_second_stall_is_the_verdict(tmp_path: Path) -> None:
    run = Persevering(tmp_path, STALLED, STALLED)
    _, end = await run.carry_out()
    assert (end.error_code, end.error) == (ErrorCode.STALLED, "silence")
    assert len(run.jobs) == 2


async def test_a_conversation_that_had_not_begun_is_begun_again(tmp_path: Path) -> None:
    run = Persevering(tmp_path, STALLED[1:], DONE)
    await run.carry_out()
    assert run.prompts == ["the task", "the task"]
    assert run.jobs[1].resume is None


async def test_a_prompt_of_blocks_keeps_them(tmp_path: Path) -> None:
    run = Persevering(tmp_path, STALLED, DONE)
    blocks = [{"type": "text", "text": "look at this"}]
    run.job = JobMaker(tmp_path, "http://127.0.0.1:1").job(prompt=blocks)
    await run.carry_out()
    note, *rest = run.prompts[1]
    assert "no sign of life" in note.text
    assert rest == run.prompts[0]


async def test_a_limit_is_waited_out_until_it_is_lifted(tmp_path: Path) -> None:
    run = Persevering(tmp_path, limited(WALL + 600), DONE)
    warnings, end = await run.carry_out()
    assert end.result == "done"
    (pause,) = run.pauses
    assert 600 <= pause <= 600 + RESET_SPREAD_S
    assert run.held == [True]
    assert not run.clock.standing
    assert warnings[0].startswith("slow down; the run waits until 2026-11-21T12:45:0")
    assert run.jobs[1].resume == "conversation-1"
    assert "rate limit" in run.prompts[1]


async def test_pauses_grow_while_the_api_refuses_and_begin_anew_after_progress(
    tmp_path: Path,
) -> None:
    refusals = [limited() for _ in range(8)]
    run = Persevering(tmp_path, *refusals, limited(None, TEXT), DONE)
    _, end = await run.carry_out()
    assert end.result == "done"
    for number, pause in enumerate(run.pauses[:8]):
        longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**number)
        assert longest / 2 <= pause <= longest
    assert run.pauses[8] <= FIRST_PAUSE_S


async def test_a_limit_that_is_lifted_but_refuses_is_not_asked_at_once_again(
    tmp_path: Path,
) -> None:
    run = Persevering(tmp_path, limited(WALL - 60), limited(WALL + 1), DONE)
    await run.carry_out()
    assert run.pauses[0] >= FIRST_PAUSE_S / 2
    assert run.pauses[1] >= FIRST_PAUSE_S


async def test_a_limit_beyond_the_runs_time_fails_it_at_once(tmp_path: Path) -> None:
    run = Persevering(tmp_path, limited(WALL + 3600))
    warnings, end = await run.carry_out()
    assert (warnings, run.pauses) == ([], [])
    assert end.error_code == ErrorCode.RATE_LIMITED
    assert (end.error or "").startswith("slow down (")
    assert "2026-11-21T13:35:0" in (end.error or "")


async def test_a_limit_that_is_lifted_at_no_time_at_all_is_still_a_rate_limit(
    tmp_path: Path,
) -> None:
    run = Persevering(tmp_path, limited(WALL * 1e9))
    _, end = await run.carry_out()
    assert end.error_code == ErrorCode.RATE_LIMITED


async def test_what_ends_the_wait_ends_the_run(tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    run = Persevering(tmp_path, used(limited(WALL + 600), num_turns=2))
    run.ended_by = Cancelled()
    with pytest.raises(Cancelled):
        await run.carry_out()
    assert not run.clock.standing
    assert run.spent.statistics["num_turns"] == 2


async def test_all_turns_of_a_run_count_together(tmp_path: Path) -> None:
    first = used(STALLED, num_turns=3, total_cost_usd=0.25, usage={"out": 5}, model="m1")
    second = used(DONE, num_turns=1, total_cost_usd=0.5, usage={"out": 2, "kind": "x"}, model=None)
    run = Persevering(tmp_path, first, second)
    _, end = await run.carry_out()
    assert end.statistics == {
        "num_turns": 4,
        "total_cost_usd": 0.75,
        "usage": {"out": 7, "kind": "x"},
        "model": "m1",
    }


async def test_a_further_turn_gets_what_is_left_of_the_limits(tmp_path: Path) -> None:
    first = used(STALLED, num_turns=3, total_cost_usd=0.25)
    run = Persevering(tmp_path, first, DONE, max_turns=10, max_budget_usd=1)
    await run.carry_out()
    left = run.jobs[1].request
    assert (left.max_turns, left.max_budget_usd) == (7, 0.75)


async def test_the_bots_own_limit_of_turns_counts_as_well(tmp_path: Path) -> None:
    run = Persevering(tmp_path, used(STALLED, num_turns=3), DONE, bot={"max_turns": 4})
    await run.carry_out()
    assert run.jobs[1].request.max_turns == 1


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ({"max_turns": 3}, ErrorCode.MAX_TURNS),
        ({"max_budget_usd": 0.25}, ErrorCode.BUDGET_EXCEEDED),
    ],
)
async def test_nothing_left_of_a_limit_ends_the_run(
    tmp_path: Path, limit: dict[str, Any], code: ErrorCode
) -> None:
    first = used(STALLED, num_turns=3, total_cost_usd=0.25)
    run = Persevering(tmp_path, first, **limit)
    _, end = await run.carry_out()
    assert end.error_code == code
    assert len(run.jobs) == 1


async def test_any_other_failure_is_the_verdict(tmp_path: Path) -> None:
    failure = TurnEnd(error="no", error_code=ErrorCode.AUTH_ERROR)
    run = Persevering(tmp_path, [SESSION, failure])
    async with asyncio.timeout(30):
        assert (await run.carry_out())[1] == failure
