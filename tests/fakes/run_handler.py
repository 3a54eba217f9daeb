"""ScriptedRunHandler: a RunHandler whose runs do what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Literal

from executor.tasks.merging import merged
from executor.tasks.questions import AnswerStanding, Questions, UserInput
from executor.tasks.run_handler import Run, WaitsFor
from shared.errors import Refusal
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.execution import ExecutionRequest
from shared.protocol.local import Input
from shared.status import ErrorCode

Step = AgentEvent | asyncio.Event | BaseException | Literal["ask"]
"""An event to tell, a gate to wait at, something to raise, or to ask for a permission."""


def completed(result: str = "done") -> AgentEvent:
    """The verdict of a run that went well."""
    return AgentEvent(EventType.COMPLETED, {"result": result, "statistics": {}, "workspace": {}})


def tool_call(number: int, **data: Any) -> AgentEvent:
    """Any event that becomes a message of its own."""
    return AgentEvent(
        EventType.TOOL_CALL, {"tool_id": str(number), "tool_name": "Bash", "arguments": {}} | data
    )


def text(message_id: str, *pieces: str) -> list[AgentEvent]:
    """One streamed message, from start to end."""
    events = [AgentEvent(EventType.LLM_START, {"message_id": message_id, "model": "scripted"})]
    offset = 0
    for piece in pieces:
        data = {"message_id": message_id, "content": piece, "offset": offset}
        events.append(AgentEvent(EventType.LLM_STREAM, data))
        offset += len(piece)
    whole = {"message_id": message_id, "content": "".join(pieces), "usage": {}}
    return [*events, AgentEvent(EventType.LLM_DONE, whole)]


class ScriptedRunHandler:
    """Plays :attr:`script` for every run, or one of :attr:`scripts` by its subtask."""

    def __init__(self, script: Sequence[Step] | None = None) -> None:
        """*script* is what a run does; ``None``: it starts and completes at once."""
        self.script: Sequence[Step] = (
            [AgentEvent(EventType.STARTED, {"task": "scripted"}), completed()]
            if script is None
            else script
        )
        self.scripts: dict[str, Sequence[Step]] = {}
        self.requests: list[ExecutionRequest] = []
        """Every run begun, in order."""
        self.started: asyncio.Queue[str] = asyncio.Queue()
        """Subtask ids, as runs begin to be carried out."""
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        """Subtask ids, as runs have told everything or were ended."""
        self.paused: asyncio.Queue[str] = asyncio.Queue()
        self.resumed: asyncio.Queue[str] = asyncio.Queue()
        """Subtask ids, as runs were asked to stand still and to go on."""
        self.answers: list[Input] = []
        self.questions = {"q"}
        """Request ids that somebody waits for."""
        self.user_input = UserInput(timeout_s=600, run_timeout_s=600)
        """How a step that asks does so."""
        self.closed_sessions: list[int | str] = []
        self.winding_down = self.closed = False

    def check(self, request: ExecutionRequest) -> None:
        """Refuse every agent but ``claude_code``."""
        if request.requested_agent != "claude_code":
            raise Refusal(ErrorCode.UNSUPPORTED_AGENT, "known agents: claude_code")

    def start(self, request: ExecutionRequest) -> Run:
        """A run that plays its script."""
        self.requests.append(request)
        return _ScriptedRun(self, request, self.scripts.get(str(request.subtask_id), self.script))

    async def close_session(self, task_id: int | str) -> None:
        """Remember that it was asked."""
        self.closed_sessions.append(task_id)

    def wind_down(self) -> None:
        """Remember that it was asked."""
        self.winding_down = True

    async def close(self) -> None:
        """Remember that it was asked."""
        self.closed = True


class _ScriptedRun:
    def __init__(
        self, handler: ScriptedRunHandler, request: ExecutionRequest, script: Sequence[Step]
    ) -> None:
        self._handler = handler
        self._request = request
        self._script = script
        self._cancelled = asyncio.Event()
        self._reason: str | None = None
        self._asked: asyncio.Queue[AgentEvent] = asyncio.Queue()
        self._questions = Questions(handler.user_input, self._asked.put_nowait)

    async def events(self) -> AsyncGenerator[AgentEvent]:
        self._handler.started.put_nowait(str(self._request.subtask_id))
        try:
            async for event in self._play():
                yield event
        finally:
            self._questions.close()
            self._handler.ended.put_nowait(str(self._request.subtask_id))

    async def _play(self) -> AsyncGenerator[AgentEvent]:
        for step in self._script:
            if isinstance(step, asyncio.Event):
                await self._pass(step)
            elif step == "ask":
                async with aclosing(merged(self._ask(), self._asked)) as events:
                    async for event in events:
                        yield event
            if self._cancelled.is_set():
                reason = {"reason": self._reason} if self._reason else {}
                yield AgentEvent(EventType.CANCELLED, reason)
                return
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, AgentEvent):
                yield step
                if step.terminal:
                    return

    @property
    def waits_for(self) -> WaitsFor | None:
        return "user" if self._questions.waiting else None

    goes_on_alone = False

    def let_go(self) -> None: ...

    def conclude(self, verdict: AgentEvent | None) -> None: ...

    async def cancel(self, reason: str | None) -> None:
        self._reason = reason
        self._cancelled.set()
        self._questions.close()

    async def account(self) -> dict[str, Any]:
        return {"workspace": None, "statistics": {}}

    async def pause(self) -> None:
        self._handler.paused.put_nowait(str(self._request.subtask_id))

    async def resume(self) -> None:
        self._handler.resumed.put_nowait(str(self._request.subtask_id))

    async def answer(self, answer: Input) -> AnswerStanding:
        if answer.request_id not in self._handler.questions:
            return self._questions.answer(answer)
        self._handler.answers.append(answer)
        return "accepted"

    async def _ask(self) -> AsyncGenerator[AgentEvent]:
        decision = await self._questions.ask("permission", "Bash", {"command": "ls"})
        result = "policy" if decision is None else decision.message or "go on"
        data = {"tool_id": "asked", "tool_name": "Bash", "result": result, "is_error": False}
        yield AgentEvent(EventType.TOOL_RESULT, data)

    async def _pass(self, gate: asyncio.Event) -> None:
        """Wait until *gate* opens or the run is cancelled."""
        waiters = [
            asyncio.ensure_future(gate.wait()),
            asyncio.ensure_future(self._cancelled.wait()),
        ]
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()
