"""What goes wrong around a run ends in one verdict that a person can act on; the next run works."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from executor.session_places import HOME
from scripts.scripted_model import ScriptedModel
from tests.e2e.conftest import System
from tests.fakes.backend import TOKEN, open_backend
from tests.fakes.git_server import git, make_repository, serving
from tests.fakes.model import error_step, reaching, scenario, text_step
from tests.fakes.processes import executor_process, system
from tests.fakes.runs import RUN_SECONDS, FinishedRun

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOBODY = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""


def failed_once(run: FinishedRun, code: str, *words: str) -> None:
    assert run.verdict == ("failed", code), run.error
    endings = [kind for kind in run.kinds if kind in {"lifecycle.completed", "lifecycle.failed"}]
    assert endings == ["lifecycle.failed"]
    assert run.kinds[-1] == "lifecycle.failed"
    for word in words:
        assert word in run.error


async def next_task_works(shared_system: System) -> None:
    async with ScriptedModel([scenario(text_step("all is well"))]) as model:
        run = await shared_system.manager.run("and now?", reaching(model.url))
    assert run.answer == "all is well"


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "auth_error", "check the API key"),
        (429, "rate_limited", "tried again at"),
        (500, "api_error", "500"),
        (529, "rate_limited", "tried again at"),
    ],
)
async def test_an_error_of_the_api_is_the_runs_verdict(
    shared_system: System, status: int, code: str, words: str
) -> None:
    # A limit that is lifted before the run's time is over would be waited out.
    limit: dict[str, Any] = {"message": f"usage limit reached|{int(time.time()) + 7200}"}
    refusing = scenario(error_step(status, **(limit if code == "rate_limited" else {})))
    async with ScriptedModel([refusing]) as model:
        run = await shared_system.manager.run("hello", reaching(model.url))
    failed_once(run, code, words)


async def test_an_api_that_cannot_be_reached_is_told_and_the_next_task_works(
    shared_system: System,
) -> None:
    run = await shared_system.manager.run("hello", reaching(NOBODY))
    failed_once(run, "api_error", "ECONNREFUSED")
    await next_task_works(shared_system)


async def test_without_any_key_the_run_ends_soon_and_says_what_to_set(
    shared_system: System,
) -> None:
    run = await shared_system.manager.run("hello")
    failed_once(run, "auth_error", "ANTHROPIC_API_KEY")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"repo_url": "{nowhere}"}, "repo"),
        ({"repo_url": "{repository}", "git_branch": "no-such-branch"}, "no-such-branch"),
    ],
    ids=["repository", "branch"],
)
async def test_a_clone_of_what_is_not_there_fails_before_the_agent_starts(
    shared_system: System, repository: str, tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    nowhere = (tmp_path / "no-such-repository").as_uri()
    config["repo_url"] = config["repo_url"].format(nowhere=nowhere, repository=repository)
    async with ScriptedModel() as model:
        async with shared_system.manager.following("hello", config | reaching(model.url)) as live:
            run = await live.finished()
        assert list(model.requests) == []
    failed_once(run, "clone_failed", words)
    session = shared_system.executor.workspace / live.session_id
    assert {entry.name for entry in session.iterdir()} <= {HOME}  # of the clone nothing is left


async def test_a_clone_that_hangs_is_given_up_and_the_next_task_works(tmp_path: Path) -> None:
    origin = make_repository(tmp_path / "served" / "work", {"a.txt": "a\n"})
    git(tmp_path, "clone", "--quiet", "--bare", str(origin), str(tmp_path / "served" / "a.git"))
    limits = {"LOCAL_CLONE_TIMEOUT_SECONDS": "1", "CLAUDE_MAX_WARM_SESSIONS": "0"}
    async with (
        serving(tmp_path / "served") as server,
        ScriptedModel([scenario(text_step("cloned"))]) as model,
        system(tmp_path / "system", **limits) as (manager, _),
    ):
        config = {"repo_url": server.url("a"), **reaching(model.url)}
        server.fault = "hang"
        failed_once(await manager.run("hello", config), "clone_failed", "LOCAL_CLONE_TIMEOUT")
        server.fault = 401
        failed_once(await manager.run("hello", config), "clone_failed", "git_token")
        server.fault = None
        assert (await manager.run("hello", config)).answer == "cloned"


async def test_a_missing_cli_is_told_at_registration_and_by_the_run(tmp_path: Path) -> None:
    nothing = str(tmp_path / "no-claude-here")
    request = {"task_id": 1, "subtask_id": 1, "prompt": "hello"}
    async with (
        asyncio.timeout(RUN_SECONDS),
        open_backend() as backend,
        executor_process(
            tmp_path / "home", backend.url, TOKEN, WEGENT_CLAUDE_PATH=nothing
        ) as executor,
    ):
        offered = (await backend.expect("local:executor:register"))["capabilities"]
        assert "claude_code" not in offered
        await executor.registered()
        for subtask in (1, 2):
            ack = await backend.send("local:task:dispatch", request | {"subtask_id": subtask})
            assert ack["accepted"], ack
            result = await backend.expect("local:task:result")
            assert result["result"]["error_code"] == "agent_error"
            assert "WEGENT_CLAUDE_PATH" in result["result"]["error"]
    assert "Claude Code was not found" in executor.program.output
