"""Whose key goes where, and where secrets must not be found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from scripts.scripted_model import ScriptedModel
from scripts.scripted_record import fingerprint
from tests.e2e.conftest import System
from tests.fakes.git_server import git, make_repository, serving
from tests.fakes.model import reaching, scenario, step, text_step, tool_step
from tests.fakes.processes import family, system

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXECUTOR_KEY = "sk-own-key-of-the-executor-0815"
API_KEY = "sk-secret-of-the-request-2718281828"
GIT_TOKEN = "ghp-secret-of-the-clone-3141592653"
MCP_TOKEN = "mcp-secret-of-the-header-1414213562"


async def test_two_sessions_at_the_same_time_use_a_key_each(shared_system: System) -> None:
    manager = shared_system.manager
    prompts = ["alpha", "beta"]
    scenarios = [
        scenario(step({"text": name}, {"gate": name}), name=name, prompt=name) for name in prompts
    ]
    async with ScriptedModel(scenarios) as model:
        async with (
            manager.following("alpha", reaching(model.url, "sk-alpha-1")) as alpha,
            manager.following("beta", reaching(model.url, "sk-beta-2")) as beta,
        ):
            await alpha.reaches(model.gate("alpha"))
            await beta.reaches(model.gate("beta"))  # both are in the middle of their turn
            for name in prompts:
                model.gate(name).release()
            answers = [(await run.finished()).answer for run in (alpha, beta)]
        used = {(request.prompt, request.key_fingerprint) for request in model.requests}
    assert answers == prompts
    assert used == {("alpha", fingerprint("sk-alpha-1")), ("beta", fingerprint("sk-beta-2"))}


async def test_the_executors_own_key_goes_to_its_own_api_only(tmp_path: Path) -> None:
    own_api = {"ANTHROPIC_API_KEY": EXECUTOR_KEY}
    async with (
        ScriptedModel([scenario(text_step("mine"))]) as own,
        ScriptedModel() as other,
        system(tmp_path, ANTHROPIC_BASE_URL=own.url, **own_api) as (manager, executor),
    ):
        mine = await manager.run("hello")
        theirs = await manager.run("hello", {"env": {"base_url": other.url}})
        after = await manager.run("hello again")
        log = executor.log
    assert (mine.answer, after.answer) == ("mine", "mine")
    assert {request.key_fingerprint for request in own.requests} == {fingerprint(EXECUTOR_KEY)}
    assert theirs.verdict == ("failed", "credentials_missing")
    assert "api_key" in theirs.error
    assert list(other.requests) == []
    assert EXECUTOR_KEY not in log


async def test_secrets_of_a_run_are_found_nowhere_on_disk_in_argv_or_in_the_agents_environment(
    tmp_path: Path,
) -> None:
    origin = make_repository(tmp_path / "served" / "work", {"a.txt": "a\n"})
    git(tmp_path, "clone", "--quiet", "--bare", str(origin), str(tmp_path / "served" / "a.git"))
    job = scenario(
        tool_step("Bash", {"command": "env | grep -v ^ANTHROPIC; cat .git/config"}),
        step({"text": "done"}, {"gate": "looked"}),
    )
    config = {
        "git_token": GIT_TOKEN,
        "mcp_servers": {
            "tools": {
                "type": "http",
                "url": "http://127.0.0.1:9/mcp",
                "headers": {"Authorization": f"Bearer {MCP_TOKEN}"},
            }
        },
    }
    place = tmp_path / "system"
    secrets = [API_KEY, GIT_TOKEN, MCP_TOKEN]
    async with (
        serving(tmp_path / "served") as server,
        ScriptedModel([job]) as model,
        system(place) as (manager, executor),
    ):
        server.login = ("oauth2", GIT_TOKEN)
        config |= {"repo_url": server.url("a"), **reaching(model.url, API_KEY)}
        async with manager.following("Look around", config) as live:
            await live.reaches(model.gate("looked"))
            commands = list(_command_lines(executor.program.pid, manager.program.pid))
            model.gate("looked").release()
            run = await live.finished()
        assert run.answer == "done"
        tokens = [manager.executor_token, manager.api_token]
        [environment] = [data["result"] for data in run.data("llm.tool_result")]
        [mcp_file] = (executor.home / "private").rglob("mcp.json")
        assert mcp_file.stat().st_mode & 0o077 == 0  # of the session that is still warm
        while_warm = await asyncio.to_thread(_holders, executor.home, [*secrets, *tokens])
    assert while_warm == {MCP_TOKEN: [mcp_file]}
    assert GIT_TOKEN in {login[1] for login in server.logins if login is not None}
    assert any("claude" in command for command in commands)
    for secret in (*secrets, *tokens):
        assert not any(secret in command for command in commands)
    assert "WEGENT_AUTH_TOKEN" not in environment
    for secret in (GIT_TOKEN, MCP_TOKEN, *tokens):
        assert secret not in environment
    after = await asyncio.to_thread(_holders, place, [*secrets, *tokens])
    assert after == {
        tokens[0]: [place / "manager" / "executor-token"],
        tokens[1]: [place / "manager" / "api-token"],
    }


def _command_lines(*pids: int) -> Iterator[str]:
    for pid in pids:
        for process in (psutil.Process(pid), *family(pid)):
            with suppress(psutil.NoSuchProcess):  # a short one, and it has ended
                yield " ".join(process.cmdline())


def _holders(place: Path, secrets: list[str]) -> dict[str, list[Path]]:
    """Which files below *place*, databases and logs of them included, hold which secret."""
    found: dict[str, list[Path]] = {}
    for path in sorted(place.rglob("*")):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            for secret in secrets:
                if secret.encode() in content:
                    found.setdefault(secret, []).append(path)
    return found
