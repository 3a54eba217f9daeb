from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from executor.tasks.run_execution import RunExecution
from executor.tasks.run_handler import WaitsFor
from shared.errors import RunError
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.local import Input
from shared.status import ErrorCode

WORKSPACE = {"path": "/w"}
STOPPED = RunError(ErrorCode.EXECUTOR_RESTARTED, "the executor stopped")


class Run:
    """Tells that it has started, waits at its gate, and completes; an interrupt does nothing."""

    waits_for: WaitsFor | None = None
    goes_on_alone = False

    def __init__(self) -> None:
        self.let_go_of = False
        self.conclusions: list[AgentEvent | None] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.interrupts: list[str | None] = []
        self.interrupted = asyncio.Event()
        self.clean_up: Callable[[], Any] = lambda: None
        """Called when it is ended from outside."""
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.done: dict[str, Any] = {}
        """What it has done, when it cannot tell it itself."""
        self.failure: RunError | None = None
        """What it ends with instead of completing."""
        self.accounting = asyncio.Event()
        self.may_account = asyncio.Event()
        self.may_account.set()

    async def events(self) -> AsyncGenerator[AgentEvent]:
        yield AgentEvent(EventType.STARTED, {})
        self.begun.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.clean_up()
            await self.may_end.wait()
            raise
        if self.failure is not None:
            raise self.failure
        done = {"result": "done", "workspace": WORKSPACE, "statistics": {"num_turns": 1}}
        yield AgentEvent(EventType.COMPLETED, done)
        yield AgentEvent(EventType.WARNING, {"message": "after the end"})

    def let_go(self) -> None:
        self.let_go_of = True

    def conclude(self, verdict: AgentEvent | None) -> None:
        self.conclusions.append(verdict)

    async def cancel(self, reason: str | None) -> None:
        self.interrupts.append(reason)
        self.interrupted.set()

    async def account(self) -> dict[str, Any]:
        self.accounting.set()
        await self.may_account.wait()
        return self.done

    async def pause(self) -> None: ...

    async def resume(self) -> None: ...

    async def answer(self, _: Input) -> Any: ...


class Carried:
    """A run that is being carried out."""

    def __init__(self, *, limit_s: float = 60.0, interrupt_grace_s: float = 60.0) -> None:
        self.run = Run()
        self.told: list[AgentEvent] = []
        self.ends = 0
        self.over = asyncio.Event()
        self.execution = RunExecution(
            self.run,
            names={"task_id": 1, "subtask_id": 2},
            tell=self.told.append,
            ended=self._ended,
            limit_s=limit_s,
            interrupt_grace_s=interrupt_grace_s,
        )

    def _ended(self) -> None:
        self.ends += 1
        self.over.set()

    async def end(self) -> list[tuple[str, dict[str, Any]]]:
        """What was told after the start, once nothing of the run goes on."""
        async with asyncio.timeout(30):
            await self.over.wait()
        assert self.ends == 1
        started, *rest = self.told
        assert started.type == EventType.STARTED
        return [(event.type, dict(event.data)) for event in rest]

    async def begun(self) -> None:
        async with asyncio.timeout(30):
            await self.run.begun.wait()


async def test_nothing_is_told_after_the_verdict() -> None:
    carried = Carried()
    carried.run.gate.set()
    assert [kind for kind, _ in await carried.end()] == [EventType.COMPLETED]


async def test_what_completes_after_its_cancel_is_cancelled_and_keeps_its_account() -> None:
    carried = Carried()
    await carried.begun()
    carried.execution.cancel("why")
    carried.run.gate.set()
    (verdict,) = await carried.end()
    account = {"workspace": WORKSPACE, "statistics": {"num_turns": 1}}
    assert verdict == (EventType.CANCELLED, {"reason": "why", **account})


async def test_a_cancel_after_the_verdict_changes_nothing() -> None:
    carried = Carried()
    carried.run.gate.set()
    await carried.end()
    carried.execution.cancel("late")
    assert carried.run.interrupts == []


async def test_a_second_cancel_does_not_interrupt_again() -> None:
    carried = Carried(interrupt_grace_s=0.0)
    await carried.begun()
    carried.execution.cancel("first")
    carried.execution.cancel("second")
    assert await carried.end() == [(EventType.CANCELLED, {"reason": "first"})]
    assert len(carried.run.interrupts) <= 1


