"""A pool whose containers are executors of docker mode in this process, with a scripted agent."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from executor.agents.factory import AgentFactory
from executor.agents.protocol import Agent
from executor.bootstrap.service import with_service
from executor.config.docker import DockerSettings
from executor.modes.docker.app import create_app
from executor.tasks.containers.handler import ContainerRunHandler, Images
from executor.tasks.questions import UserInput
from executor.tasks.supervisor import Supervisor
from shared.containers.death import Death
from shared.containers.errors import EngineUnavailable
from shared.containers.images import OnPull
from shared.containers.pool import Endpoint
from shared.redaction import Redactor
from shared.web.listening import bind, url_of
from shared.web.server import Server
from tests.fakes.agent import in_process


@dataclass(eq=False)
class Inner:
    """One executor of docker mode on loopback, as it would be in a container."""

    endpoint: Endpoint
    mode: str
    supervisor: Supervisor
    server: Server
    runs: set[str]
    alive: bool = True
    death: Death | None = None
    paused: bool = False
    ends: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def stop(self) -> None:
        """End it in order."""
        self.alive = False
        await self.ends.aclose()


@asynccontextmanager
async def serving(
    agent: Agent, home: Path, token: str, environ: Mapping[str, str]
) -> AsyncIterator[tuple[str, Supervisor, Server]]:
    """An executor of docker mode with everything real but its agent: where it is reached."""
    variables = {
        "WEGENT_EXECUTOR_HOME": str(home),
        "EXECUTOR_API_TOKEN": token,
        "LOCAL_QUEUE_LIMIT": "4",
        "TASK_TIMEOUT_SECONDS": "60",
    }
    settings = await asyncio.to_thread(lambda: DockerSettings(**variables))  # type: ignore[arg-type]  # as text, like an environment
    async with (
        in_process(agent, home, environ=environ) as handler,
        with_service(settings, handler, handler, Redactor()) as service,
    ):
        app = create_app(settings.token)
        app.state.services = service.routes
        listener = bind("127.0.0.1", 0)
        server = Server(app, service.routes.streams)
        serve = asyncio.create_task(server.serve([listener]), name="inner executor")
        await server.listening.wait()
        try:
            yield url_of(listener), service.supervisor, server
        finally:
            server.stop()
            await serve
            listener.close()


class LoopbackPool:
    """The pool of :class:`executor.tasks.containers.held.Pool`, without an engine."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.environ: dict[str, str] = {}
        self.inside: dict[str, Inner] = {}
        """By session."""
        self.made: list[Path] = []
        """The session directories of all containers that were made."""
        self.taking = asyncio.Event()
        """Containers are had when it is set."""
        self.taking.set()
        self.engine_is_away = False
        self.out_of_memory = False
        self.calls: list[str] = []

    async def get_or_create_container(
        self,
        session_id: str,
        user_id: str,
        container_mode: str = "ephemeral",
        container_id: str | None = None,
        *,
        image: str | None = None,
        session_dir: Path,
        run_id: str,
        on_pull: OnPull | None = None,
    ) -> Endpoint:
        await self.taking.wait()
        if self.engine_is_away:
            raise EngineUnavailable("no engine answers")
        inner = self.inside.get(session_id)
        if inner is None or not inner.alive:
            self.made.append(session_dir)
            home = session_dir / ".wegent"
            await asyncio.to_thread(home.mkdir, parents=True, exist_ok=True)
            inner = self.inside[session_id] = await self._start(session_dir, container_mode)
        inner.runs.add(run_id)
        return inner.endpoint

    async def release(self, container_id: str, *, run_id: str, keep: bool = True) -> None:
        for session, inner in list(self.inside.items()):
            if inner.endpoint.container_id != container_id:
                continue
            inner.runs.discard(run_id)
            if not inner.runs and not (keep and inner.mode == "persistent"):
                del self.inside[session]
                await inner.stop()

    async def wait_engine(self, within_s: float) -> None:
        if self.engine_is_away:
            raise EngineUnavailable("no engine answers")

    async def remove_session(self, session_id: str) -> None:
        if (inner := self.inside.pop(session_id, None)) is not None:
            await inner.stop()

    def ran_out_of_memory(self, container_id: str) -> bool:
        return self.out_of_memory

    async def death(self, container_id: str) -> Death | None:
        inner = self._of(container_id)
        return Death(removed=True) if inner is None else inner.death

    async def pause(self, container_id: str) -> None:
        self.calls.append("pause")

    async def unpause(self, container_id: str) -> None:
        self.calls.append("unpause")

    async def kill(self, session_id: str, death: Death) -> None:
        """End a container as *death* tells, without a word of the executor in it."""
        inner = self.inside[session_id]
        inner.death, inner.alive = death, False
        await inner.ends.aclose()

    async def close(self) -> None:
        """End what is left."""
        for inner in self.inside.values():
            await inner.stop()

    def _of(self, container_id: str) -> Inner | None:
        there = (one for one in self.inside.values() if one.endpoint.container_id == container_id)
        return next(there, None)

    async def _start(self, session_dir: Path, mode: str) -> Inner:
        token = secrets.token_hex(8)
        ends = AsyncExitStack()
        url, supervisor, server = await ends.enter_async_context(
            serving(self.agent, session_dir / ".wegent", token, self.environ)
        )
        endpoint = Endpoint(url, f"container-{len(self.made)}", SecretStr(token))
        return Inner(endpoint, mode, supervisor, server, set(), ends=ends)


@asynccontextmanager
async def in_containers(
    agent: Agent,
    home: Path,
    *,
    user_input: UserInput | None = None,
    wrap: Callable[[LoopbackPool], Any] = lambda pool: pool,
    agents: AgentFactory | None = None,
    **options: Any,
) -> AsyncIterator[tuple[ContainerRunHandler, LoopbackPool]]:
    """A run handler whose containers are :class:`LoopbackPool`'s, everything else real."""
    pool = LoopbackPool(agent)
    async with in_process(agent, home) as outside:
        handler = ContainerRunHandler(
            pool=wrap(pool),
            agents=agents or outside.agents,
            images=Images("wegent-executor:latest", frozenset({"other:1"})),
            rules=outside.rules,
            state=outside.state,
            workspace_root=home / "workspace",
            user_input=user_input or UserInput(timeout_s=0, run_timeout_s=60),
            stall_timeout_s=60,
            backend_url=None,
            **options,
        )
        try:
            yield handler, pool
        finally:
            await handler.close()
            await pool.close()
