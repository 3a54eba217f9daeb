"""The composition root of docker mode."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass

from executor.bootstrap.home import Home, opened_home
from executor.bootstrap.hooks import with_hooks
from executor.bootstrap.runs import clear_leftovers, complete_models, find_means, in_process
from executor.bootstrap.service import FLUSH_WITHIN_S, Service, default_callback, with_service
from executor.config.docker import DockerSettings
from executor.control.desk import Desk, Identity
from executor.control.server import ControlServer
from executor.modes.docker.app import create_app
from executor.modes.docker.first_task import FirstTask
from executor.modes.docker.forgetting import keep_forgetting
from executor.modes.docker.standing import ServerStanding
from executor.signals import StopSignals
from executor.tasks.bound_session import bound_session
from executor.tasks.hooked import HookedRunHandler
from shared.logging import get_logger
from shared.redaction import Redactor
from shared.shielding import finish, in_thread
from shared.shielding import stop as end
from shared.version import __version__
from shared.web.listening import bind, url_of
from shared.web.server import Server

logger = get_logger("task_executor")


@dataclass(frozen=True, slots=True)
class DockerMode:
    """All parts of docker mode, opened."""

    settings: DockerSettings
    handler: HookedRunHandler
    service: Service
    standing: ServerStanding

    async def drain(self) -> None:
        """Take nothing new, let runs finish for a while, and tell what they have told."""
        grace_s = self.settings.shutdown_grace_s
        supervisor = self.service.supervisor
        if running := supervisor.running_task_ids():
            logger.info(
                "stopping: %d running tasks have %g s to finish (a second signal ends them now)",
                len(running),
                grace_s,
            )
        await supervisor.drain(grace_s)
        await self.service.callbacks.close(FLUSH_WITHIN_S)


async def run_docker(settings: DockerSettings, stop: StopSignals, redactor: Redactor) -> int:
    """Run docker mode until the first stop signal; every part lives and ends in here.

    Returns:
        The exit status: 1 when a task that ends the executor was not completed, otherwise 0.

    Raises:
        ConfigError: The home cannot be used, or another executor is using it.
        CannotListen: The address cannot be had.
    """
    if "mode" not in settings.model_fields_set:
        logger.info("docker mode: neither EXECUTOR_MODE nor WEGENT_BACKEND_URL is set")
    first_task = read_first_task(settings)
    with closing(await in_thread(bind, settings.host, settings.port)) as listener:
        async with opened_home(settings, stop) as home:
            if home is None:
                return 0
            async with opened(settings, home, stop, redactor) as mode:
                return await _serve(mode, listener, first_task, stop)


@asynccontextmanager
async def opened(
    settings: DockerSettings, home: Home, stop: StopSignals, redactor: Redactor
) -> AsyncIterator[DockerMode]:
    """Have all parts until the end of the context; what runs then still go on are cut off."""
    # Finding may unpack a program: requests are answered when it is known what can be run.
    means = await find_means(settings, stop)
    state = home.state
    session_id, only_dir = settings.session_id, settings.only_session_dir
    if session_id is None and only_dir is not None:
        session_id = await in_thread(bound_session, only_dir)
    runs = in_process(
        settings,
        means,
        state,
        answerable=lambda: True,
        backend_url=None,
        session_id=session_id,
    )
    handler = await with_hooks(
        runs.handler, settings, means.environ, redactor, session_dir=only_dir
    )
    async with AsyncExitStack() as stack:
        stack.callback(_tell_the_end)
        service = await stack.enter_async_context(
            with_service(settings, handler, runs.handler, redactor)
        )
        later = [complete_models(), clear_leftovers()]
        if only_dir is None:
            later.append(keep_forgetting(state, settings.workspace_root))
        if means.search.claude:
            later.append(runs.claude.load())
        for work in later:
            stack.push_async_callback(end, asyncio.create_task(work))
        standing = ServerStanding()
        identity = Identity(
            name=settings.executor_name or socket.gethostname(),
            home=settings.home,
            backend=None,
            max_concurrent_tasks=settings.max_concurrent_tasks,
        )
        desk = Desk(identity, service.supervisor, standing, redact=redactor.redact)
        control = ControlServer(settings.home, desk.answer)
        stack.push_async_callback(lambda: finish(control.close()))
        await control.start()
        yield DockerMode(settings, handler, service, standing)


def _tell_the_end() -> None:
    logger.info("executor has stopped")


async def _serve(
    mode: DockerMode, listener: socket.socket, first_task: FirstTask | None, stop: StopSignals
) -> int:
    app = create_app(mode.settings.token)
    app.state.services = mode.service.routes
    server = Server(app, mode.service.routes.streams, ws="none")
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve([listener]), name="server")
        try:
            await server.listening.wait()
            mode.standing.address = url = url_of(listener)
            logger.info("executor %s listening on %s", __version__, url)
            # Programs wait for this line; it comes when requests are answered.
            print(f"executor listening on {url}\n", end="", flush=True)  # noqa: T201
            return await _work(mode, first_task, stop)
        finally:
            server.stop()


async def _work(mode: DockerMode, first_task: FirstTask | None, stop: StopSignals) -> int:
    """Serve until told to stop, or until the first task has ended, when that ends the executor."""
    stopping = asyncio.create_task(stop.first.wait(), name="stop")
    completed: asyncio.Task[bool] | None = None
    try:
        if first_task is not None:
            await first_task.start(mode.service.routes.runs)
            if first_task.ends:
                verdict = first_task.completed(mode.service.log, mode.service.callbacks)
                completed = asyncio.create_task(verdict, name="first task")
        waited_for = {stopping} if completed is None else {stopping, completed}
        await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        # An executor that ends with its task ends with what its hooks do, as an upload.
        settled = asyncio.create_task(mode.handler.settled(), name="hooks")
        await asyncio.wait({stopping, settled}, return_when=asyncio.FIRST_COMPLETED)
        await end(settled)
        await mode.drain()
        if completed is None:
            return 0
        return 0 if completed.done() and completed.result() else 1
    finally:
        await end(stopping)
        if completed is not None:
            await end(completed)


def read_first_task(settings: DockerSettings) -> FirstTask | None:
    """What is to be carried out at the start; ``None``: nothing.

    Raises:
        ConfigError: It cannot be used.
    """
    if settings.first_task is None:
        return None
    return FirstTask.read(settings.first_task, default_callback(settings))
