"""What a supervisor works with in tests: runs that follow scripts, and what it tells and keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

from executor.delivery.run_rows import RunRecord
from executor.tasks.questions import AnswerStanding
from executor.tasks.run_handler import WaitsFor
from executor.tasks.supervisor import Supervisor
from shared.errors import Refusal, RunError
from shared.protocol.events import AgentEvent, EventType, RunKey, RunRef
from shared.protocol.execution import ExecutionRequest
from shared.protocol.local import Input
from shared.status import ErrorCode

Make = Callable[..., Supervisor]

Script = Callable[["Run"], AsyncGenerator[AgentEvent]]


def request(task_id: int | str = 1, subtask_id: int | str = 10, **fields: Any) -> ExecutionRequest:
    return ExecutionRequest.model_validate(
        {"task_id": task_id, "subtask_id": subtask_id, "prompt": "go", **fields}
    )


class Run:
    """A run that follows a script, with a gate that the test opens."""

    def __init__(self, request: ExecutionRequest, script: Script) -> None:
        self.request = request
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.cleaned_up = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.paused = asyncio.Event()
        self.resumed = asyncio.Event()
        self._script = script
        self.waits_for: WaitsFor | None = None
        self.goes_on_alone = self.left_alone = False

    async def events(self) -> AsyncGenerator[AgentEvent]:
        self.begun.set()
        try:
            async for event in self._script(self):
                yield event
        finally:
            self.cleaned_up.set()

    def let_go(self) -> None:
        self.left_alone = self.goes_on_alone

    def conclude(self, verdict: AgentEvent | None) -> None: ...

    async def cancel(self, reason: str | None) -> None:
        self.cancelled.set()

    async def account(self) -> dict[str, Any]:
        return {}

    async def pause(self) -> None:
        self.paused.set()

    async def resume(self) -> None:
        self.resumed.set()

    async def answer(self, answer: Input) -> AnswerStanding:
        return "accepted" if answer.request_id == "known" else "unknown_request"


async def completes(run: Run) -> AsyncGenerator[AgentEvent]:
    yield AgentEvent(EventType.STARTED, {})
    await run.gate.wait()
    yield AgentEvent(EventType.COMPLETED, {"result": "done"})


async def obeys(run: Run) -> AsyncGenerator[AgentEvent]:
    """Ends as cancelled when it is asked to."""
    yield AgentEvent(EventType.STARTED, {})
    await run.cancelled.wait()
    yield AgentEvent(EventType.CANCELLED, {"workspace": {"path": "/w"}})


async def ignores(run: Run) -> AsyncGenerator[AgentEvent]:
    """Never ends by itself."""
    yield AgentEvent(EventType.STARTED, {})
    await asyncio.Event().wait()


async def says_nothing(run: Run) -> AsyncGenerator[AgentEvent]:
    yield AgentEvent(EventType.STARTED, {})


async def crashes(run: Run) -> AsyncGenerator[AgentEvent]:
    yield AgentEvent(EventType.STARTED, {})
    raise ZeroDivisionError("secret detail")


async def fails(run: Run) -> AsyncGenerator[AgentEvent]:
    yield AgentEvent(EventType.STARTED, {})
    raise RunError(ErrorCode.CLONE_FAILED, "no such branch", hint="check the name")


class Handler:
    """Starts scripted runs; ``runs`` has them by subtask id."""

    def __init__(self, script: Script = completes) -> None:
        self.script = script
        self.runs: dict[str, Run] = {}
        self.started: asyncio.Queue[Run] = asyncio.Queue()
        self.winding_down = self.closed = False
        self.refusal: Refusal | None = None

    def check(self, request: ExecutionRequest) -> None:
        if self.refusal is not None:
            raise self.refusal

    def start(self, request: ExecutionRequest) -> Run:
        run = self.runs[str(request.subtask_id)] = Run(request, self.script)
        self.started.put_nowait(run)
        return run

    async def close_session(self, task_id: int | str) -> None: ...

    def wind_down(self) -> None:
        self.winding_down = True

    async def close(self) -> None:
        self.closed = True


class Reports:
    """What the supervisor tells, by run; after a verdict nothing counts, as in the product."""

    def __init__(self) -> None:
        self.events: dict[RunKey, list[AgentEvent]] = {}
        """Since this process began."""
        self.repeated: list[tuple[RunKey, int]] = []
        self.resumed: list[RunKey] = []
        self.reattached: list[RunKey] = []
        self.forgotten: list[RunKey] = []
        self.parked: list[RunKey] = []
        self.undelivered: set[RunKey] = set()
        self._reopened_at: dict[RunKey, int] = {}
        self._verdicts: asyncio.Queue[tuple[RunKey, AgentEvent]] = asyncio.Queue()
        self._told = asyncio.Event()

    def open(self, request: ExecutionRequest) -> None:
        self.events[request.run.key] = []

    def reopen(self, record: RunRecord) -> None:
        self._reopened_at[record.run.key] = record.last_seq

    def resume(self, request: ExecutionRequest) -> None:
        self.resumed.append(request.run.key)

    def reattach(self, request: ExecutionRequest) -> None:
        self.reattached.append(request.run.key)

    def park(self, key: RunKey) -> None:
        self.parked.append(key)

    def report(self, run: RunRef, event: AgentEvent) -> int:
        self.events.setdefault(run.key, []).append(event)
        if event.terminal:
            self._verdicts.put_nowait((run.key, event))
        self._told.set()
        return self.last_seq(run.key)

    def last_seq(self, key: RunKey) -> int:
        return self._reopened_at.get(key, 0) + len(self.events.get(key, ()))

    def repeat_verdict(self, run: RunRef, seq: int) -> None:
        self.repeated.append((run.key, seq))

    def delivered(self, key: RunKey) -> bool:
        return key not in self.undelivered

    def forget(self, key: RunKey) -> None:
        self.forgotten.append(key)

    async def next_verdict(self, within_s: float = 5.0) -> tuple[RunKey, AgentEvent]:
        """The verdict of whichever run has ended next."""
        async with asyncio.timeout(within_s):
            return await self._verdicts.get()

    async def verdict(self, subtask_id: int | str = 10, attempt: int = 1) -> AgentEvent:
        """Wait for the run's terminal event."""
        key = (str(subtask_id), attempt)
        async with asyncio.timeout(30):
            while True:
                ends = [event for event in self.events.get(key, ()) if event.terminal]
                if ends:
                    return ends[0]
                self._told.clear()
                await self._told.wait()

    def verdicts(self) -> dict[str, list[str]]:
        return {
            key[0]: [event.action for event in events if event.terminal]
            for key, events in self.events.items()
        }


class Records:
    """What the supervisor has written down; the test decides when it is on the disk."""

    def __init__(self) -> None:
        self.accepted: dict[RunKey, asyncio.Future[None]] = {}
        self.forgotten: list[RunKey] = []
        self.times: dict[RunKey, tuple[float, float | None]] = {}
        """What was written last of each run's time: used, and in all."""

    def accept(self, run: RunRef) -> asyncio.Future[None]:
        self.accepted[run.key] = asyncio.get_running_loop().create_future()
        return self.accepted[run.key]

    def save_time(self, key: RunKey, used_s: float, limit_s: float | None) -> None:
        self.times[key] = (used_s, limit_s)

    def forget_run(self, key: RunKey) -> None:
        self.forgotten.append(key)


async def idle(supervisor: Supervisor, *, but: int = 0) -> None:
    """Wait until at most *but* runs are carried out; a run's task ends after its verdict."""
    async with asyncio.timeout(30):
        while len(supervisor.running_task_ids()) > but:  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0)
