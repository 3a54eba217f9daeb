"""The composition root of the executor: the only place that picks implementations."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
from contextlib import suppress
from pathlib import Path

from executor.agents import subreaper
from executor.agents.claude_code.agent import ClaudeCodeAgent
from executor.agents.claude_code.location import ClaudeSearch, Origin, find_claude
from executor.agents.claude_code.unpacking import remove_other_versions
from executor.agents.factory import AgentFactory
from executor.agents.orphans import end_left_behind
from executor.config.settings import ExecutorSettings
from executor.control.desk import Desk, Identity
from executor.control.server import ControlServer
from executor.delivery.outbox import Outbox
from executor.delivery.reserve import has_room
from executor.delivery.state import StateStore
from executor.home_lock import HomeLock
from executor.memory import MemoryPressure, SystemMemory
from executor.modes.local.backend_url import BackendUrl
from executor.modes.local.handlers import TaskHandler
from executor.modes.local.heartbeat import HeartbeatService, Rhythm
from executor.modes.local.identity import BackendMemory, describe_host, load_executor_id
from executor.modes.local.observer import Observers
from executor.modes.local.outage import reconnect_delays
from executor.modes.local.progress_reporter import ProgressReporter
from executor.modes.local.registration import Registrar
from executor.modes.local.runner import LocalRunner
from executor.modes.local.standing import LinkStanding
from executor.modes.local.websocket_client import WebSocketClient
from executor.packaged.unpacked import remove_own_leftovers
from executor.service.notify import ServiceManager
from executor.service.timing import stop_limit_s
from executor.shielding import finish, in_thread
from executor.signals import StopSignals
from executor.tasks.agent_environment import ExecutorApi, claude_state
from executor.tasks.agent_rules import AgentRules
from executor.tasks.allowed_hosts import read_hosts
from executor.tasks.in_process import InProcessRunHandler
from executor.tasks.isolation import IsolationRules, temporary_folder
from executor.tasks.questions import UserInput
from executor.tasks.sandbox_probe import probe_sandbox
from executor.tasks.supervisor import Supervisor
from executor.tasks.warm_sessions import WarmSessions
from executor.tasks.workspace import Workspaces
from shared.errors import ConfigError
from shared.logging import get_logger
from shared.private_files import empty_directory, make_private_directory
from shared.protocol.events import RunKey
from shared.protocol.execution import Isolation
from shared.protocol.local import Feature, Register
from shared.redaction import Redactor
from shared.version import __version__

logger = get_logger("local_runner")

CLAUDE_CODE = "claude_code"

ROOM_CHECK_S = 2.0
"""How often a start on a full disk looks whether there is room by now."""


async def run_local(settings: ExecutorSettings, stop: StopSignals, redactor: Redactor) -> None:
    """Run local mode until the first stop signal; every part lives and ends in here.

    Raises:
        ConfigError: The home cannot be used, or another executor is using it.
        LinkRejected: The backend refused this executor before it was ever registered.
    """
    service = _service_manager(settings)
    lock = await in_thread(HomeLock.acquire, settings.home)
    try:
        adopting = await asyncio.to_thread(subreaper.adopt)
        await end_left_behind(_private_dir(settings), temporary_folder(settings.home))
        opened = await _open_home(settings, stop)
        if opened is None:
            return
        executor_id, memory, state = opened
        reaping = asyncio.create_task(subreaper.reap_forever(), name="reap") if adopting else None
        try:
            await _run(settings, stop, redactor, state, executor_id, memory, service)
        finally:
            if reaping is not None:
                reaping.cancel()
            await state.close()
    finally:
        service.close()
        lock.release()


async def _open_home(
    settings: ExecutorSettings, stop: StopSignals
) -> tuple[str, BackendMemory, StateStore] | None:
    """Open what the home holds, once its disk has room; ``None``: told to stop before that.

    A full disk is no reason to end: a supervisor starts nobody again whose settings are wrong.

    Raises:
        ConfigError: The home cannot be used for another reason.
    """
    waiting = had_room = False
    while True:
        try:
            executor_id, memory = await asyncio.to_thread(_prepare_home, settings)
            return executor_id, memory, await StateStore.open(settings.home / "state.db")
        except ConfigError as exc:
            problem = exc
        # The room may have come in this moment: only a second failure is told.
        if await asyncio.to_thread(has_room, settings.home):
            if had_room:
                raise problem
            had_room = True
            continue
        had_room = False
        if not waiting:
            logger.error("no space left for %s: waiting for some (%s)", settings.home, problem)
            waiting = True
        with suppress(TimeoutError):
            async with asyncio.timeout(ROOM_CHECK_S):
                await stop.first.wait()
                return None


async def _run(
    settings: ExecutorSettings,
    stop: StopSignals,
    redactor: Redactor,
    state: StateStore,
    executor_id: str,
    memory: BackendMemory,
    service: ServiceManager,
) -> None:
    environ = dict(os.environ)
    # Both start programs. Finding may unpack one, and registering waits for that: only then is it
    # true that this executor can do what it offers.
    isolation, search = await asyncio.gather(
        asyncio.to_thread(_isolation, settings, environ),
        asyncio.to_thread(_find_claude, settings, environ, stop),
    )
    has_claude = search.claude is not None
    system_memory = SystemMemory()
    remembered = memory.features(str(BackendUrl.parse(settings.backend_url))) or frozenset()
    features = set(remembered)
    claude = ClaudeCodeAgent(search, system_memory)
    handler = InProcessRunHandler(
        agents=AgentFactory({CLAUDE_CODE: claude}),
        workspaces=Workspaces(
            settings.workspace_root,
            private_dir=_private_dir(settings),
            clone_timeout_s=settings.clone_timeout_s,
            allow_local_repositories=settings.allow_local_repositories,
            environ=environ,
            backend_url=settings.backend_url,
        ),
        rules=_rules(settings, environ, isolation),
        state=state,
        warm=WarmSessions(
            limit=settings.claude_max_warm_sessions,
            idle_s=settings.claude_session_idle_s,
            pressure=MemoryPressure(system_memory),
        ),
        private_dir=_private_dir(settings),
        user_input=UserInput(
            timeout_s=settings.user_input_timeout_s,
            run_timeout_s=settings.task_timeout_s,
            answerable=lambda: Feature.INPUT in features,
        ),
        stall_timeout_s=settings.stall_timeout_s,
    )

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
    supervisor.restore(await state.runs())
    state.on_disk_trouble(supervisor.disk_trouble)
    later: list[asyncio.Task[None]] = []

    def registered(offered: frozenset[str]) -> None:
        features.clear()
        features.update(offered)
        if later:
            return
        later.append(asyncio.create_task(_clear_leftovers(), name="clear leftovers"))
        if has_claude:
            later.append(asyncio.create_task(claude.load(), name="load the SDK"))

    standing = LinkStanding()
    observers = Observers(service, standing)
    hello = _hello(settings, executor_id, [CLAUDE_CODE] if has_claude else [], isolation.available)
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
            executor_id, supervisor, outbox.unheard_verdicts, on_heard=observers.heartbeat_heard
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
        await control.start()
        await runner.run(stop.first)
    finally:
        await finish(control.close())
        await outbox.close()


def _service_manager(settings: ExecutorSettings) -> ServiceManager:
    return ServiceManager.of_this_process(
        os.environ,
        backend=str(BackendUrl.parse(settings.backend_url)),
        heartbeat_timeout_s=settings.heartbeat_timeout_s,
        longest_pause_s=settings.reconnect_max_delay_s,
        stop_within_s=stop_limit_s(settings.shutdown_grace_s),
    )


async def _clear_leftovers() -> None:
    """Remove what killed programs have left unpacked; a program that was not unpacked has none."""
    if left := await asyncio.to_thread(remove_own_leftovers):
        logger.info("removed the unpacked files of %d killed executors", len(left))


def _prepare_home(settings: ExecutorSettings) -> tuple[str, BackendMemory]:
    """Make what is missing, and clear what an executor that was killed has left."""
    executor_id = load_executor_id(settings.home)
    try:
        make_private_directory(_private_dir(settings))
        empty_directory(_private_dir(settings))
        make_private_directory(settings.workspace_root)
        # The CLI would make it for everybody to read.
        make_private_directory(claude_state(settings.home))
    except OSError as exc:
        raise ConfigError(
            f"{exc.filename} cannot be used: {exc.strerror}",
            hint="make it writable for this user, or name another folder",
        ) from exc
    if settings.skill_clear_cache:
        shutil.rmtree(settings.home / "cache" / "skills", ignore_errors=True)
    return executor_id, BackendMemory(settings.home)


def _private_dir(settings: ExecutorSettings) -> Path:
    return settings.home / "private"


def _find_claude(
    settings: ExecutorSettings, environ: dict[str, str], stop: StopSignals
) -> ClaudeSearch:
    """The CLI to run, if there is one; says which, and what is wrong with those before it."""
    search = find_claude(settings.claude_path, settings.home, environ, stopping=stop.first.is_set)
    claude = search.claude
    if claude is None:
        logger.error(
            "%s; tasks that need it will fail. To have it: %s", search.problem, search.remedy
        )
        return search
    for other in search.skipped:
        logger.warning("passed over: %s (%s) %s", other.path, other.origin, other.reason)
    logger.info("Claude Code %s: %s (%s)", claude.version, claude.path, claude.origin)
    if claude.origin is Origin.CARRIED:
        remove_other_versions(claude.path)
    return search


def _isolation(settings: ExecutorSettings, environ: dict[str, str]) -> IsolationRules:
    """What the operator wants and this machine can do; says so when these are not the same."""
    problem = probe_sandbox(environ)
    reason = problem.reason if problem is not None else None
    if settings.isolation == "auto":
        if problem is None:
            return IsolationRules(Isolation.SANDBOX, None)
        logger.warning(
            "no sandbox (%s): shell commands of agents may do what this user may do; to have "
            "one: %s (or LOCAL_ISOLATION=none to accept this)",
            problem.reason,
            problem.remedy,
        )
        return IsolationRules(Isolation.NONE, reason)
    if settings.isolation == "sandbox" and problem is not None:
        logger.error(
            "LOCAL_ISOLATION=sandbox, but there is none (%s): tasks are refused until it works; "
            "to have one: %s",
            problem.reason,
            problem.remedy,
        )
    return IsolationRules(Isolation(settings.isolation), reason)


def _rules(
    settings: ExecutorSettings, environ: dict[str, str], isolation: IsolationRules
) -> AgentRules:
    hosts = settings.sandbox_allowed_hosts
    key, token = settings.anthropic_api_key, settings.anthropic_auth_token
    mode = settings.permission_mode
    return AgentRules(
        home=settings.home,
        environ=environ,
        api=ExecutorApi(
            api_key=key.get_secret_value() if key else None,
            auth_token=token.get_secret_value() if token else None,
            base_url=settings.anthropic_base_url,
            model=settings.anthropic_model,
        ),
        permission_mode=None if mode == "unattended" else mode,
        isolation=isolation,
        hidden=(settings.workspace_root, settings.log_dir),
        allowed_hosts=None if hosts is None else read_hosts(hosts),
        trust_repositories=settings.trust_repo_settings,
    )


def _hello(
    settings: ExecutorSettings,
    executor_id: str,
    capabilities: list[str],
    isolation: list[Isolation],
) -> Register:
    host = describe_host()
    return Register(
        executor_id=executor_id,
        name=settings.executor_name or host.hostname,
        hostname=host.hostname,
        platform=host.platform,
        arch=host.arch,
        version=__version__,
        capabilities=capabilities,
        isolation=isolation,
        max_concurrent_tasks=settings.max_concurrent_tasks,
        workspace_root=str(settings.workspace_root),
    )
