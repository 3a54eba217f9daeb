"""From the name of an agent to the agent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from executor.agents.factory import AgentFactory
from shared.errors import Refusal
from shared.status import ErrorCode
from tests.fakes.claude import claude_agent


@pytest.mark.parametrize("name", ["claude_code", "ClaudeCode", "claude-code", "CLAUDE_CODE"])
def test_case_and_separators_of_a_name_do_not_matter(name: str) -> None:
    agent = claude_agent()
    assert AgentFactory({"claude_code": agent}).resolve(name) == ("claude_code", agent)


@pytest.mark.parametrize("name", ["agno", "", "claude", "claude code"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(Refusal, match="claude_code") as caught:
        AgentFactory({"claude_code": claude_agent()}).resolve(name)
    assert caught.value.error_code == ErrorCode.UNSUPPORTED_AGENT
    assert repr(name) in str(caught.value)


def test_an_agent_that_is_not_installed_is_refused_with_how_to_have_it() -> None:
    factory = AgentFactory({"claude_code": claude_agent()}, absent={"agno": "pip install x"})
    with pytest.raises(Refusal, match="pip install x") as caught:
        factory.resolve("Agno")
    assert caught.value.error_code == ErrorCode.UNSUPPORTED_AGENT
    assert factory.names == ["claude_code"]


def test_making_the_factory_does_not_import_the_sdk(repository_root: Path) -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from executor.agents.claude_code.agent import ClaudeCodeAgent\n"
        "from executor.agents.claude_code.location import find_claude\n"
        "from executor.agents.factory import AgentFactory\n"
        "search = find_claude(None, Path('/nowhere'), os.environ)\n"
        "AgentFactory({'claude_code': ClaudeCodeAgent(search)})\n"
        "assert 'claude_agent_sdk' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=repository_root, check=True)
