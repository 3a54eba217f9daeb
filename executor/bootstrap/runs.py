"""What carries out the runs of both modes, made from the settings and from what is installed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from executor.agents.agno import installed as agno
from executor.agents.claude_code.agent import ClaudeCodeAgent
from executor.agents.claude_code.location import ClaudeSearch, Origin, find_claude
from executor.agents.claude_code.unpacking import remove_other_versions
from executor.agents.factory import CLAUDE_CODE, AgentFactory
from executor.bootstrap.home import private_dir
from executor.config.settings import ExecutorSettings
from executor.delivery.state import StateStore
from executor.memory import MemoryPressure, SystemMemory
from executor.packaged.unpacked import remove_own_leftovers
from executor.signals import StopSignals
from executor.tasks.agent_environment import ExecutorApi
from executor.tasks.agent_rules import AgentRules
from executor.tasks.allowed_hosts import read_hosts
from executor.tasks.in_process import InProcessRunHandler
from executor.tasks.isolation import IsolationRules
from executor.tasks.questions import UserInput
from executor.tasks.sandbox_probe import probe_sandbox
from executor.tasks.warm_sessions import WarmSessions
from executor.tasks.workspace import Workspaces
from shared.logging import get_logger
from shared.protocol.execution import Isolation
from shared.protocol.local import Payload
from shared.protocol.part import Part, complete

logger = get_logger("bootstrap")


@dataclass(frozen=True, slots=True)
class Means:
    """What this machine has for runs.

    Attributes:
        environ: The variables of this process, as they were when it was looked at.
        isolation: Which walls agents can have, and which they get.
        search: The Claude Code that was found, or why there is none.
        has_agno: Whether agno is installed.
    """

    environ: Mapping[str, str]
    isolation: IsolationRules
    search: ClaudeSearch
    has_agno: bool

    @property
    def capabilities(self) -> list[str]:
        """The agents that can be run."""
        if self.isolation.least is Isolation.CONTAINER:
            return [CLAUDE_CODE]  # what the image carries
        agents = {CLAUDE_CODE: self.search.claude is not None, agno.NAME: self.has_agno}
        return [name for name, there in agents.items() if there]


async def find_means(settings: ExecutorSettings, stop: StopSignals) -> Means:
    """Look at this machine; may take a while, since programs are started and unpacked."""
    environ = dict(os.environ)
    return Means(
        environ,
        *await asyncio.gather(
            asyncio.to_thread(_isolation, settings, environ),
            asyncio.to_thread(_find_claude, settings, environ, stop),
            asyncio.to_thread(agno.is_installed),
        ),
    )


@dataclass(frozen=True, slots=True)
class InProcess:
    """The handler of runs in this process, and what is to be done once others are served."""

    handler: InProcessRunHandler
    claude: ClaudeCodeAgent


def in_process(
    settings: ExecutorSettings,
    means: Means,
    state: StateStore,
    *,
    answerable: Callable[[], bool],
    backend_url: str | None,
    session_id: str | None = None,
) -> InProcess:
    """Make the handler; whoever has its supervisor closes it.

    Args:
        answerable: Whether there is somebody who can answer an agent's questions now.
        backend_url: Where the files of requests may be fetched with a run's token.
        session_id: The only session that is served, where there is only one; ``None``: whichever
            comes first.
    """
    api = _api(settings)
    memory = SystemMemory()
    claude = ClaudeCodeAgent(means.search, memory)
    handler = InProcessRunHandler(
        agents=_agents(settings, means, claude, api),
        workspaces=Workspaces(
            settings.workspace_root,
            private_dir=private_dir(settings),
            clone_timeout_s=settings.clone_timeout_s,
            allow_local_repositories=settings.allow_local_repositories,
            environ=means.environ,
            backend_url=backend_url,
            session_dir=settings.only_session_dir,
            session_id=session_id,
        ),
        rules=_rules(settings, means, api),
        state=state,
        warm=WarmSessions(
            limit=settings.claude_max_warm_sessions,
            idle_s=settings.claude_session_idle_s,
            pressure=MemoryPressure(memory),
        ),
        private_dir=private_dir(settings),
        user_input=UserInput(
            timeout_s=settings.user_input_timeout_s,
            run_timeout_s=settings.task_timeout_s,
            answerable=answerable,
        ),
        stall_timeout_s=settings.stall_timeout_s,
    )
    return InProcess(handler, claude)


def _agents(
    settings: ExecutorSettings, means: Means, claude: ClaudeCodeAgent, api: ExecutorApi
) -> AgentFactory:
    if not means.has_agno:
        return AgentFactory({CLAUDE_CODE: claude}, absent={agno.NAME: agno.REMEDY})
    from executor.agents.agno.agent import AgnoAgent
    from executor.agents.agno.model_api import OwnApi, OwnApis

    openai, variables = settings.openai_api_key, api.variables
    own: OwnApis = {
        "anthropic": OwnApi(api.api_key, api.auth_token, api.base_url, api.model),
        "openai": OwnApi(
            openai.get_secret_value() if openai is not None else variables.get("OPENAI_API_KEY"),
            base_url=settings.openai_base_url or variables.get("OPENAI_BASE_URL"),
        ),
    }
    return AgentFactory({CLAUDE_CODE: claude, agno.NAME: AgnoAgent(settings.home / "agno", own)})


async def clear_leftovers() -> None:
    """Remove what killed programs have left unpacked; a program that was not unpacked has none."""
    if left := await asyncio.to_thread(remove_own_leftovers):
        logger.info("removed the unpacked files of %d killed executors", len(left))


async def complete_models() -> None:
    """Make the validators of messages now, which the first one would hold the loop up for."""
    for base in (Part, Payload):
        await asyncio.to_thread(complete, base)


def _find_claude(
    settings: ExecutorSettings, environ: dict[str, str], stop: StopSignals
) -> ClaudeSearch:
    """The CLI to run, if there is one; says which, and what is wrong with those before it."""
    if settings.isolation == "container":
        return ClaudeSearch(None, (), "nothing is to be had: tasks run in containers")
    search = find_claude(settings.claude_path, settings.home, environ, stopping=stop.first.is_set)
    claude = search.claude
    if claude is None and stop.first.is_set():
        return search  # perhaps there was no time to unpack it, which is no news to whoever stops
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
    if settings.isolation == "container":
        return IsolationRules(Isolation.CONTAINER, "tasks run in containers")
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


def _rules(settings: ExecutorSettings, means: Means, api: ExecutorApi) -> AgentRules:
    hosts = settings.sandbox_allowed_hosts
    mode = settings.permission_mode
    return AgentRules(
        home=settings.home,
        environ=means.environ,
        api=api,
        permission_mode=None if mode == "unattended" else mode,
        isolation=means.isolation,
        hidden=(settings.log_dir,)
        if settings.only_session_dir is not None  # there are no others
        else (settings.workspace_root, settings.log_dir),
        allowed_hosts=None if hosts is None else read_hosts(hosts),
        trust_repositories=settings.trust_repo_settings,
        state_in_sessions=settings.state_in_sessions,
    )


def _api(settings: ExecutorSettings) -> ExecutorApi:
    key, token = settings.anthropic_api_key, settings.anthropic_auth_token
    own = ExecutorApi(
        api_key=key.get_secret_value() if key else None,
        auth_token=token.get_secret_value() if token else None,
        base_url=settings.anthropic_base_url,
        model=settings.model,
    )
    return own.with_variables(settings.variables_of_agents)
