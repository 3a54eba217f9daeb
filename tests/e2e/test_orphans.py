"""Nothing of an agent outlives its run or its executor, in the real process table."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from executor.agents.orphans import AgentRecord
from scripts.scripted_model import ScriptedModel
from tests.fakes.model import reaching, scenario, step, text_step
from tests.fakes.processes import (
    executor_environ,
    executor_process,
    manager_process,
    running,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")

WAIT_SECONDS = 60.0


LEFT = f"613.1{os.getpid()}"
DAEMON = f"613.2{os.getpid()}"
"""Seconds that the commands of each test sleep, and nobody else's."""


def sleepers(seconds: str) -> list[psutil.Process]:
    """Live processes `sleep {seconds}`."""
    wanted = ["sleep", seconds]
    return [p for p in psutil.process_iter() if _cmdline(p) == wanted]


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


async def until_sleeping(seconds: str, count: int) -> list[psutil.Process]:
    """Wait until so many of them are there: another process's doing, which nothing tells of."""
    async with asyncio.timeout(WAIT_SECONDS):
        while len(found := await asyncio.to_thread(sleepers, seconds)) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


def end(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        process.kill()


def bash(command: str) -> dict[str, object]:
    return {"tool": "Bash", "input": {"command": command}}


async def test_what_a_killed_executor_leaves_is_ended_by_the_next_of_its_home(
    tmp_path: Path,
) -> None:
    # In the tree; in a session of its own; and without the mark, where only the tree leads.
    command = f"(setsid nohup sleep {LEFT} &) ; env -i sleep {LEFT} & exec sleep {LEFT}"
    home = tmp_path / "executor"
    scenarios = [
        scenario(text_step("I go on."), prompt="cut off"),
        scenario(step(bash(command)), text_step("never")),
    ]
    async with (
        ScriptedModel(scenarios) as model,
        manager_process(tmp_path / "manager") as manager,
    ):
        env = executor_environ(home, manager.url, manager.executor_token, LOCAL_ISOLATION="none")
        # Killed, so not through a context that expects it to stop when told.
        first = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "executor.main", env=env, cwd=Path(__file__).parents[2],
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        left: list[psutil.Process] = []
        try:
            async with manager.following("Wait", reaching(model.url)):
                left = await until_sleeping(LEFT, 3)
                (folder,) = (home / "private").glob("claude-*")
                record = await asyncio.to_thread(AgentRecord.read, folder)
                assert record is not None
                left += await asyncio.to_thread(record.tree)
                # The CLI would end by itself; held, it is found alive as after a hang.
                assert record.pid is not None
                os.kill(record.pid, signal.SIGSTOP)
                first.kill()
                await first.wait()
                assert len(await asyncio.to_thread(sleepers, LEFT)) == 3
                async with running("-m", "executor.main", env=env) as second:
                    async with asyncio.timeout(WAIT_SECONDS):
                        await second.says("that an earlier executor had left")
                        await second.says("registered at ")
                    assert await asyncio.to_thread(sleepers, LEFT) == []
                    assert not [p for p in left if p.is_running() and p.status() != "zombie"]
                    assert not folder.exists()
        finally:
            if first.returncode is None:
                first.kill()
                await first.wait()
            end(await asyncio.to_thread(sleepers, LEFT))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
async def test_a_daemon_without_environment_or_terminal_is_gone_after_the_run(
    tmp_path: Path,
) -> None:
    # Twice forked, in a session of its own, in another folder, without the mark.
    command = f"cd / && (env -i setsid sh -c 'sleep {DAEMON} >/dev/null 2>&1 &') ; echo started"
    scenarios = [
        scenario(step(bash(command)), step({"text": ""}, {"gate": "look"}, {"text": "ok"}))
    ]
    async with (
        ScriptedModel(scenarios) as model,
        manager_process(tmp_path / "manager") as manager,
        executor_process(
            tmp_path / "executor",
            manager.url,
            manager.executor_token,
            LOCAL_ISOLATION="none",
            CLAUDE_MAX_WARM_SESSIONS="0",
        ) as executor,
    ):
        try:
            async with manager.following("Start it", reaching(model.url)) as live:
                gate = model.gate("look")
                await live.reaches(gate)
                (daemon,) = await until_sleeping(DAEMON, 1)
                assert daemon.ppid() == executor.program.pid
                gate.release()
                run = await live.finished()
            assert run.answer == "ok"
            await until_sleeping(DAEMON, 0)
        finally:
            end(await asyncio.to_thread(sleepers, DAEMON))
