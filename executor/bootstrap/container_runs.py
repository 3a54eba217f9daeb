"""What carries out runs in containers, by an engine.

Importing this takes some 30 ms, and brings the engine's client: not on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from executor.bootstrap.containers import Handlers
from executor.bootstrap.home import Home
from executor.bootstrap.runs import Means
from executor.config.local import LocalSettings
from executor.config.types import image_names
from executor.delivery.run_rows import RunRecord
from executor.network.handed_on import pack
from executor.signals import StopSignals
from executor.tasks.containers.handler import ContainerRunHandler, Images
from executor.tasks.in_process import InProcessRunHandler
from executor.tasks.isolation import Availability
from executor.tasks.placing import PlacingRunHandler
from executor.tasks.run_handler import Run
from shared.containers.engine import Engine
from shared.containers.errors import ContainerError, EngineUnavailable
from shared.containers.pool import ContainerPool, PoolSettings
from shared.containers.spec import HOST_NAME, NETWORK_FILE, Limits
from shared.errors import ConfigError
from shared.logging import get_logger
from shared.protocol.events import RunKey, RunRef
from shared.shielding import in_thread
from shared.shielding import stop as end

logger = get_logger("containers")

ENGINE_WITHIN_S: Final = 5.0
"""How long an engine may take to answer whose containers nobody needs."""

PATIENCE_S: Final = 20.0
"""How long a start waits for an engine that tasks need: both may be starting with the machine."""

AGAIN_AFTER_S: Final = 10.0
"""Between two looks whether it is there after all."""


@asynccontextmanager
async def container_handlers(
    in_process: InProcessRunHandler,
    settings: LocalSettings,
    means: Means,
    home: Home,
    records: Sequence[RunRecord],
    stop: StopSignals,
    *,
    unfinished: Callable[[], Iterable[RunRef]],
    follow: Callable[[Mapping[RunKey, Run]], None],
) -> AsyncIterator[Handlers]:
    """As :func:`executor.bootstrap.containers.with_containers`, which asks this if it is needed."""
    availability = means.isolation.containers
    async with AsyncExitStack() as stack:
        network = await _network(settings, means)
        engine = await _engine(stack, settings, means, stop) if network is not None else None
        if engine is None or network is None:
            yield Handlers(in_process, {})
            return
        root = await in_thread(settings.workspace_root.resolve)
        pool = await stack.enter_async_context(
            ContainerPool(engine, _pool_settings(settings, home.executor_id, root, network))
        )
        handler = ContainerRunHandler(
            pool=pool,
            agents=in_process.agents,
            images=Images(settings.executor_image, image_names(settings.allowed_images)),
            rules=in_process.rules,
            state=home.state,
            workspace_root=root,
            user_input=in_process.user_input,
            stall_timeout_s=settings.stall_timeout_s,
            backend_url=settings.backend_url,
        )
        adoption = Adoption(pool, handler, availability)
        living = await adoption.now([record for record in records if record.state != "finished"])
        if availability.problem is not None:
            waiting = adoption.later(records, unfinished, follow)
            later = asyncio.create_task(waiting, name="wait for containers")
            stack.push_async_callback(end, later)
        yield Handlers(PlacingRunHandler(means.isolation, in_process, handler), living)


class Adoption:
    """Takes the containers of an earlier process up again, as soon as the engine is there."""

    def __init__(
        self,
        pool: ContainerPool,
        handler: ContainerRunHandler,
        availability: Availability,
    ) -> None:
        self._pool = pool
        self._handler = handler
        self._availability = availability

    async def now(self, unfinished: Sequence[RunRecord]) -> dict[RunKey, Run]:
        """The runs that have gone on; without an engine none, and the availability says why."""
        try:
            found = await self._pool.reconcile({record.run.key[0] for record in unfinished})
        except ContainerError as exc:
            self._availability.problem = str(exc)
            return await self._handler.take_up(unfinished, {})
        self._availability.problem = None
        for run_id, death in found.dead.items():
            logger.warning("while no executor ran: %s", death.sentence, subtask_id=run_id)
        if found.removed:
            logger.info("removed %d containers that nobody needs any more", found.removed)
        return await self._handler.take_up(unfinished, found.adopted)

    async def later(
        self,
        records: Sequence[RunRecord],
        unfinished: Callable[[], Iterable[RunRef]],
        follow: Callable[[Mapping[RunKey, Run]], None],
        *,
        again_after_s: float = AGAIN_AFTER_S,
    ) -> None:
        """Look again and again until there is an engine; see :func:`container_handlers`."""
        while True:
            await asyncio.sleep(again_after_s)
            wanted = {run.key for run in unfinished()}
            left = [record for record in records if record.run.key in wanted]
            try:
                found = await self._pool.reconcile({record.run.key[0] for record in left})
            except ContainerError as exc:
                self._availability.problem = str(exc)
                continue
            living = await self._handler.take_up(left, found.adopted)
            follow(living)
            for key in living.keys() - {run.key for run in unfinished()}:  # ended just now
                await self._handler.leave(key, found.adopted[key[0]])
            self._availability.problem = None
            logger.info("there are containers by now; tasks are taken")
            return


async def _network(settings: LocalSettings, means: Means) -> Mapping[str, bytes] | None:
    """What containers are given of this machine's network; ``None``: it cannot be used."""
    needed = settings.isolation == "container"
    try:
        packed = await in_thread(pack, means.environ, file=NETWORK_FILE, this_machine=HOST_NAME)
    except ConfigError as exc:
        means.isolation.containers.problem = str(exc)
        (logger.error if needed else logger.debug)("there are no containers: %s", exc)
        return None
    if packed.on_loopback:
        (logger.warning if needed else logger.debug)(
            "the proxy of %s is on this machine's loopback, which containers cannot reach: they "
            "ask %s at the same port, where it has to listen, too",
            " and ".join(packed.on_loopback),
            HOST_NAME,
        )
    return packed.files


