"""The operator's rules for agents, applied to one request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from executor.agents.protocol import Sandbox, ToolPolicy
from executor.session_places import CLAUDE_STATE
from executor.tasks.agent_environment import (
    AgentEnvironment,
    ExecutorApi,
    agent_environment,
    users_claude_state,
)
from executor.tasks.allowed_hosts import hosts_of_run
from executor.tasks.isolation import IsolationRules, Walls
from executor.tasks.permissions import limits_for, policy_for, stronger_mode
from executor.tasks.workspace import Workspace
from shared.protocol.execution import ExecutionRequest, Isolation


@dataclass(frozen=True, slots=True)
class AgentRules:
    """What the operator decided once, for every run."""

    home: Path
    environ: Mapping[str, str] = field(repr=False)
    """The executor's own variables; agents get an allow-listed part of them."""
    api: ExecutorApi = field(repr=False)
    """The executor's own key, address and model."""
    permission_mode: str | None
    """One of Claude's own modes, or ``None`` for unattended."""
    isolation: IsolationRules = field(default_factory=IsolationRules)
    hidden: tuple[Path, ...] = ()
    """Places besides the home that no sandboxed command may read: workspace root, log folder."""
    allowed_hosts: tuple[str, ...] | None = None
    """What sandboxed runs may reach; ``None``: the repository's host and the model API's."""
    state_in_sessions: bool = False
    """Whether the agent's own state lies in its session's directory, to outlive a container."""
    trust_repositories: bool = False
    """Whether repositories' own settings, hooks and MCP servers are loaded."""

    def environment(self, request: ExecutionRequest) -> AgentEnvironment:
        """The exact environment of the agent's process.

        Raises:
            RunError: ``credentials_missing``.
        """
        return agent_environment(request, environ=self.environ, executor=self.api, home=self.home)

    def config_dir(self, workspace: Workspace, environment: AgentEnvironment) -> Path | None:
        """Where the agent keeps its own state in a new session; ``None``: the user's own place."""
        login = "CLAUDE_CODE_OAUTH_TOKEN" in environment.env
        if self.state_in_sessions and (login or environment.config_dir is not None):
            return workspace.session_dir / CLAUDE_STATE
        return environment.config_dir

    def mode(self, request: ExecutionRequest) -> str | None:
        """The permission mode: the request may strengthen the operator's, never weaken it."""
        return stronger_mode(
            self.permission_mode, request.permission_mode or request.first_bot.permission_mode
        )

    async def sandbox(
        self, request: ExecutionRequest, workspace: Workspace, environment: AgentEnvironment
    ) -> Sandbox | None:
        """The walls around the agent's commands; ``None``: it has none.

        Raises:
            Refusal: ``isolation_unavailable``.
        """
        if self.isolation.level(request) is not Isolation.SANDBOX:
            return None
        hosts = self.allowed_hosts
        if hosts is None:
            hosts = hosts_of_run(workspace.repository, environment.env.get("ANTHROPIC_BASE_URL"))
        walls = Walls(self.home, self.hidden, self.environ)
        skills = workspace.staged.skills
        protected = [skills.folder] if skills is not None else []
        return await asyncio.to_thread(walls.around, workspace.session_dir, hosts, protected)

    def policy(
        self,
        request: ExecutionRequest,
        workspace: Workspace,
        config_dir: Path | None,
        sandbox: Sandbox | None,
    ) -> ToolPolicy:
        """What the agent's tools may do.

        *config_dir* is the agent's own state; ``None``: the user's own.
        """
        claude_dir = config_dir if config_dir is not None else users_claude_state(self.environ)
        return policy_for(
            limits_for(
                request,
                cwd=workspace.cwd,
                session_dir=workspace.session_dir,
                mode=self.mode(request),
                claude_dir=claude_dir,
                hosts=sandbox.hosts if sandbox is not None else None,
            )
        )
