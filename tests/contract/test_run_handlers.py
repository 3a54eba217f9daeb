"""What every RunHandler keeps, whoever carries the runs out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path

import pytest

from executor.agents.protocol import TurnEnd
from executor.tasks.run_handler import Run, RunHandler
from shared.errors import Refusal
from shared.protocol.events import AgentEvent, EventType
from shared.status import ErrorCode
from tests.fakes.agent import ScriptedAgent, in_process
from tests.fakes.agent_jobs import make_request
from tests.fakes.run_handler import ScriptedRunHandler, completed

Implementation = Callable[[asyncio.Event, Path], AbstractAsyncContextManager[RunHandler]]
"""Makes a handler whose runs tell something, wait for the gate, and complete."""

CALL = AgentEvent(EventType.TOOL_CALL, {"tool_id": "t", "tool_name": "Bash", "arguments": {}})


@asynccontextmanager
async def scripted(gate: asyncio.Event, _home: Path) -> AsyncIterator[RunHandler]:
    yield ScriptedRunHandler([AgentEvent(EventType.STARTED), CALL, gate, completed()])


@asynccontextmanager
async def in_this_process(gate: asyncio.Event, home: Path) -> AsyncIterator[RunHandler]:
    async with in_process(ScriptedAgent([CALL, gate, TurnEnd("done")]), home) as handler:
        yield handler


@pytest.fixture
def gate() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture(
    params=[pytest.param(scripted, id="scripted"), pytest.param(in_this_process, id="in process")]
)
async def handler(
    request: pytest.FixtureRequest, gate: asyncio.Event, tmp_path: Path
) -> AsyncIterator[RunHandler]:
    implementation: Implementation = request.param
    async with implementation(gate, tmp_path) as made:
        yield made


async def carry_out(run: Run) -> list[AgentEvent]:
    async with asyncio.timeout(10):
        return [event async for event in run.events()]


async def test_a_run_ends_with_exactly_one_verdict(
    handler: RunHandler, gate: asyncio.Event
) -> None:
    gate.set()
    events = await carry_out(handler.start(make_request()))
    assert [event.terminal for event in events] == [False] * (len(events) - 1) + [True]
    assert events[0].type == EventType.STARTED
    assert events[-1].type == EventType.COMPLETED
    assert events[-1].data["result"] == "done"


async def test_a_run_cancelled_in_the_middle_ends_cancelled(handler: RunHandler) -> None:
    run = handler.start(make_request())
    told: list[AgentEvent] = []
    async with asyncio.timeout(10), aclosing(run.events()) as events:
        async for event in events:
            told.append(event)
            if event.type == EventType.TOOL_CALL:
                await run.cancel("why")
                await run.cancel("again")
    assert [event.type for event in told if event.terminal] == [EventType.CANCELLED]
    await run.cancel("afterwards")


async def test_a_run_cancelled_before_its_first_event_ends_cancelled(handler: RunHandler) -> None:
    run = handler.start(make_request())
    await run.cancel("why")
    events = await carry_out(run)
    assert events[-1].type == EventType.CANCELLED
    assert events[-1].data["reason"] == "why"


async def test_runs_go_on_side_by_side(handler: RunHandler, gate: asyncio.Event) -> None:
    runs = [handler.start(make_request(task_id=n, subtask_id=n)) for n in (1, 2)]
    carried_out = [asyncio.create_task(carry_out(run)) for run in runs]
    await runs[0].cancel(None)
    assert (await carried_out[0])[-1].type == EventType.CANCELLED
    gate.set()
    assert (await carried_out[1])[-1].type == EventType.COMPLETED


async def test_a_run_that_nobody_follows_any_more_ends_without_a_word(handler: RunHandler) -> None:
    async with asyncio.timeout(10), aclosing(handler.start(make_request()).events()) as events:
        async for event in events:
            if event.type == EventType.TOOL_CALL:
                break
    await handler.close_session(1)


async def test_an_unknown_agent_is_refused_by_name(handler: RunHandler) -> None:
    with pytest.raises(Refusal) as refused:
        handler.check(make_request(agent_type="nobody"))
    assert refused.value.error_code == ErrorCode.UNSUPPORTED_AGENT
    assert "claude_code" in f"{refused.value}{refused.value.hint}"
