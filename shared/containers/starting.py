"""Starting one container: image, directory, token, and waiting until it answers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from pydantic import SecretStr

from shared.containers.background import Background
from shared.containers.death import Death, examine
from shared.containers.directories import make_directory
from shared.containers.errors import ContainerDied, EngineUnavailable, NameTaken
from shared.containers.images import Images, OnPull
from shared.containers.members import Endpoint
from shared.containers.readiness import Ended, wait_until_ready
from shared.containers.removal import Remover
from shared.containers.settings import PoolSettings
from shared.containers.spec import GIVEN, TOKEN_FILE, ContainerSpec, owner_labels
from shared.logging import get_logger
from shared.shielding import in_thread

if TYPE_CHECKING:
    from shared.containers.engine import Engine

logger = get_logger("containers")


AT_ONCE_PER_CPU: Final = 2
LEAST_AT_ONCE: Final = 8
"""So that a few which never become ready hold nobody up. An executor takes some two processor
seconds to start: twenty at once on two processors would all be near the limit of their time."""


class Starter:
    """Starts containers, any number at a time; one that fails leaves nothing behind."""

    def __init__(
        self,
        engine: Engine,
        http: aiohttp.ClientSession,
        settings: PoolSettings,
        remover: Remover,
        background: Background,
    ) -> None:
        self._engine = engine
        self._http = http
        self._settings = settings
        self._images = Images(engine)
        self._remover = remover
        self._background = background
        self._turns: asyncio.Semaphore | None = None  # known, as are the processors, with the
        self._cpus = 0  # first answer of the engine
        self._discarding: dict[str, asyncio.Task[None]] = {}  # by the container's name

    async def start(self, spec: ContainerSpec, on_pull: OnPull | None = None) -> Endpoint:
        """Make a container, and return once the executor inside answers.

        Many at a time wait for each other: the first are ready earlier then, and none later.

        Raises:
            ContainerError: With a log that was saved if there was one.
        """
        await self._images.ensure(spec.image, on_pull)
        if self._turns is None:
            cpus = await self._engine.cpus()
            if self._turns is None:  # still
                self._turns = asyncio.Semaphore(max(LEAST_AT_ONCE, AT_ONCE_PER_CPU * cpus))
                self._cpus = cpus
        async with self._turns:
            return await self._start(spec)

    async def _start(self, spec: ContainerSpec) -> Endpoint:
        await self.wait_discarded(spec.name)
        await in_thread(make_directory, spec.directory, spec.user)
        container_id = await self._create(spec)
        try:
            token = secrets.token_urlsafe(32)
            files = {**self._settings.files, TOKEN_FILE.name: token.encode()}
            await self._engine.put_files(container_id, GIVEN, files, spec.user)
            await self._engine.start(container_id)
            url = await wait_until_ready(
                self._engine,
                self._http,
                container_id,
                spec.network,
                state_limit_s=self._settings.state_limit_s,
                health_limit_s=self._settings.health_limit_s,
            )
        except Ended:
            raise ContainerDied(await self._died(container_id, spec)) from None
        except BaseException:
            self._discard(container_id, spec)
            raise
        logger.info("the container %s is ready", spec.name)
        return Endpoint(url, container_id, SecretStr(token))

    async def wait_discarded(self, name: str) -> None:
        """Wait until what a failed start has made under this name is gone."""
        while (discarding := self._discarding.get(name)) is not None:
            await asyncio.wait({discarding})

    async def remove_leftover(self, name: str, owner: str) -> None:
        """Remove the container that is called *name*, if it is one of this owner's.

        Raises:
            NameTaken: It is somebody else's.
        """
        found = await self._engine.inspect(name)
        if found is None:
            return
        if not owner_labels(owner).items() <= found.labels.items():
            raise NameTaken(
                f"somebody else's container is called {name}",
                hint="it was left alone; remove or rename it",
            )
        logger.info("removing a container that was left over: %s", name)
        await self._engine.remove(found.container_id)

    async def _create(self, spec: ContainerSpec) -> str:
        """Its id; cancelled, it removes what the engine may have made meanwhile."""
        creating = asyncio.create_task(self._create_in_time(spec))
        try:
            return await asyncio.shield(creating)
        except asyncio.CancelledError:
            self._spawn(spec.name, self._discard_created(creating, spec))
            raise

    async def _create_in_time(self, spec: ContainerSpec) -> str:
        config = spec.config(self._cpus)
        try:
            return await self._engine.create(spec.name, config)
        except NameTaken:
            await self.remove_leftover(spec.name, spec.owner)
            return await self._engine.create(spec.name, config)
        except EngineUnavailable:
            self._remover.sweep_later()  # the engine may be making it nevertheless
            raise

    async def _discard_created(self, creating: asyncio.Task[str], spec: ContainerSpec) -> None:
        await asyncio.wait({creating})
        if not creating.cancelled() and creating.exception() is None:
            await self._remover.remove(creating.result(), self._saved(creating.result(), spec))

    async def _died(self, container_id: str, spec: ContainerSpec) -> Death:
        saved = self._saved(container_id, spec)
        try:
            death = await examine(self._engine, container_id, saved)
        finally:
            self._discard(container_id, spec)
        return death or Death()

    def _discard(self, container_id: str, spec: ContainerSpec) -> None:
        saved = self._saved(container_id, spec)
        self._spawn(spec.name, self._remover.remove(container_id, saved))

    def _spawn(self, name: str, discarding: Coroutine[Any, Any, None]) -> None:
        task = self._background.spawn(discarding)
        self._discarding[name] = task
        task.add_done_callback(lambda done: self._discarded(name, done))

    def _discarded(self, name: str, task: asyncio.Task[None]) -> None:
        if self._discarding.get(name) is task:
            del self._discarding[name]

    def _saved(self, container_id: str, spec: ContainerSpec) -> Path:
        return self._remover.log_file(spec.name, container_id)
