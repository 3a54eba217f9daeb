"""Sessions of agno for tests, against scripted APIs of models."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from executor.agents.agno.agent import AgnoAgent
from executor.agents.agno.model_api import OwnApis
from executor.agents.protocol import AgentJob, AgentSession
from scripts.scripted_model import ScriptedModel
from scripts.scripted_scenario import Scenario
from shared.protocol.events import EventType
from tests.fakes import mcp_server
from tests.fakes.agent_jobs import JobMaker, Turn
from tests.fakes.model import KEY, scenario, text_step, tool_step


@dataclass
class Agno:
    """An agent, and what its jobs are made of."""

    root: Path
    model: ScriptedModel
    own: OwnApis = field(default_factory=dict)
    mode: str | None = None
    """The permission mode."""
    hosts: tuple[str, ...] | None = None
    """What a sandboxed job may reach; ``None``: no sandbox."""

    @property
    def conversations(self) -> Path:
        return self.root / "conversations"

    def agent(self) -> AgnoAgent:
        """A new one, as a new process would have it."""
        return AgnoAgent(self.conversations, self.own)

    def bot(self, name: str, **fields: Any) -> dict[str, Any]:
        """A member whose system prompt is its name in capitals."""
        env = {"base_url": self.model.url, "api_key": KEY, "model_id": "claude-x"}
        return {
            "id": f"id-{name}",
            "name": name,
            "system_prompt": name.upper(),
            "agent_config": {"env": env},
            **fields,
        }

    def job(self, *bots: Mapping[str, Any], resume: str | None = None, **fields: Any) -> AgentJob:
        maker = JobMaker(self.root, self.model.url, mode=self.mode, hosts=self.hosts)
        return maker.job(
            resume=resume, agent_type="agno", bot=list(bots or [self.bot("solo")]), **fields
        )

    @asynccontextmanager
    async def opened(
        self, *bots: Mapping[str, Any], resume: str | None = None, **fields: Any
    ) -> AsyncIterator[AgentSession]:
        """A session that is closed at the end."""
        job = await asyncio.to_thread(self.job, *bots, resume=resume, **fields)
        session = await self.agent().open(job)
        try:
            yield session
        finally:
            await session.close()


def says(name: str, *texts: str) -> Scenario:
    """What the member *name* says: a text after each of its tools."""
    return scenario(*map(text_step, texts), name=name, system=name.upper())


def delegates(leader: str, member: str, task: str, *, then: str, first: str = "") -> Scenario:
    """A leader that hands *task* to one member, and says *then* when that has answered."""
    call = {"member_id": member, "task": task}
    return scenario(
        tool_step("delegate_task_to_member", call, text=first or None),
        text_step(then),
        name=leader,
        system=leader.upper(),
    )


Playing = Callable[..., AbstractAsyncContextManager[Agno]]
"""Plays scenarios to agents."""


def playing_in(root: Path) -> Playing:
    """What a test file makes its fixture of."""

    @asynccontextmanager
    async def playing(*scenarios: Scenario) -> AsyncIterator[Agno]:
        async with asyncio.timeout(50), ScriptedModel(scenarios) as model:
            yield Agno(root, model)

    return playing


async def ask_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have APIs that fail asked again without a pause."""
    await AgnoAgent(Path(), {}).load()  # it imports agno as it must be imported
    monkeypatch.setattr("executor.agents.agno.models.FIRST_PAUSE_S", 0)


def fake_server(**fields: Any) -> dict[str, Any]:
    """A bot's ``mcp_servers`` with one that runs shell commands."""
    program = {"command": sys.executable, "args": [mcp_server.__file__]}
    return {"fake": {**program, **fields}}


def told(turn: Turn) -> list[tuple[str, str]]:
    """Who did what; neighbouring parts of one answer count once."""
    found: list[tuple[str, str]] = []
    for event in turn.events:
        entry = (event.source.agent_name if event.source else "", str(event.type))
        if not (event.type == EventType.LLM_STREAM and entry in found[-1:]):
            found.append(entry)
    return found


def texts(turn: Turn) -> dict[str, str]:
    """The complete messages, by who wrote them."""
    return {
        event.source.agent_name: event.data["content"]
        for event in turn.of(EventType.LLM_DONE)
        if event.source is not None
    }