async def _engine(
    stack: AsyncExitStack, settings: LocalSettings, means: Means, stop: StopSignals
) -> Engine | None:
    """The engine, open until the end of *stack*; ``None``: there is none, nor will there be."""
    needed = settings.isolation == "container"
    availability = means.isolation.containers
    try:
        engine = await stack.enter_async_context(Engine(means.environ))
    except ConfigError as exc:
        availability.problem = str(exc)
        (logger.error if needed else logger.debug)("there are no containers: %s", exc)
        return None
    try:
        async with asyncio.timeout(None if needed else ENGINE_WITHIN_S):
            await _look(engine, settings, stop, wait_s=PATIENCE_S if needed else 0.0)
    except (ContainerError, TimeoutError) as exc:
        availability.problem = str(exc) or "the engine does not answer"
        if not needed:
            return None
        problem = "tasks are refused until there are containers"
        logger.error("%s: %s", problem, availability.problem)  # noqa: TRY400 - no bug of ours
    else:
        availability.problem = None
    return engine


async def _look(
    engine: Engine, settings: LocalSettings, stop: StopSignals, *, wait_s: float
) -> None:
    """Whether runs can have containers.

    Raises:
        ContainerError: They cannot.
    """
    give_up_at = asyncio.get_running_loop().time() + wait_s
    while True:
        try:
            version = await engine.ping()
            break
        except EngineUnavailable as exc:
            if asyncio.get_running_loop().time() >= give_up_at or stop.first.is_set():
                raise
            logger.warning("waiting for the engine of the containers: %s", exc)
        await asyncio.sleep(1)
    if not await engine.has_image(settings.executor_image):
        if not wait_s:
            raise ContainerError(f"the image {settings.executor_image} is not there")
        logger.warning(
            "the image %s is not there: the first task waits until it is fetched",
            settings.executor_image,
        )
    logger.info("containers: Docker %s, image %s", version, settings.executor_image)


def _pool_settings(
    settings: LocalSettings, owner: str, workspace_root: Path, network: Mapping[str, bytes]
) -> PoolSettings:
    return PoolSettings(
        owner=owner,
        image=settings.executor_image,
        state_dir=settings.home / "containers",
        logs_dir=settings.log_dir / "containers",
        warm_dir=workspace_root / ".warm",
        max_containers=settings.max_containers,
        warm_containers=settings.warm_containers,
        limits=Limits(
            memory=settings.container_memory,
            cpus=settings.container_cpus,
            pids=settings.container_pids,
        ),
        network=settings.sandbox_network,
        files=network,
    )