async def test_a_run_cancelled_before_its_first_step_has_a_verdict() -> None:
    carried = Carried(interrupt_grace_s=0.0)
    carried.execution.fail(STOPPED)
    async with asyncio.timeout(30):
        await carried.over.wait()
    assert [event.data["error_code"] for event in carried.told] == ["executor_restarted"]


@pytest.mark.parametrize("how", ["cancel", "fail"])
async def test_a_run_ended_from_outside_tells_what_it_has_done(how: str) -> None:
    carried = Carried(interrupt_grace_s=0.0)
    await carried.begun()
    carried.run.done = {"workspace": WORKSPACE, "statistics": {"num_turns": 2}}
    if how == "cancel":
        carried.execution.cancel("why")
    else:
        carried.execution.fail(STOPPED)
    ((kind, verdict),) = await carried.end()
    assert kind == (EventType.CANCELLED if how == "cancel" else EventType.FAILED)
    assert (verdict["workspace"], verdict["statistics"]) == (WORKSPACE, {"num_turns": 2})


async def test_a_run_that_is_ended_once_more_has_its_verdict_without_what_it_has_done() -> None:
    carried = Carried()
    await carried.begun()
    carried.run.may_account.clear()
    carried.execution.fail(STOPPED)
    await carried.run.accounting.wait()
    carried.execution.fail(STOPPED)
    ((_, verdict),) = await carried.end()
    assert verdict == {"error": "the executor stopped", "error_code": "executor_restarted"}


@pytest.mark.parametrize("stop", ["park", "fail"])
async def test_why_a_run_has_failed_is_told_also_when_the_executor_stops_then(stop: str) -> None:
    carried = Carried()
    carried.run.failure = RunError(ErrorCode.CLONE_FAILED, "no such branch")
    carried.run.may_account.clear()
    carried.run.gate.set()
    await carried.run.accounting.wait()
    if stop == "park":
        carried.execution.park()
    else:
        carried.execution.fail(STOPPED)
    ((_, verdict),) = await carried.end()
    assert verdict == {"error": "no such branch", "error_code": "clone_failed"}


async def test_a_parked_run_has_ended_and_has_no_verdict() -> None:
    carried = Carried()
    await carried.begun()
    ended: list[str] = []
    carried.run.clean_up = lambda: ended.append("processes")
    carried.execution.park()
    assert await carried.end() == []
    assert ended == ["processes"]


async def test_what_goes_wrong_while_a_parked_run_ends_is_not_its_verdict() -> None:
    carried = Carried()
    await carried.begun()

    def clean_up() -> None:
        raise RunError(ErrorCode.AGENT_CRASHED, "killed by SIGTERM")

    carried.run.clean_up = clean_up
    carried.execution.park()
    carried.execution.park()  # as a stop does that is in a hurry
    assert await carried.end() == []


async def test_a_run_that_is_being_cancelled_is_cancelled_when_it_would_be_parked() -> None:
    carried = Carried()
    await carried.begun()
    carried.execution.cancel("why")
    carried.execution.park()
    assert await carried.end() == [(EventType.CANCELLED, {"reason": "why"})]


async def test_a_cancel_counts_as_long_as_a_parked_run_is_ending() -> None:
    carried = Carried()
    await carried.begun()
    ending = asyncio.Event()
    carried.run.clean_up = ending.set
    carried.run.may_end.clear()
    carried.execution.park()
    await ending.wait()
    carried.execution.cancel("why")
    carried.run.may_end.set()
    assert await carried.end() == [(EventType.CANCELLED, {"reason": "why"})]


@pytest.mark.parametrize("stop", ["park", "fail"])
async def test_a_run_beyond_its_time_is_timed_out_also_when_the_executor_stops(stop: str) -> None:
    carried = Carried(limit_s=0.0)
    async with asyncio.timeout(30):
        await carried.run.interrupted.wait()
    if stop == "park":
        carried.execution.park()
    else:
        carried.execution.fail(STOPPED)
    ((_, verdict),) = await carried.end()
    assert verdict["error_code"] == "timed_out"


async def test_a_run_is_told_once_how_it_has_ended() -> None:
    completed, stopped, parked = Carried(), Carried(), Carried()
    completed.run.gate.set()
    await stopped.run.begun.wait()
    stopped.execution.fail(STOPPED)
    await parked.run.begun.wait()
    parked.execution.park()
    for carried in (completed, stopped, parked):
        async with asyncio.timeout(30):
            await carried.over.wait()
    assert completed.run.conclusions == completed.told[-1:]
    assert stopped.run.conclusions == stopped.told[-1:]
    assert parked.run.conclusions == [None]
