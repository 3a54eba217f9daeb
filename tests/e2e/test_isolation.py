"""What an operator's choice of isolation does, through the whole system."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from executor.tasks.agent_environment import DEFAULTS
from scripts.scripted_model import ScriptedModel
from scripts.scripted_scenario import Scenario
from tests.fakes.git_server import make_repository
from tests.fakes.model import reaching, scenario, step, text_step, tool_step
from tests.fakes.processes import family, system
from tests.fakes.runs import FinishedRun

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="macOS has another sandbox")


@pytest.fixture
def without_sandbox(tmp_path: Path) -> str:
    """A PATH with all that a run needs, but without the sandbox's programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("apt-get", "bash", "cat", "env", "git", "grep", "ls", "sh", "touch"):
        found = shutil.which(name)
        if found is not None:
            (folder / name).symlink_to(found)
    return str(folder)


def attempt(escaped: Path) -> Scenario:
    return scenario(
        tool_step("Bash", {"command": f"touch {escaped}; cat ../../../config.env"}),
        text_step("{last_tool_result}"),
    )


async def test_by_default_commands_are_confined_where_the_system_can(tmp_path: Path) -> None:
    place, escaped = tmp_path / "system", tmp_path / "escaped"
    async with (
        ScriptedModel([attempt(escaped)]) as model,
        system(place, CLAUDE_MAX_WARM_SESSIONS="0") as (manager, executor),
    ):
        (executor.home / "config.env").write_text("A=TOP SECRET\n")
        run = await manager.run("Get out", reaching(model.url))
        weaker = await manager.run("Get out", {"isolation": "none", **reaching(model.url)})
        [node] = await manager.client.nodes()
        log = executor.log
    for told in (run, weaker):
        assert told.verdict == ("completed", None)
        assert "TOP SECRET" not in json.dumps(told.events)
    assert not escaped.exists()
    assert node["isolation"] == ["sandbox"]
    assert "no sandbox" not in log


async def test_without_a_sandbox_the_default_says_so_once_and_goes_on(
    tmp_path: Path, without_sandbox: str
) -> None:
    place, escaped = tmp_path / "system", tmp_path / "escaped"
    async with (
        ScriptedModel([attempt(escaped)]) as model,
        system(place, PATH=without_sandbox, CLAUDE_MAX_WARM_SESSIONS="0") as (manager, executor),
    ):
        run = await manager.run("Get out", reaching(model.url))
        stronger = await manager.run("Get out", {"isolation": "sandbox", **reaching(model.url)})
        [node] = await manager.client.nodes()
        log = executor.log
    assert run.verdict == ("completed", None)
    assert escaped.exists()
    assert stronger.verdict == ("failed", "isolation_unavailable")
    assert node["isolation"] == ["none"]
    [warning] = [line for line in log.splitlines() if "no sandbox" in line]
    assert "WARNING" in warning
    assert "bwrap and socat not installed" in warning
    assert "install --yes bubblewrap socat" in warning


async def test_a_sandbox_that_is_demanded_and_missing_refuses_tasks(
    tmp_path: Path, without_sandbox: str
) -> None:
    async with (
        ScriptedModel() as model,
        system(tmp_path, PATH=without_sandbox, LOCAL_ISOLATION="sandbox") as (manager, _),
    ):
        run = await manager.run("Anything", reaching(model.url))
        [node] = await manager.client.nodes()
        assert list(model.requests) == []
    assert run.verdict == ("failed", "isolation_unavailable")
    assert "bwrap and socat not installed" in run.error
    assert node["isolation"] == []


async def test_the_agents_process_has_exactly_the_variables_it_may_have(tmp_path: Path) -> None:
    given = {
        "AWS_SECRET_ACCESS_KEY": "x", "DATABASE_URL": "x", "GITHUB_TOKEN": "x", "LD_PRELOAD": "",
        "NPM_TOKEN": "x", "OPENAI_API_KEY": "x", "PYTHONPATH": "", "LOG_LEVEL": "DEBUG",
        "LANG": "C.UTF-8", "LC_TIME": "C", "TZ": "UTC", "NO_PROXY": "*",
        "SSL_CERT_DIR": "/etc/ssl/certs", "GIT_AUTHOR_NAME": "me",
        "ANTHROPIC_API_KEY": "sk-of-the-executor",
    }  # fmt: skip
    may = {"PATH", "HOME", "LANG", "LC_ALL", "LC_TIME", "TZ", "NO_PROXY", "SSL_CERT_DIR"}
    inherited = {"GIT_AUTHOR_NAME", "GIT_CONFIG_NOSYSTEM"} | {
        name for name in may if name in {*os.environ, *given}
    }
    asked = {"ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_MAX_RETRIES", "OF_THE_REQUEST"}
    added = {"CLAUDE_CONFIG_DIR", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_AGENT_SDK_VERSION", "PWD"}
    added |= {"no_proxy", "GIT_SSL_CAPATH"}  # what NO_PROXY and SSL_CERT_DIR say, in git's words
    job = scenario(step({"text": ""}, {"gate": "look"}, {"text": "ok"}))
    async with (
        ScriptedModel([job]) as model,
        system(tmp_path, LOCAL_ISOLATION="none", **given) as (manager, executor),
    ):
        config = reaching(model.url, OF_THE_REQUEST="1", LD_PRELOAD="/evil.so", WEGENT_X="1")
        async with manager.following("Wait", config) as live:
            await live.reaches(model.gate("look"))
            [agent] = [p for p in family(executor.program.pid) if p.name() == "claude"]
            environ = await asyncio.to_thread(agent.environ)
            model.gate("look").release()
            await live.finished()
    assert set(environ) == inherited | asked | added | set(DEFAULTS) | {"WEGENT_AGENT_PROCESS"}
    assert manager.executor_token not in environ.values()


@pytest.mark.parametrize("trusted", [False, True])
async def test_a_repositorys_own_programs_run_only_when_the_operator_trusts_it(
    tmp_path: Path, trusted: bool
) -> None:
    def leaves(name: str) -> str:
        return f"touch {tmp_path}/ran-{name}"

    hooks = {"SessionStart": [{"hooks": [{"type": "command", "command": leaves("hook")}]}]}
    server = {"command": "sh", "args": ["-c", leaves("mcp")]}
    origin = make_repository(
        tmp_path / "hostile",
        {
            ".claude/settings.json": json.dumps({"hooks": hooks}),
            ".mcp.json": json.dumps({"mcpServers": {"theirs": server}}),
        },
    )
    async with (
        ScriptedModel([scenario(text_step("ok"))]) as model,
        system(
            tmp_path / "system",
            CLAUDE_MAX_WARM_SESSIONS="0",
            LOCAL_TRUST_REPO_SETTINGS=str(trusted).lower(),
        ) as (manager, _),
    ):
        run: FinishedRun = await manager.run(
            "hello", {"repo_url": origin.as_uri(), **reaching(model.url)}
        )
    assert run.answer == "ok"
    ran = sorted(path.name for path in tmp_path.glob("ran-*"))
    assert ran == (["ran-hook", "ran-mcp"] if trusted else [])
