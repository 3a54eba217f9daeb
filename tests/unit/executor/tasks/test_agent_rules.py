from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from executor.tasks.agent_environment import AgentEnvironment, ExecutorApi
from executor.tasks.agent_rules import AgentRules
from executor.tasks.workspace import Workspace

HOME = Path("/home/executor")
SESSION = Path("/workspace")


def test_where_an_agent_keeps_its_state() -> None:
    rules = AgentRules(home=HOME, environ={}, api=ExecutorApi(), permission_mode=None)
    in_sessions = replace(rules, state_in_sessions=True)
    workspace = Workspace(SESSION, SESSION / "repo")
    with_key = AgentEnvironment({}, None, HOME / "claude")
    with_token = AgentEnvironment({"CLAUDE_CODE_OAUTH_TOKEN": "t"}, None, None)
    as_the_user = AgentEnvironment({}, None, None)

    assert rules.config_dir(workspace, with_key) == HOME / "claude"
    assert rules.config_dir(workspace, with_token) is None
    assert in_sessions.config_dir(workspace, with_key) == SESSION / ".claude"
    assert in_sessions.config_dir(workspace, with_token) == SESSION / ".claude"
    # Elsewhere the user's login would not be found.
    assert in_sessions.config_dir(workspace, as_the_user) is None
