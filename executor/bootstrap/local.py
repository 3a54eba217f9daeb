"""The composition root of local mode."""

from __future__ import annotations

import asyncio
import functools
import os

from executor.bootstrap.containers import with_containers
from executor.bootstrap.home import Home, opened_home
from executor.bootstrap.hooks import with_hooks
from executor.bootstrap.runs import Means, clear_leftovers, complete_models, find_means, in_process
from executor.config.local import LocalSettings
from executor.control.desk import Desk, Identity
from executor.control.server import ControlServer
from executor.delivery.outbox import Outbox
from executor.modes.local.backend_url import BackendUrl
from executor.modes.local.handlers import TaskHandler
from executor.modes.local.heartbeat import HeartbeatService, Rhythm
from executor.modes.local.identity import BackendMemory, describe_host
from executor.modes.local.observer import Observers
from executor.modes.local.outage import reconnect_delays
from executor.modes.local.progress_reporter import ProgressReporter
from executor.modes.local.registration import Registrar
from executor.modes.local.runner import LocalRunner
from executor.modes.local.standing import LinkStanding
from executor.modes.local.websocket_client import WebSocketClient
from executor.service.notify import ServiceManager
from executor.service.timing import stop_limit_s
from executor.signals import StopSignals
from executor.tasks.supervisor import Supervisor
from executor.tasks.workspace_disk import WorkspaceDisk
from shared.protocol.events import RunKey
from shared.protocol.execution import Isolation
from shared.protocol.local import Feature, Register
from shared.redaction import Redactor
from shared.shielding import finish
from shared.version import __version__


async def run_local(settings: LocalSettings, stop: StopSignals, redactor: Redactor) -> None:
    """Run local mode until the first stop signal; every part lives and ends in here.

    Raises:
        ConfigError: The home cannot be used, or another executor is using it.
        LinkRejected: The backend refused this executor before it was ever registered.
    """
    service = _service_manager(settings)
    try:
        async with opened_home(settings, stop) as home:
            if home is not None:
                await _run(settings, stop, redactor, home, service)
    finally:
        service.close()


async def _run(
    settings: LocalSettings,
    stop: StopSignals,
    redactor: Redactor,
    home: Home,
    service: ServiceManager,
) -> None:
    # Finding may unpack a program, and registering waits for that: only then is it true that this
    # executor can do what it offers.
    means, memory = await asyncio.gather(
        find_means(settings, stop), asyncio.to_thread(BackendMemory, settings.home)
    )
    state = home.state
    remembered = memory.features(str(BackendUrl.parse(settings.backend_url))) or frozenset()
    features = set(remembered)
    runs = in_process(
        settings,
        means,
        state,
        answerable=lambda: Feature.INPUT in features,
        backend_url=settings.backend_url,
    )
    records, least = await state.runs(), means.isolation.least
    known = [record.run for record in records]
    async with with_containers(
        runs.handler,
        settings,
        means,
        home,
        records,
        stop,
        unfinished=lambda: supervisor.unfinished(),
        follow=lambda living: supervisor.follow(handler.follow(known, living)),
    ) as carried:
        handler = await with_hooks(carried.handler, settings, means.environ, redactor)

        def superseded(key: RunKey) -> None:
            supervisor.supersede(key)

        outbox = await Outbox.open(state, on_superseded=superseded)
        reporter = ProgressReporter(outbox, redactor)
        supervisor = Supervisor(
            handler,
            reporter,
            state,
            max_concurrent=settings.max_concurrent_tasks,
            queue_limit=settings.queue_limit,
            timeout_s=settings.task_timeout_s,
            redispatches=Feature.REDISPATCH in remembered,
        )
        supervisor.restore(records)
        supervisor.follow(handler.follow(known, carried.living))
        state.on_disk_trouble(supervisor.disk_trouble)
        disk = WorkspaceDisk(
            settings.workspace_root,
            settings.home,
            functools.partial(supervisor.disk_trouble, disk="workspace"),
        )
        later: list[asyncio.Task[None]] = []

        def registered(offered: frozenset[str]) -> None:
            features.clear()
            features.update(offered)
            if later:
                return
            later.append(asyncio.create_task(complete_models(), name="complete the models"))
            later.append(asyncio.create_task(clear_leftovers(), name="clear leftovers"))
            if means.search.claude is not None and least is not Isolation.CONTAINER:
                later.append(asyncio.create_task(runs.claude.load(), name="load the SDK"))

        standing = LinkStanding()
        observers = Observers(service, standing)
        hello = _hello(settings, home.executor_id, means)
        runner = LocalRunner(
            WebSocketClient(settings.backend_url, settings.auth_token),
            Registrar(
                settings.backend_url,
                hello,
                supervisor,
                outbox,
                memory,
                heartbeat=Rhythm(settings.heartbeat_interval_s, settings.heartbeat_timeout_s),
            ),
            supervisor,
            outbox,
            TaskHandler(supervisor, reporter),
            HeartbeatService(
                home.executor_id,
                supervisor,
                outbox.unheard_verdicts,
                on_heard=observers.heartbeat_heard,
            ),
            delays=functools.partial(
                reconnect_delays, settings.reconnect_delay_s, settings.reconnect_max_delay_s
            ),
            refused_delay_s=settings.reconnect_max_delay_s,
            drain_grace_s=settings.shutdown_grace_s,
            on_registered=registered,
            observer=observers,
        )
        identity = Identity(
            name=hello.name,
            home=settings.home,
            backend=str(BackendUrl.parse(settings.backend_url)),
            max_concurrent_tasks=settings.max_concurrent_tasks,
        )
        desk = Desk(
            identity,
            supervisor,
            standing,
            outbox_depth=lambda: outbox.depth,
            redact=redactor.redact,
        )
        control = ControlServer(settings.home, desk.answer)
        try:
            disk.start()
            await control.start()
            await runner.run(stop.first)
        finally:
            disk.close()
            await finish(control.close())
            await outbox.close()


def _service_manager(settings: LocalSettings) -> ServiceManager:
    return ServiceManager.of_this_process(
        os.environ,
        backend=str(BackendUrl.parse(settings.backend_url)),
        heartbeat_timeout_s=settings.heartbeat_timeout_s,
        longest_pause_s=settings.reconnect_max_delay_s,
        stop_within_s=stop_limit_s(settings.shutdown_grace_s),
    )


def _hello(settings: LocalSettings, executor_id: str, means: Means) -> Register:
    host = describe_host()
    return Register(
        executor_id=executor_id,
        name=settings.executor_name or host.hostname,
        hostname=host.hostname,
        platform=host.platform,
        arch=host.arch,
        version=__version__,
        capabilities=means.capabilities,
        isolation=means.isolation.available,
        max_concurrent_tasks=settings.max_concurrent_tasks,
        workspace_root=str(settings.workspace_root),
    )
