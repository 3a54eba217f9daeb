"""Runs in this process: whatever moment a cancel comes at, and what persists between runs."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from executor.agents.protocol import TurnEnd
from executor.delivery.run_rows import Spending
from executor.tasks.in_process import InProcessRunHandler
from executor.tasks.questions import UserInput
from executor.tasks.run_handler import Run
from shared.errors import RunError
from shared.protocol.events import AgentEvent, EventType, RunRef
from shared.status import ErrorCode
from tests.fakes.agent import Asks, ScriptedAgent, in_process
from tests.fakes.agent_jobs import make_request
from tests.fakes.run_handler import tool_call


@dataclass
class Runs:
    """A run handler with a scripted agent and everything else real."""

    handler: InProcessRunHandler
    agent: ScriptedAgent
    root: Path
    told: list[AgentEvent] = field(default_factory=list)

    def start(self, **fields: Any) -> tuple[Run, asyncio.Task[list[AgentEvent]]]:
        run = self.handler.start(make_request(**fields))
        return run, asyncio.create_task(self.collect(run))

    async def carry_out(self, **fields: Any) -> list[AgentEvent]:
        return await asyncio.wait_for(self.start(**fields)[1], 30)

    async def reaches(self, place: str) -> None:
        async with asyncio.timeout(30):
            while await self.agent.reached.get() != place:
                pass

    async def collect(self, run: Run) -> list[AgentEvent]:
        events = []
        async for event in run.events():
            events.append(event)
            self.told.append(event)
        return events


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[Runs]:
    agent = ScriptedAgent()
    async with in_process(agent, tmp_path) as handler:
        yield Runs(handler, agent, tmp_path)


async def silent_server(silent: asyncio.Queue[asyncio.StreamWriter]) -> asyncio.Server:
    """Takes connections and never answers."""

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent.put_nowait(writer)

    return await asyncio.start_server(accept, "127.0.0.1", 0)


def verdicts(events: list[AgentEvent]) -> list[str]:
    return [str(event.type) for event in events if event.terminal]


async def test_a_cancelled_clone_ends_and_leaves_nothing(runs: Runs) -> None:
    silent: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await silent_server(silent)
    port = server.sockets[0].getsockname()[1]
    async with server:
        run, events = runs.start(git_url=f"http://127.0.0.1:{port}/a.git")
        writer = await asyncio.wait_for(silent.get(), 30)
        await run.cancel("why")
        told = await asyncio.wait_for(events, 30)
        writer.close()
    assert verdicts(told) == [EventType.CANCELLED]
    assert told[-1].data["reason"] == "why"
    assert list((runs.root / "workspace" / "1").iterdir()) == []
    assert runs.agent.jobs == []


@pytest.mark.parametrize("moment", ["load", "open", "turn"])
async def test_a_run_cancelled_at_any_moment_ends_cancelled(runs: Runs, moment: str) -> None:
    gates = {"load": runs.agent.loading, "open": runs.agent.opening, "turn": asyncio.Event()}
    gates[moment].clear()
    runs.agent.script = [gates["turn"], TurnEnd("done")] if moment == "turn" else [TurnEnd("done")]
    run, events = runs.start()
    await runs.reaches(moment)
    await run.cancel(None)
    await run.cancel(None)
    told = await asyncio.wait_for(events, 30)
    assert verdicts(told) == [EventType.CANCELLED]
    assert told[-1].data["workspace"]["path"] == str(runs.root / "workspace" / "1")
    await run.cancel(None)  # after the end: nothing


async def test_ending_a_run_is_not_forgotten_over_its_cancel(runs: Runs) -> None:
    runs.agent.opening.clear()
    runs.agent.may_give_up.clear()
    run, events = runs.start()
    await runs.reaches("open")
    await run.cancel(None)
    await runs.reaches("giving up")
    events.cancel()  # the grace is over, or the executor stops
    await asyncio.sleep(0)
    assert not events.done()  # not before the agent has given up
    runs.agent.may_give_up.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(events, 30)


async def test_an_ended_turn_leaves_no_session(runs: Runs) -> None:
    runs.agent.script = [asyncio.Event()]
    _, events = runs.start()
    await runs.reaches("turn")
    events.cancel()
    with pytest.raises(asyncio.CancelledError):
        await events
    assert [session.alive for session in runs.agent.sessions] == [False]


async def test_the_conversation_is_known_before_its_first_turn_has_ended(runs: Runs) -> None:
    runs.agent.script = [asyncio.Event()]
    run, events = runs.start()
    await runs.reaches("turn")
    known = await runs.handler.state.session(1)
    assert known is not None
    assert known.sdk_session_id == "conversation-1"
    await run.cancel(None)
    await events


async def test_the_next_message_goes_to_the_live_session(runs: Runs) -> None:
    await runs.carry_out()
    told = await runs.carry_out(subtask_id=2)
    assert told[0].data["resumed"] is True
    assert len(runs.agent.sessions) == 1


async def test_after_a_cancel_the_next_message_is_resumed_in_another_session(runs: Runs) -> None:
    runs.agent.script = [asyncio.Event(), TurnEnd("stopped in time, could take the next")]
    run, events = runs.start()
    await runs.reaches("turn")
    await run.cancel(None)
    await asyncio.wait_for(events, 30)
    assert not runs.agent.sessions[0].alive
    runs.agent.script = [TurnEnd("done")]
    assert verdicts(await runs.carry_out(subtask_id=2)) == [EventType.COMPLETED]
    assert [job.resume for job in runs.agent.jobs] == [None, "conversation-1"]


async def test_a_session_whose_process_has_died_is_resumed_in_another(runs: Runs) -> None:
    await runs.carry_out()
    runs.agent.sessions[0].alive = False
    assert verdicts(await runs.carry_out(subtask_id=2)) == [EventType.COMPLETED]
    assert [job.resume for job in runs.agent.jobs] == [None, "conversation-1"]


async def test_a_new_session_ends_the_live_one_and_forgets_its_conversation(runs: Runs) -> None:
    await runs.carry_out()
    told = await runs.carry_out(subtask_id=2, new_session=True)
    assert told[0].data["resumed"] is False
    assert [session.alive for session in runs.agent.sessions] == [False, True]
    known = await runs.handler.state.session(1)
    assert known is not None
    assert known.sdk_session_id == "conversation-2"


async def test_a_session_closed_during_its_run_leaves_no_process_after_it(runs: Runs) -> None:
    gate = asyncio.Event()
    runs.agent.script = [gate, TurnEnd("done")]
    _, events = runs.start()
    await runs.reaches("turn")
    await runs.handler.close_session("2")
    await runs.handler.close_session("1")
    assert runs.agent.sessions[0].alive  # its run goes on
    gate.set()
    assert verdicts(await asyncio.wait_for(events, 30)) == [EventType.COMPLETED]
    assert not runs.agent.sessions[0].alive
    runs.agent.script = [TurnEnd("done")]
    await runs.carry_out(subtask_id=2)
    assert [session.alive for session in runs.agent.sessions] == [False, True]


async def test_winding_down_ends_idle_processes_at_once_and_others_with_their_runs(
    runs: Runs,
) -> None:
    await runs.carry_out(task_id=7)
    gate = asyncio.Event()
    runs.agent.script = [gate, TurnEnd("done")]
    _, events = runs.start()
    await runs.reaches("turn")
    await runs.reaches("turn")
    idle, busy = runs.agent.sessions
    runs.handler.wind_down()
    await runs.handler.close_session(7)  # waits for its end
    assert [idle.alive, busy.alive] == [False, True]
    gate.set()
    assert verdicts(await asyncio.wait_for(events, 30)) == [EventType.COMPLETED]
    assert not busy.alive


async def test_a_session_that_cannot_take_another_turn_is_ended(runs: Runs) -> None:
    runs.agent.script = [
        TurnEnd(error="too dear", error_code=ErrorCode.BUDGET_EXCEEDED, reusable=False)
    ]
    told = await runs.carry_out()
    assert told[-1].data["error_code"] == "budget_exceeded"
    assert [session.alive for session in runs.agent.sessions] == [False]


async def test_a_failed_start_is_the_runs_verdict_with_its_workspace(runs: Runs) -> None:
    runs.agent.failure = RunError(ErrorCode.AGENT_CRASHED, "it ended", hint="look", details="more")
    told = await runs.carry_out()
    assert verdicts(told) == [EventType.FAILED]
    assert told[-1].data["error_code"] == "agent_crashed"
    assert told[-1].data["details"] == "more"
    assert told[-1].data["workspace"]["path"] == str(runs.root / "workspace" / "1")


@pytest.mark.skipif(sys.platform == "win32", reason="stops a POSIX process")
async def test_a_cancel_while_the_new_process_is_being_paused_ends_the_run_without_a_turn(
    runs: Runs,
) -> None:
    process = await asyncio.create_subprocess_exec("sleep", "600")
    cancels: list[asyncio.Task[None]] = []

    def pid_of_a_run_that_is_cancelled_now() -> int:
        if not cancels:
            cancels.append(asyncio.create_task(run.cancel(None)))
        return process.pid

    try:
        runs.agent.opening.clear()
        runs.agent.pid = pid_of_a_run_that_is_cancelled_now
        run, events = runs.start()
        await runs.reaches("open")
        await run.pause()
        runs.agent.opening.set()
        assert verdicts(await asyncio.wait_for(events, 30)) == [EventType.CANCELLED]
        await asyncio.gather(*cancels)
        assert runs.agent.reached.empty()  # no turn
        assert psutil.Process(process.pid).status() != psutil.STATUS_STOPPED
    finally:
        process.kill()
        await process.wait()


async def test_a_paused_run_prepares_and_opens_nothing_before_it_goes_on(runs: Runs) -> None:
    run = runs.handler.start(make_request())
    await run.pause()
    following = asyncio.create_task(runs.collect(run))
    await runs.handler.state.session(1)  # asked for later than by the run
    assert not (runs.root / "workspace").exists()
    await run.resume()
    assert verdicts(await asyncio.wait_for(following, 30)) == [EventType.COMPLETED]


async def test_a_run_that_an_earlier_process_began_has_what_is_left_of_its_limits(
    runs: Runs,
) -> None:
    limits = {"max_turns": 5, "max_budget_usd": 1.0}
    await runs.handler.state.accept(RunRef(1, 1))
    runs.agent.past_costs_usd["earlier"] = 0.25
    runs.agent.script = [tool_call(1), tool_call(2), asyncio.Event()]
    _, events = runs.start(sdk_session_id="earlier", **limits)
    await runs.reaches("gate")
    events.cancel()
    with pytest.raises(asyncio.CancelledError):
        await events
    runs.agent.past_costs_usd["earlier"] = 0.75
    statistics = {"num_turns": 1, "total_cost_usd": 0.125}
    runs.agent.script = [TurnEnd("done", statistics=statistics)]
    told = await runs.carry_out(sdk_session_id="earlier", **limits)
    left = runs.agent.jobs[1].request
    assert (left.max_turns, left.max_budget_usd) == (3, 0.5)
    assert told[-1].data["statistics"] == {"num_turns": 3, "total_cost_usd": 0.625}


async def test_a_run_whose_limit_an_earlier_process_has_used_up_takes_no_turn(runs: Runs) -> None:
    await runs.handler.state.accept(RunRef(1, 1))
    runs.handler.state.save_spending(("1", 1), Spending(5, 0.0))
    told = await runs.carry_out(max_turns=5)
    assert told[-1].data["error_code"] == "max_turns"
    assert runs.agent.jobs == []


async def test_a_rate_limit_is_not_waited_out_beyond_what_is_left_of_the_time(runs: Runs) -> None:
    state = runs.handler.state
    await state.accept(RunRef(1, 1))
    state.save_spending(("1", 1), Spending(1, 0.0))
    state.save_time(("1", 1), 3500.0, 3600.0)
    retry_at = time.time() + 600
    runs.agent.script = [
        TurnEnd(error="slow down", error_code=ErrorCode.RATE_LIMITED, retry_at=retry_at)
    ]
    told = await runs.carry_out(timeout_seconds=3600)
    assert told[-1].data["error_code"] == "rate_limited"
    assert "the run's time is over before" in told[-1].data["error"]


async def test_half_a_character_in_a_request_does_not_fail_its_run(runs: Runs) -> None:
    env = {"api_key": "half \ud800", "HALF": "\udfff"}
    server = {"url": "http://h", "headers": {"a": "\ud800"}}
    bot = {"agent_config": {"env": env}, "mcp_servers": {"s": server}}
    told = await runs.carry_out(prompt="half \ud800", bot=bot)
    assert verdicts(told) == [EventType.COMPLETED]
    assert "".join(runs.agent.jobs[0].env.values()).encode()


async def test_an_agent_that_waits_for_its_user_does_not_stall(tmp_path: Path) -> None:
    asks = Asks("permission", "Bash", {"command": "ls"})
    agent = ScriptedAgent([asks, TurnEnd("done")])
    rules = UserInput(timeout_s=0.5, run_timeout_s=60)
    async with in_process(agent, tmp_path, user_input=rules, stall_timeout_s=0.1) as handler:
        told = await Runs(handler, agent, tmp_path).carry_out()
    assert told[-1].type == EventType.COMPLETED
    (heard,) = [e.data["result"] for e in told if e.type == EventType.TOOL_RESULT]
    assert "has not answered in time" in heard  # it was not interrupted before


async def test_a_run_that_the_api_has_refused_waits_for_it(runs: Runs) -> None:
    retry_at = time.time() + 600
    runs.agent.script = [
        TurnEnd(error="slow down", error_code=ErrorCode.RATE_LIMITED, retry_at=retry_at)
    ]
    run, telling = runs.start(timeout_seconds=3600)
    async with asyncio.timeout(30):
        while run.waits_for is None:  # noqa: ASYNC110 - nothing tells when the wait begins
            await asyncio.sleep(0)
        assert run.waits_for == "api"
        await run.cancel(None)
        await telling
    assert run.waits_for is None
