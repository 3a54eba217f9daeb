"""CLI processes that go away by themselves: idle ones, and those that the kernel kills."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from executor.agents.protocol import AgentSession
from executor.memory import SystemMemory
from executor.tasks.warm_sessions import WarmSessions
from shared.errors import RunError
from shared.status import ErrorCode
from tests.fakes.agent_jobs import JobMaker, Turn, opened, take_turn
from tests.fakes.claude import claude_agent
from tests.fakes.memory import FakeLinux
from tests.fakes.scripted_cli import install, script

LIMIT_SECONDS = 60

ENDLESS = script("word " * 1000, pieces=1000, pause_s=0.01)


@pytest.fixture
def jobs(tmp_path: Path) -> JobMaker:
    return JobMaker(tmp_path, "http://127.0.0.1:9")


@pytest.fixture
def linux(tmp_path: Path) -> FakeLinux:
    linux = FakeLinux(tmp_path / "linux")
    linux.group("/", oom_kills=3)
    return linux


async def killed_in_a_turn(session: AgentSession, before: Callable[[], None]) -> Turn:
    """A turn whose process is killed in the middle of its answer."""
    spoken = asyncio.Event()
    turn = asyncio.create_task(take_turn(session, ENDLESS, spoken=spoken))
    async with asyncio.timeout(LIMIT_SECONDS):
        await spoken.wait()
        await asyncio.to_thread(before)
        assert session.pid is not None
        psutil.Process(session.pid).send_signal(signal.SIGKILL)
        return await turn


async def test_a_cli_that_dies_idle_is_forgotten_without_a_trace_or_a_complaint(
    tmp_path: Path, jobs: JobMaker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    warm = WarmSessions(limit=1, idle_s=60, check_interval_s=0.01)
    job = jobs.job()
    session = await claude_agent(install(tmp_path)).open(job)
    await take_turn(session)
    await warm.park("1", session, job.fingerprint)
    pid = session.pid
    assert pid is not None
    psutil.Process(pid).send_signal(signal.SIGKILL)
    async with asyncio.timeout(LIMIT_SECONDS):
        # Closing it ends with its folder; nobody tells of that.
        while await asyncio.to_thread(lambda: list(job.private_dir.iterdir())):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not psutil.pid_exists(pid)
    assert caplog.messages == []
    assert await warm.take("1", job.fingerprint) is None
    await warm.close()


async def test_a_cli_that_the_kernel_killed_for_want_of_memory_is_called_that(
    tmp_path: Path, jobs: JobMaker, linux: FakeLinux
) -> None:
    agent = claude_agent(install(tmp_path), SystemMemory(linux.root))
    async with opened(jobs.job(), agent) as session:
        turn = await killed_in_a_turn(session, lambda: linux.group("/", oom_kills=4))
    assert turn.end.error_code == ErrorCode.OUT_OF_MEMORY
    assert not turn.end.reusable


async def test_a_killed_cli_is_a_crash_when_the_kernel_has_killed_nothing_meanwhile(
    tmp_path: Path, jobs: JobMaker, linux: FakeLinux
) -> None:
    agent = claude_agent(install(tmp_path), SystemMemory(linux.root))
    async with opened(jobs.job(), agent) as session:
        await asyncio.to_thread(lambda: linux.group("/", oom_kills=5))  # between start and turn
        turn = await killed_in_a_turn(session, lambda: None)
    assert turn.end.error_code == ErrorCode.AGENT_CRASHED


@pytest.mark.parametrize(
    ("last_words", "code"),
    [("kill -9 $$", ErrorCode.OUT_OF_MEMORY), ("exit 1", ErrorCode.AGENT_CRASHED)],
    ids=["killed", "gave up"],
)
async def test_a_cli_that_the_kernel_kills_at_its_start_is_called_that(
    tmp_path: Path, jobs: JobMaker, linux: FakeLinux, last_words: str, code: ErrorCode
) -> None:
    cli = tmp_path / "claude"
    events = linux.root / "sys/fs/cgroup/memory.events"
    cli.write_text(f"#!/bin/sh\necho oom_kill 4 > {events}\n{last_words}\n", encoding="utf-8")
    cli.chmod(0o755)
    with pytest.raises(RunError) as failed:
        await claude_agent(cli, SystemMemory(linux.root)).open(jobs.job())
    assert failed.value.error_code == code
