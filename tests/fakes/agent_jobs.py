"""AgentJobs for tests, without the rest of the executor around them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from executor.agents.claude_code.agent import ClaudeCodeAgent
from executor.agents.protocol import AgentJob, AgentSession, Ask, TurnEnd
from executor.tasks.agent_environment import ExecutorApi, agent_environment
from executor.tasks.isolation import Walls
from executor.tasks.permissions import limits_for, policy_for
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.execution import ExecutionRequest
from tests.fakes.claude import claude_agent


def make_request(prompt: Any = "HELLO", **fields: Any) -> ExecutionRequest:
    return ExecutionRequest.model_validate(
        {"task_id": 1, "subtask_id": 1, "prompt": prompt, **fields}
    )


@dataclass
class JobMaker:
    """Makes jobs as the run handler does; *root* holds the home and the session's folder."""

    root: Path
    api_url: str
    api_key: str = "sk-test-key"
    mode: str | None = None
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    hosts: tuple[str, ...] | None = None
    """What a sandboxed job may reach; ``None``: no sandbox."""
    trust_repository: bool = False

    @property
    def session_dir(self) -> Path:
        return self.root / "home" / "workspace" / "1"

    @property
    def cwd(self) -> Path:
        path = self.session_dir / "repo"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def job(
        self, *, resume: str | None = None, env: dict[str, str] | None = None, **fields: Any
    ) -> AgentJob:
        request = make_request(**fields)
        home = self.root / "home"
        environment = agent_environment(
            request,
            environ=self.environ,
            executor=ExecutorApi(api_key=self.api_key, base_url=self.api_url),
            home=home,
        )
        sandbox = None
        if self.hosts is not None:
            walls = Walls(home, (home / "workspace",), self.environ)
            sandbox = walls.around(self.session_dir, self.hosts)
        return AgentJob(
            request=request,
            cwd=self.cwd,
            session_dir=self.session_dir,
            private_dir=home / "private",
            config_dir=environment.config_dir,
            env={**environment.env, **(env or {})},
            model=environment.model,
            permission_mode=self.mode,
            policy=policy_for(
                limits_for(
                    request,
                    cwd=self.cwd,
                    session_dir=self.session_dir,
                    mode=self.mode,
                    claude_dir=environment.config_dir,
                    hosts=self.hosts,
                )
            ),
            sandbox=sandbox,
            trust_repository=self.trust_repository,
            resume=resume,
        )


@asynccontextmanager
async def opened(
    job: AgentJob, agent: ClaudeCodeAgent | None = None
) -> AsyncIterator[AgentSession]:
    """A session that is closed at the end."""
    session = await (agent or claude_agent()).open(job)
    try:
        yield session
    finally:
        await session.close()


async def nobody(*_: object) -> None:
    """An :class:`Ask` of a run that has no user."""


@dataclass
class Turn:
    """Everything that one turn yielded."""

    events: list[AgentEvent]
    end: TurnEnd

    def of(self, kind: EventType) -> list[AgentEvent]:
        return [event for event in self.events if event.type == kind]

    def data(self, kind: EventType) -> list[dict[str, Any]]:
        return [dict(event.data) for event in self.of(kind)]

    @property
    def results(self) -> list[tuple[str, bool]]:
        """``(result, is_error)`` of every tool use."""
        return [(data["result"], data["is_error"]) for data in self.data(EventType.TOOL_RESULT)]


async def take_turn(
    session: AgentSession,
    prompt: Any = "HELLO",
    *,
    spoken: asyncio.Event | None = None,
    follow: Callable[[AgentEvent], None] = lambda _: None,
    ask: Ask = nobody,
    **fields: Any,
) -> Turn:
    """One whole turn; fails when it does not end with exactly one TurnEnd.

    *spoken* is set at its first text; *follow* sees every event as it comes.
    """
    events: list[AgentEvent] = []
    ends: list[TurnEnd] = []
    async for item in session.turn(make_request(prompt, **fields), ask):
        assert not ends
        if isinstance(item, TurnEnd):
            ends.append(item)
            continue
        events.append(item)
        follow(item)
        if spoken is not None and item.type == EventType.LLM_STREAM:
            spoken.set()
    (end,) = ends
    return Turn(events, end)
