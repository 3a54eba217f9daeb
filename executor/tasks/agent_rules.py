"""The operator's rules for agents, applied to one request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from executor.agents.protocol import ToolPolicy
from executor.tasks.agent_environment import (
    AgentEnvironment,
    ExecutorApi,
    agent_environment,
    users_claude_state,
)
from executor.tasks.permissions import limits_for, policy_for, stronger_mode
from executor.tasks.workspace import Workspace
from shared.protocol.execution import ExecutionRequest


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

    def environment(self, request: ExecutionRequest) -> AgentEnvironment:
        """The exact environment of the agent's process.

        Raises:
            RunError: ``credentials_missing``.
        """
        return agent_environment(request, environ=self.environ, executor=self.api, home=self.home)

    def mode(self, request: ExecutionRequest) -> str | None:
        """The permission mode: the request may strengthen the operator's, never weaken it."""
        return stronger_mode(
            self.permission_mode, request.permission_mode or request.first_bot.permission_mode
        )

    def policy(
        self, request: ExecutionRequest, workspace: Workspace, config_dir: Path | None
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
            )
        )
