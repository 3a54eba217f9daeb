"""The real CLI: found, asked for its version, and used from where a carried one is unpacked."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from executor.agents.claude_code.location import Origin, find_claude
from executor.tasks.sandbox_probe import probe_sandbox
from scripts.scripted_model import ScriptedModel
from tests.fakes.agent_jobs import JobMaker, opened, take_turn
from tests.fakes.claude import REAL, claude_agent
from tests.fakes.house import bash
from tests.fakes.model import scenario, step, text_step


@pytest.fixture(autouse=True, scope="module")
def _the_sandbox_works_here() -> None:
    if sys.platform == "linux":
        assert probe_sandbox(os.environ) is None


def test_the_cli_of_the_sdks_wheel_is_found_without_being_told(tmp_path: Path) -> None:
    search = find_claude(None, tmp_path, os.environ)
    assert search.claude is not None
    assert (search.claude.path, search.claude.origin) == (REAL, Origin.SDK)
    assert search.claude.version >= "2.1.329"
    assert search.skipped == ()


@pytest.mark.skipif(sys.platform != "linux", reason="the CLI starts commands in another way there")
async def test_sandboxed_commands_can_start_the_unpacked_cli_and_see_nothing_else_of_the_home(
    tmp_path: Path,
) -> None:
    assert REAL is not None
    cli = tmp_path / "home" / "cache" / "claude" / "2.1.329" / "claude"
    cli.parent.mkdir(parents=True)
    try:
        os.link(REAL, cli)
    except OSError:  # on another disk
        shutil.copy(REAL, cli)
    (tmp_path / "home" / "config.env").write_text("TOP SECRET")
    commands = [bash("$CLAUDE_CODE_EXECPATH --version"), bash(f"cat {tmp_path}/home/config.env")]
    async with ScriptedModel([scenario(*map(step, commands), text_step("done"))]) as model:
        job = await asyncio.to_thread(JobMaker(tmp_path, model.url, hosts=()).job)
        async with opened(job, claude_agent(cli)) as session:
            turn = await take_turn(session)
    (version, failed), (secret, hidden) = turn.results
    assert "(Claude Code)" in version
    assert (failed, hidden) == (False, True)
    assert "TOP SECRET" not in secret
