"""What an operator asks a running executor on its own machine, in every phase of its life."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.model import reaching
from tests.fakes.processes import (
    MODULE,
    ROOT,
    START_SECONDS,
    ExecutorProcess,
    ManagerProcess,
    executor_process,
    manager_process,
    plain_environ,
)
from tests.fakes.scripted_cli import install, script

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a stand-in for the CLI")

TALK = script("word " * 2000, pieces=2000, pause_s=0.5)
"""Goes on for a quarter of an hour."""

CONFIG = reaching("http://127.0.0.1:9")
NOBODY = "http://127.0.0.1:1"


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        assert (self.status, self.err) == (0, "")
        document: dict[str, Any] = json.loads(self.out)
        return document


async def command(home: Path, *typed: str) -> Done:
    """Carry out a command in a shell where nothing is set but the home."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *MODULE, *typed),
        cwd=ROOT,
        env=plain_environ(home / "user", WEGENT_EXECUTOR_HOME=str(home)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(START_SECONDS):
        out, err = await process.communicate()
    return Done(process.returncode or 0, out.decode(), err.decode())


async def status(home: Path) -> dict[str, Any]:
    return (await command(home, "status", "--json")).json


async def tasks(home: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await command(home, "tasks", "--json")).json["tasks"]
    return listed


@asynccontextmanager
async def executor(
    place: Path, url: str, token: str = "a-token-for-tests", **variables: str
) -> AsyncIterator[ExecutorProcess]:
    usual = {"WEGENT_CLAUDE_PATH": str(install(place)), "LOCAL_ISOLATION": "none"}
    async with executor_process(place / "executor", url, token, **usual | variables) as process:
        yield process


@asynccontextmanager
async def system(
    place: Path, **variables: str
) -> AsyncIterator[tuple[ManagerProcess, ExecutorProcess]]:
    async with AsyncExitStack() as stack:
        manager = await stack.enter_async_context(manager_process(place / "manager"))
        token = manager.executor_token
        process = await stack.enter_async_context(executor(place, manager.url, token, **variables))
        await process.registered()
        yield manager, process


async def test_before_it_has_a_backend_it_tells_why_not_and_only_to_its_owner(
    tmp_path: Path,
) -> None:
    async with executor(tmp_path, NOBODY, WEGENT_EXECUTOR_NAME="工作站") as process:
        await process.program.says("Failed to connect")
        told = await status(process.home)
        assert (told["state"], told["backend"], told["name"]) == ("connecting", NOBODY, "工作站")
        assert "127.0.0.1:1" in told["last_error"]
        assert (told["pid"], told["last_heartbeat"]) == (process.program.pid, None)
        mode = (process.home / "control.sock").stat().st_mode
        assert (stat.S_ISSOCK(mode), oct(stat.S_IMODE(mode))) == (True, "0o600")
        await process.program.stop()
        ended = await command(process.home, "status")
        assert (ended.status, ended.out) == (3, "")
        assert ended.err.startswith(
            f"wegent-executor: no executor is running with the home {process.home} ("
        )
        assert not (process.home / "control.sock").exists()


async def test_a_cancel_on_the_machine_is_a_cancelled_verdict_at_the_manager(
    tmp_path: Path,
) -> None:
    async with system(tmp_path) as (manager, process):
        home = process.home
        async with manager.following(TALK, CONFIG) as live:
            await live.until("llm.stream")
            told = await status(home)
            assert (told["state"], told["last_error"]) == ("registered", None)
            assert told["runs"]["running"] == 1
            assert told["last_heartbeat"] is not None
            (task,) = await tasks(home)
            assert (task["subtask_id"], task["state"]) == (live.task_id, "running")
            done = await command(home, "cancel", live.task_id)
            assert (done.status, done.err) == (0, "")
            assert done.out == f"{task['task_id']}/{live.task_id}: cancelled\n"
            run = await live.finished()
        assert run.verdict == ("cancelled", None)
        assert run.data("lifecycle.cancelled")[0]["reason"] == "cancelled on this machine"
        assert await tasks(home) == []
        again = await command(home, "cancel", live.task_id)
        assert (again.status, again.out) == (1, "")
        assert live.task_id in again.err


async def test_a_run_that_asks_its_user_is_shown_so(tmp_path: Path) -> None:
    asking = script("first then", asks=True)
    async with (
        system(tmp_path) as (manager, process),
        manager.following(asking, CONFIG) as live,
    ):
        await live.until("agent.input_required")
        (task,) = await tasks(process.home)
        assert (task["state"], task["waits_for"]) == ("waiting_for_input", "user")
        shown = await command(process.home, "status")
        assert "1 waiting for input" in shown.out
        assert (await command(process.home, "cancel", task["task_id"])).status == 0
        assert (await live.finished()).verdict == ("cancelled", None)


async def test_a_stopping_executor_tells_what_it_still_does(tmp_path: Path) -> None:
    async with system(tmp_path, LOCAL_SHUTDOWN_GRACE_SECONDS="600") as (manager, process):
        async with manager.following(TALK, CONFIG) as live:
            await live.until("llm.stream")
            process.program.signal(signal.SIGTERM)
            await process.program.says("stopping")
            told = await status(process.home)
            assert (told["draining"], told["runs"]["running"]) == (True, 1)
            assert (await command(process.home, "cancel", live.task_id)).status == 0
            assert (await live.finished()).verdict == ("cancelled", None)
        assert await process.program.ended() == 0
        assert (await command(process.home, "tasks")).status == 3


async def test_what_a_killed_executor_left_can_be_cancelled_without_a_backend(
    tmp_path: Path,
) -> None:
    async with system(tmp_path) as (manager, process):
        home = process.home
        async with manager.following(TALK, CONFIG) as live:
            await live.until("llm.stream")
            process.program.signal(signal.SIGKILL)
            await process.program.ended()
            assert (home / "control.sock").exists()
            assert (await command(home, "status")).status == 3
            async with executor(tmp_path, NOBODY) as alone:
                await alone.program.says("Failed to connect")
                assert (await status(home))["runs"]["interrupted"] == 1
                (task,) = await tasks(home)
                assert (task["state"], task["waits_for"]) == ("interrupted", "backend")
                done = await command(home, "cancel", live.task_id)
                assert done.out.endswith(": cancelled\n")
                assert (await status(home))["outbox"] > 0
            async with executor(tmp_path, manager.url, manager.executor_token):
                assert (await live.finished()).verdict == ("cancelled", None)


async def test_what_strangers_send_to_the_socket_disturbs_nobody(tmp_path: Path) -> None:
    async with executor(tmp_path, NOBODY) as process:
        await process.program.says("Failed to connect")
        path = str(process.home / "control.sock")
        with ExitStack() as strangers:
            for number in range(60):
                stranger = strangers.enter_context(socket.socket(socket.AF_UNIX))
                stranger.connect(path)
                with suppress(OSError):  # it may have been turned away already
                    stranger.send(os.urandom(1 + 400 * number))
            turned_away = await command(process.home, "status")
            assert turned_away.status in {0, 1}
        async with asyncio.timeout(START_SECONDS):
            while (await command(process.home, "status")).status:
                pass  # until the last of them has been noticed to have gone
        assert "Traceback" not in process.log
        await process.program.stop()
