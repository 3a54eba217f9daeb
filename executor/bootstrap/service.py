"""The service of docker mode, around whatever carries its runs out."""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from executor.config.docker import DockerSettings
from executor.delivery.event_log import EventLog
from executor.modes.docker.callbacks import Callbacks
from executor.modes.docker.receiver_client import ReceiverClient
from executor.modes.docker.runs import Runs
from executor.modes.docker.services import Services
from executor.modes.docker.sessions import Sessions
from executor.modes.docker.user_input import UserInputRequests
from executor.modes.docker.views import Health
from executor.modes.local.progress_reporter import ProgressReporter
from executor.network.access import NetworkAccess
from executor.tasks.in_process import InProcessRunHandler
from executor.tasks.run_handler import RunHandler
from executor.tasks.supervisor import Supervisor
from executor.tasks.workspace_disk import WorkspaceDisk
from shared.protocol.events import AgentEvent, EventType, RunRef
from shared.protocol.http import CallbackTarget
from shared.redaction import Redactor
from shared.shielding import finish
from shared.version import __version__
from shared.web.streams import Streams

FLUSH_WITHIN_S: Final = 5.0
"""How long a stop waits for the receivers of callbacks to take the last ones."""


@dataclass(frozen=True, slots=True)
class Service:
    """What takes runs, remembers what they tell, and tells it.

    Attributes:
        routes: What the HTTP API needs of all this.
    """

    supervisor: Supervisor
    log: EventLog
    callbacks: Callbacks
    routes: Services


@asynccontextmanager
async def with_service(
    settings: DockerSettings,
    handler: RunHandler,
    in_process: InProcessRunHandler,
    redactor: Redactor,
) -> AsyncIterator[Service]:
    """Take up what an earlier process has left; what runs at the end is cut off.

    Args:
        handler: Carries the runs out; closed at the end.
        in_process: The same without what observes it; knows the sessions.
    """
    state = in_process.state
    async with AsyncExitStack() as stack:
        log = await EventLog.open(state)
        stack.push_async_callback(lambda: finish(log.close()))
        reporter = ProgressReporter(log, redactor)

        def warn(run: RunRef, message: str) -> None:
            reporter.report(run, AgentEvent(EventType.WARNING, {"message": message}))

        client = ReceiverClient(NetworkAccess(os.environ))
        stack.push_async_callback(lambda: finish(client.close()))
        callbacks = Callbacks(log, state, client, redactor, warn=warn)
        await callbacks.resume()
        stack.push_async_callback(lambda: finish(callbacks.close(FLUSH_WITHIN_S)))
        supervisor = Supervisor(
            handler,
            reporter,
            log,
            max_concurrent=settings.max_concurrent_tasks,
            queue_limit=settings.queue_limit,
            timeout_s=settings.task_timeout_s,
            redispatches=True,
        )
        stack.push_async_callback(lambda: finish(supervisor.close()))
        questions = UserInputRequests(log, client, supervisor.answer, warn=warn)
        stack.push_async_callback(lambda: finish(questions.close()))
        supervisor.restore(await state.runs())
        state.on_disk_trouble(supervisor.disk_trouble)
        disk = WorkspaceDisk(
            settings.only_session_dir or settings.workspace_root,
            settings.home,
            functools.partial(supervisor.disk_trouble, disk="workspace"),
        )
        stack.callback(disk.close)
        disk.start()
        supervisor.connected(redispatches=True)
        streams = Streams(log.hub)

        def health() -> Health:
            return Health(
                version=__version__,
                executor_name=settings.executor_name,
                executor_namespace=settings.executor_namespace,
                session_id=in_process.workspaces.bound_session,
                running=len(supervisor.running_task_ids()),
                free_slots=supervisor.free_slots,
            )

        sessions = Sessions(
            supervisor,
            state,
            in_process.warm,
            agent_of=lambda requested: in_process.agents.resolve(requested)[0],
        )
        routes = Services(
            runs=Runs(
                supervisor,
                log,
                callbacks,
                questions,
                streams,
                sessions,
                user_id=settings.user_id,
            ),
            sessions=sessions,
            streams=streams,
            callback=default_callback(settings),
            health=health,
        )
        yield Service(supervisor, log, callbacks, routes)


def default_callback(settings: DockerSettings) -> CallbackTarget | None:
    """Where runs are told of whose requests name no address."""
    if settings.callback_url is None:
        return None
    return CallbackTarget(settings.callback_url, settings.callback_token)
