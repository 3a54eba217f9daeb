"""Executables as hooks: real programs, started for the calls of a run."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from executor.hooks.base import AgentState, TaskConfig
from executor.hooks.calls import HookCall
from executor.hooks.commands import CommandFailed, CommandHook, find_commands, why_not
from executor.hooks.runner import HookRunner, HookSource

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the programs are shell scripts")

CONFIG = TaskConfig(run_id="2", session_id="1", attempt=3, prompt="go", agent_type="claude_code")
LONG_S = 30.0


@pytest.fixture(autouse=True)
async def _bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(40):
        yield


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "hooks").mkdir(mode=0o700)
    return tmp_path


def program(home: Path, script: str, name: str = "audit") -> Path:
    path = home / "hooks" / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o700)
    return path


def living_children() -> list[psutil.Process]:
    """All below this process that have not ended; whether somebody reaps them is another matter."""
    below = psutil.Process().children(recursive=True)
    return [child for child in below if child.status() != psutil.STATUS_ZOMBIE]


def environ(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/home/me", **more}


async def test_every_call_is_a_line_of_json_on_the_programs_input(home: Path) -> None:
    hook = CommandHook(program(home, 'cat >> "$(dirname "$0")/../told"'), environ())
    await hook.before_execution(CONFIG)
    await hook.on_agent_turn(1, AgentState(workspace="/w"))
    await hook.on_tool_call(1, "Bash", {"command": "ls"}, "a\nb")
    await hook.on_response(1, "größer")
    await hook.after_execution(False, "out of tea")
    told: list[dict[str, Any]] = [
        json.loads(line) for line in (home / "told").read_text(encoding="utf-8").splitlines()
    ]
    assert all(line.pop("timestamp").endswith("Z") for line in told)
    run = {"run_id": "2", "session_id": "1", "attempt": 3}
    assert told[0].pop("config")["prompt"] == "go"
    assert told[1].pop("state")["workspace"] == "/w"
    assert told == [
        {"hook": "before_execution", **run},
        {"hook": "on_agent_turn", **run, "turn": 1},
        {
            "hook": "on_tool_call",
            **run,
            "turn": 1,
            "tool_name": "Bash",
            "tool_input": {"command": "ls"},
            "tool_output": "a\nb",
        },
        {"hook": "on_response", **run, "turn": 1, "response": "größer"},
        {"hook": "after_execution", **run, "success": False, "error": "out of tea"},
    ]


async def test_a_program_gets_no_secret_of_the_executors_environment(home: Path) -> None:
    hook = CommandHook(
        program(home, 'env > "$(dirname "$0")/../env"; pwd > "$(dirname "$0")/../cwd"'),
        environ(LC_ALL="C.UTF-8", ANTHROPIC_API_KEY="k", S3_SECRET_KEY="s", HTTPS_PROXY="u:p@h"),
    )
    await hook.before_execution(CONFIG)
    names = {line.partition("=")[0] for line in (home / "env").read_text().splitlines()}
    assert {"PATH", "HOME", "LC_ALL"} <= names
    assert not names & {"ANTHROPIC_API_KEY", "S3_SECRET_KEY", "HTTPS_PROXY"}
    assert (home / "cwd").read_text().strip() == str(home / "hooks")


async def test_a_program_that_fails_is_reported_with_the_end_of_its_output(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = "yes 0123456789 | head -c 100000; printf 'no \\033[31mdatabase\\033[0m' >&2; exit 3"
    hook = CommandHook(program(home, script), environ())
    with pytest.raises(CommandFailed, match="audit ended with status 3"):
        await hook.before_execution(CONFIG)
    assert "no database" in caplog.text
    assert len(caplog.text) < 10_000


async def test_a_program_need_not_read_what_it_is_told(home: Path) -> None:
    hook = CommandHook(program(home, "exit 0"), environ())
    await hook.on_response(1, "x" * 1_000_000)


async def test_output_that_is_held_open_by_something_left_behind_delays_nothing(
    home: Path,
) -> None:
    hook = CommandHook(program(home, "sleep 1000 &"), environ())
    await hook.before_execution(CONFIG)
    assert living_children() == []


async def test_what_has_left_the_programs_group_ends_with_the_run(home: Path) -> None:
    if shutil.which("setsid") is None:
        pytest.skip("no setsid")
    pid_file = home / "pid"
    inner = f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 1000"
    script = (
        f"setsid sh -c '{inner}' > /dev/null 2>&1 < /dev/null &\n"
        f"while [ ! -e {pid_file} ]; do sleep 0.01; done"
    )
    hook = CommandHook(program(home, script), environ())
    await hook.on_response(1, "so")
    daemon = psutil.Process(int(pid_file.read_text()))
    assert daemon.is_running()
    await hook.after_execution(True, None)
    assert not daemon.is_running() or daemon.status() == psutil.STATUS_ZOMBIE


async def test_a_program_that_hangs_is_ended_with_all_that_it_has_started(home: Path) -> None:
    warnings: list[str] = []
    path = program(home, "if grep -q on_response; then sleep 1000 & sleep 1000; fi")
    source = HookSource("audit", CommandHook, lambda: CommandHook(path, environ()))
    runner = HookRunner(source, timeout_s=2, warn=warnings.append)
    runner.offer(HookCall("before_execution", {"config": CONFIG}))
    runner.offer(HookCall("on_response", {"turn": 1, "response": "so"}))
    runner.offer(HookCall("after_execution", {"success": True, "error": None}))
    await runner.wait_ended()
    assert warnings == ["hook audit: on_response took longer than 2 s"]
    assert living_children() == []


async def test_a_program_that_cannot_be_started_is_an_error_that_says_so(home: Path) -> None:
    path = program(home, "")
    path.write_text("#!/nowhere/sh\n", encoding="utf-8")
    with pytest.raises(CommandFailed, match="cannot be started: No such file"):
        await CommandHook(path, environ()).before_execution(CONFIG)


async def test_a_program_that_others_can_change_by_now_is_not_started(home: Path) -> None:
    path = program(home, 'touch "$(dirname "$0")/../started"')
    hook = CommandHook(path, environ())
    await hook.before_execution(CONFIG)
    (home / "started").unlink()
    path.chmod(0o722)
    with pytest.raises(CommandFailed, match="others may write"):
        await hook.on_response(1, "so")
    assert not (home / "started").exists()


def test_programs_are_found_by_name_and_the_others_passed_over_with_a_reason(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = program(home, "", "b")
    first = program(home, "", "a")
    program(home, "", "writable").chmod(0o777)
    program(home, "", "plain").chmod(0o600)
    (home / "hooks" / "link").symlink_to(good)
    (home / "hooks" / "folder").mkdir()
    program(home, "", ".hidden")
    program(home, "", "old~")
    assert find_commands(home) == [first, good]
    for name, reason in (
        ("writable", "others may write"),
        ("plain", "not executable"),
        ("link", "is a link"),
        ("folder", "no file"),
    ):
        assert any(name in line and reason in line for line in caplog.messages), name
    assert "hidden" not in caplog.text
    assert "old~" not in caplog.text


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="only root gives away")
def test_a_program_of_another_user_is_not_used(home: Path) -> None:
    path = program(home, "")
    os.chown(path, 12345, -1)
    assert why_not(path) == f"{path} belongs to another user"


@pytest.mark.parametrize("mode", [0o720, 0o702])
@pytest.mark.parametrize("folder", [".", "hooks"])
def test_a_folder_that_others_may_write_makes_its_programs_unusable(
    home: Path, folder: str, mode: int
) -> None:
    path = program(home, "")
    assert find_commands(home) == [path]
    (home / folder).chmod(mode)
    assert find_commands(home) == []


def test_no_folder_means_no_programs(tmp_path: Path) -> None:
    assert find_commands(tmp_path) == []
