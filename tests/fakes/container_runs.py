"""Runs in containers of a real engine, from the executor's real image."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from executor.agents.factory import AgentFactory
from executor.delivery.run_rows import RunRecord
from executor.delivery.state import StateStore
from executor.executor_id import load_executor_id
from executor.tasks.agent_environment import ExecutorApi
from executor.tasks.agent_rules import AgentRules
from executor.tasks.containers.handler import ContainerRunHandler, Images
from executor.tasks.questions import UserInput
from executor.tasks.run_handler import Run
from scripts.scripted_model import ScriptedModel
from scripts.scripted_scenario import Scenario
from shared.containers.pool import ContainerPool
from shared.containers.spec import Limits, owner_labels
from shared.protocol.events import RunKey
from tests.fakes.agent import ScriptedAgent
from tests.fakes.containers import House, until
from tests.fakes.docker_engine import DockerEngine

LIMITS = Limits(memory=2**30, cpus=2.0, pids=512, tmp_size=256 * 2**20)

KEY = "sk-key-of-the-executor-0815"


class Containers:
    """What executors in local mode need for containers on an engine."""

    def __init__(self, engine: DockerEngine, image: str) -> None:
        self.engine = engine
        self.variables = {
            "DOCKER_HOST": engine.host,
            "EXECUTOR_IMAGE": image,
            "LOCAL_ISOLATION": "container",
            "CONTAINER_MEMORY": "1g",
        }

    @asynccontextmanager
    async def model(self, *scenarios: Scenario) -> AsyncIterator[ScriptedModel]:
        """The API that agents in the containers ask."""
        async with ScriptedModel(scenarios, host=self.engine.gateway) as model:
            yield model

    async def of(self, home: Path) -> list[str]:
        """The ids of the containers that belong to the executor in *home*."""
        owner = await asyncio.to_thread(load_executor_id, home)
        labels = [f"--filter=label={name}={value}" for name, value in owner_labels(owner).items()]
        said = await asyncio.to_thread(self.engine.docker, "ps", "--all", "--quiet", *labels)
        return said.split()

    async def gone_of(self, home: Path) -> None:
        """Wait until there are none."""

        async def none() -> bool:
            return not await self.of(home)

        await until(none)


class Site:
    """The home of a local executor whose runs are in containers; its processes come and go."""

    def __init__(self, engine: DockerEngine, image: str, folder: Path) -> None:
        self.folder = folder
        self.engine = engine
        self.house = House(engine, image, folder)
        self.house.settings = replace(
            self.house.settings, limits=LIMITS, state_limit_s=60, health_limit_s=120
        )
        self.api = ExecutorApi(api_key=KEY)
        self.user_input = UserInput(timeout_s=0, run_timeout_s=120)

    async def nothing_is_left(self) -> bool:
        """Whether there is no container of this home."""
        return not await self.house.containers()

    @asynccontextmanager
    async def model(self, *scenarios: Scenario) -> AsyncIterator[ScriptedModel]:
        """The API that agents in the containers ask; the executor has its key."""
        async with ScriptedModel(scenarios, host=self.engine.gateway) as model:
            self.api = ExecutorApi(api_key=KEY, base_url=model.url)
            yield model

    @asynccontextmanager
    async def process(
        self, records: tuple[RunRecord, ...] = (), **options: Any
    ) -> AsyncIterator[Process]:
        """One life of the executor, as far as its containers are concerned."""
        home = self.folder / "home"
        state = await StateStore.open(home / "state.db")
        try:
            async with (
                self.house.client() as engine,
                ContainerPool(engine, self.house.settings) as pool,
            ):
                handler = ContainerRunHandler(
                    pool=pool,
                    agents=AgentFactory({"claude_code": ScriptedAgent()}),
                    images=Images(self.house.settings.image),
                    rules=AgentRules(home=home, environ={}, api=self.api, permission_mode=None),
                    state=state,
                    workspace_root=self.house.workspaces,
                    user_input=self.user_input,
                    stall_timeout_s=60,
                    backend_url=None,
                    **options,
                )
                found = await pool.reconcile({str(one.run.subtask_id) for one in records})
                living = await handler.take_up(records, found.adopted)
                try:
                    yield Process(handler, pool, living, state)
                finally:
                    await handler.close()
        finally:
            await state.close()


class Process:
    """What one life of the executor has."""

    def __init__(
        self,
        handler: ContainerRunHandler,
        pool: ContainerPool,
        living: Mapping[RunKey, Run],
        state: StateStore,
    ) -> None:
        self.handler = handler
        self.pool = pool
        self.living = living
        self.state = state
