"""ScriptedAgent: an agent without a process whose sessions do what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from executor.agents.factory import AgentFactory
from executor.agents.protocol import Agent, AgentJob, Ask, ToolDecision, TurnEnd
from executor.delivery.state import StateStore
from executor.tasks.agent_environment import ExecutorApi
from executor.tasks.agent_rules import AgentRules
from executor.tasks.in_process import InProcessRunHandler
from executor.tasks.questions import UserInput
from executor.tasks.warm_sessions import WarmSessions
from executor.tasks.workspace import Workspaces
from shared.protocol.answers import QuestionKind
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.execution import ExecutionRequest

T = TypeVar("T")


@dataclass(frozen=True)
class Asks:
    """A tool that asks its user; its result tells the decision."""

    kind: QuestionKind
    tool: str
    arguments: dict[str, Any] = field(default_factory=dict)


Step = AgentEvent | TurnEnd | asyncio.Event | BaseException | Asks
"""Something to yield, a gate to wait at, something to raise, or to ask."""


class ScriptedAgent:
    """Plays :attr:`script` for every turn; opening waits at :attr:`opening` and then may fail."""

    def __init__(self, script: Sequence[Step] = ()) -> None:
        self.script: Sequence[Step] = script or [TurnEnd("done")]
        self.failure: Exception | None = None
        self.loading = open_gate()
        self.opening = open_gate()
        self.may_give_up = open_gate()
        """How long it takes to undo an opening that is cancelled."""
        self.reached: asyncio.Queue[str] = asyncio.Queue()
        """Where it is: ``load``, ``open``, ``giving up``, ``turn``, or at a ``gate``."""
        self.sessions: list[ScriptedSession] = []
        self.jobs: list[AgentJob] = []
        self.past_costs_usd: dict[str, float] = {}
        """What conversations have cost, by their ids."""
        self.pid: Callable[[], int | None] = lambda: None
        """The process of its sessions, if a test gives them one."""

    async def load(self) -> None:
        self.reached.put_nowait("load")
        await self.loading.wait()

    async def past_cost_usd(self, job: AgentJob) -> float:
        return self.past_costs_usd.get(job.resume or "", 0.0)

    async def open(self, job: AgentJob) -> ScriptedSession:
        self.reached.put_nowait("open")
        self.jobs.append(job)
        try:
            await self.opening.wait()
        except asyncio.CancelledError:
            self.reached.put_nowait("giving up")
            await self.may_give_up.wait()
            raise
        if self.failure is not None:
            raise self.failure
        session = ScriptedSession(self, job, f"conversation-{len(self.sessions) + 1}")
        self.sessions.append(session)
        return session


class ScriptedSession:
    """One conversation; its id is told at its first turn, as Claude does it."""

    heard = 0
    silent_until = 0.0

    def __init__(self, agent: ScriptedAgent, job: AgentJob, new_id: str) -> None:
        self._agent = agent
        self._new_id = job.resume or new_id
        self._interrupted = asyncio.Event()
        self.session_id = job.resume
        self.cost_usd = agent.past_costs_usd.get(job.resume or "", 0.0)
        self.answered = 0
        self.alive = True

    async def turn(
        self, request: ExecutionRequest, ask: Ask
    ) -> AsyncGenerator[AgentEvent | TurnEnd]:
        self._interrupted.clear()
        self.answered = 0
        self.session_id = self._new_id
        yield AgentEvent(EventType.SESSION, {"sdk_session_id": self.session_id})
        self._agent.reached.put_nowait("turn")
        for step in self._agent.script:
            decision: ToolDecision | None = None
            if isinstance(step, asyncio.Event):
                self._agent.reached.put_nowait("gate")
                await self._unless_interrupted(step.wait())
            elif isinstance(step, Asks):
                # As with Claude's SDK: in a task of its own, which an interrupt cancels.
                answer = ask(step.kind, step.tool, step.arguments, None)
                decision = await self._unless_interrupted(answer)
            if self._interrupted.is_set():
                yield TurnEnd(error="interrupted")
                return
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, Asks):
                yield _decided(step, decision)
            elif not isinstance(step, asyncio.Event):
                self.answered += not isinstance(step, TurnEnd)
                yield step

    @property
    def pid(self) -> int | None:
        return self._agent.pid()

    def tools_cpu_s(self) -> float:
        return 0.0

    async def interrupt(self) -> None:
        self._interrupted.set()

    async def close(self) -> None:
        self.alive = False

    async def _unless_interrupted(self, step: Coroutine[Any, Any, T]) -> T | None:
        task, interrupted = asyncio.create_task(step), asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait({task, interrupted}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            interrupted.cancel()


def _decided(asked: Asks, decision: ToolDecision | None) -> AgentEvent:
    """The result of a tool that has asked; without a decision it is the policy's."""
    result = "policy"
    if decision is not None:
        result = str(decision.updated_input or "go on") if decision.allowed else decision.message
    data = {"tool_id": "asked", "tool_name": asked.tool, "result": result, "is_error": False}
    return AgentEvent(EventType.TOOL_RESULT, data)


def open_gate() -> asyncio.Event:
    """A gate that nobody waits at."""
    gate = asyncio.Event()
    gate.set()
    return gate


@asynccontextmanager
async def in_process(
    agent: Agent,
    home: Path,
    *,
    name: str = "claude_code",
    environ: Mapping[str, str] | None = None,
    user_input: UserInput | None = None,
    stall_timeout_s: float = 60,
    **rules: Any,
) -> AsyncIterator[InProcessRunHandler]:
    """A run handler with *agent* and everything else real, in *home*; asks nobody by itself.

    *rules* are of :class:`AgentRules`.
    """
    state = await StateStore.open(home / "state.db")
    private = home / "private"
    handler = InProcessRunHandler(
        agents=AgentFactory({name: agent}),
        workspaces=Workspaces(
            home / "workspace",
            private_dir=private,
            clone_timeout_s=60,
            allow_local_repositories=False,
            environ=environ or {},
            backend_url=None,
        ),
        rules=AgentRules(
            home=home,
            environ=environ or {},
            api=ExecutorApi(api_key="k"),
            permission_mode=None,
            **rules,
        ),
        state=state,
        warm=WarmSessions(limit=2, idle_s=3600),
        private_dir=private,
        user_input=user_input or UserInput(timeout_s=0, run_timeout_s=60),
        stall_timeout_s=stall_timeout_s,
    )
    try:
        yield handler
    finally:
        await handler.close()
        await state.close()
