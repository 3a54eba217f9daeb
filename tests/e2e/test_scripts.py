"""``scripts/test_local_executor.py``: what an operator learns from it, and its exit status."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from scripts.scripted_model import ScriptedModel
from tests.fakes.model import error_step, scenario, step, text_step, tool_step
from tests.fakes.processes import (
    ROOT,
    STOP_SECONDS,
    ManagerProcess,
    Program,
    executor_process,
    manager_process,
    plain_environ,
    running,
    system,
)
from tests.fakes.runs import RUN_SECONDS, kind

SCRIPT = "scripts/test_local_executor.py"
KEY = "sk-of-the-executor"


async def check(manager: ManagerProcess, *arguments: str, **variables: str) -> tuple[int, Program]:
    """Run the script to its end; exit status and what it said."""
    usual = {"WEGENT_BACKEND_URL": manager.url, "WEGENT_API_TOKEN": manager.api_token}
    env = plain_environ(manager.home / "operator", **(usual | variables))
    async with asyncio.timeout(RUN_SECONDS), running(SCRIPT, *arguments, env=env) as program:
        return await program.ended(), program


def api(model: ScriptedModel) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": model.url,
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_MAX_WARM_SESSIONS": "0",
    }


async def test_skip_dispatch_tells_whether_an_executor_is_online(tmp_path: Path) -> None:
    async with manager_process(tmp_path / "manager") as manager:
        status, program = await check(manager, "--skip-dispatch")
        assert (status, program.lines) == (3, [f"no executor is online at {manager.url}"])
        home = tmp_path / "executor"
        token = manager.executor_token
        async with executor_process(
            home, manager.url, token, WEGENT_EXECUTOR_NAME="my laptop"
        ) as executor:
            await executor.registered()
            status, program = await check(manager, "--skip-dispatch")
            assert status == 0
            assert "online: my laptop" in program.output
        status, program = await check(manager, "--skip-dispatch")
        assert status == 3


async def test_a_prompt_is_followed_and_the_verdict_is_the_exit_status(tmp_path: Path) -> None:
    scenarios = [
        scenario(text_step("Two and two is four."), prompt="sum"),
        scenario(error_step(403, message="not for you"), prompt="forbidden"),
        scenario(step({"text": "Well"}, {"hang": True}), prompt="endless"),
    ]
    async with (
        ScriptedModel(scenarios) as model,
        system(tmp_path, **api(model)) as (manager, _),
    ):
        status, program = await check(manager, "--prompt", "the sum please")
        assert status == 0, program.output
        assert program.lines[-1] == "completed: Two and two is four."
        assert any(line.startswith("workspace: ") or "workspace" in line for line in program.lines)

        status, program = await check(
            manager, "--prompt", "forbidden", WEGENT_BACKEND_URL=_ws(manager)
        )
        assert status == 1, program.output
        assert program.lines[-1].startswith("failed: auth_error")
        assert "not for you" in program.lines[-1]

        status, program = await check(manager, "--prompt", "endless", "--timeout", "1.5")
        assert status == 4, program.output
        assert "not finished within 1.5 s" in program.lines[-1]
        # Whether it got as far as the model by then, nobody can say; but nothing of it goes on.
        task_id = next(line for line in program.lines if line.startswith("task: "))[6:]
        async with asyncio.timeout(STOP_SECONDS):
            last = [event async for event in manager.client.events(task_id)][-1]
        assert kind(last) == "lifecycle.cancelled"


async def test_what_the_agent_asks_is_shown_and_answered_from_the_command_line(
    tmp_path: Path,
) -> None:
    options = [{"label": colour, "description": f"all {colour}"} for colour in ("red", "blue")]
    parts = [
        {"question": "Which colour?", "header": "c", "multiSelect": False, "options": options},
        {"question": "Which more?", "header": "m", "multiSelect": True, "options": options},
    ]
    steps = [tool_step("AskUserQuestion", {"questions": parts}), text_step("{last_tool_result}")]
    async with (
        ScriptedModel([scenario(*steps)]) as model,
        system(tmp_path, **api(model)) as (manager, _),
    ):
        status, program = await check(manager, "--answer", "2", "--answer", "red,blue")
        assert status == 0, program.output
        assert "asks: Which colour?" in program.lines
        assert "  2  blue: all blue" in program.lines
        assert "- question answered" in program.lines
        assert '"Which colour?"="blue"' in program.lines[-1]
        assert '"Which more?"="red, blue"' in program.lines[-1]


def _ws(manager: ManagerProcess) -> str:
    return manager.url.replace("http://", "ws://") + "/"


async def test_no_token_a_wrong_one_and_no_backend_are_told_apart(tmp_path: Path) -> None:
    async with manager_process(tmp_path / "manager") as manager:
        status, program = await check(manager, "--skip-dispatch", WEGENT_API_TOKEN="")
        assert status == 2
        assert "WEGENT_API_TOKEN" in program.output
        status, program = await check(manager, "--skip-dispatch", "--token", "Zq8-wrong")
        assert status == 2
        assert "401" in program.output
        assert "Zq8-wrong" not in program.output
        # On the manager's own machine its own file will do.
        status, program = await check(
            manager, "--skip-dispatch", WEGENT_API_TOKEN="", MANAGER_HOME=str(manager.home)
        )
        assert status == 3
    status, program = await check(manager, "--skip-dispatch")
    assert status == 2
    assert f"no answer from {manager.url}" in program.output
    assert "Traceback" not in program.output


@pytest.mark.parametrize("arguments", [["--timeout", "0"], ["--timeout", "soon"], ["--promt", "x"]])
async def test_wrong_arguments_are_refused_with_the_usage(
    tmp_path: Path, arguments: list[str]
) -> None:
    env = plain_environ(tmp_path)
    async with asyncio.timeout(RUN_SECONDS), running(SCRIPT, *arguments, env=env) as program:
        assert await program.ended() == 2
    assert program.lines[0].startswith("usage: ")


async def test_the_scripts_work_from_any_folder(tmp_path: Path) -> None:
    env = plain_environ(tmp_path)
    script = str(ROOT / SCRIPT)
    async with (
        asyncio.timeout(RUN_SECONDS),
        running(script, "--help", env=env, cwd=tmp_path) as program,
    ):
        assert await program.ended() == 0
    assert "--skip-dispatch" in program.output
