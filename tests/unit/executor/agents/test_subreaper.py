"""Daemons that commands leave behind become ours, and are reaped, in the real process table."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil
import pytest

from executor.agents import subreaper
from executor.agents.process_tree import MARK_VARIABLE, OWN_MARK
from executor.agents.subreaper import AgentTrace

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")


@pytest.fixture(autouse=True)
def _adopting() -> Iterator[None]:
    assert subreaper.adopt()
    yield
    subreaper.adopt(on=False)


def daemon(cwd: Path, command: str, **env: str) -> psutil.Process:
    """A process that was started by one that has ended; its parent is this process by now."""
    out = subprocess.run(
        ["/bin/sh", "-c", f"setsid {command} >/dev/null 2>&1 & echo $!"],
        env={"PATH": os.environ["PATH"], **env},
        cwd=cwd,
        check=True,
        capture_output=True,
    )
    found = psutil.Process(int(out.stdout))
    assert found.ppid() == os.getpid()
    return found


def end(process: psutil.Process) -> None:
    process.kill()
    process.wait()


def found_in(cwd: Path, *others: AgentTrace) -> list[int]:
    return [stray.pid for stray in subreaper.strays(cwd, others=others)]


@contextmanager
def agent(cwd: Path) -> Iterator[AgentTrace]:
    """Another agent that begins now, and works in that folder."""
    process = subprocess.Popen(["sleep", "600"], env={MARK_VARIABLE: "another"})
    try:
        yield AgentTrace.of(process.pid, cwd)
    finally:
        process.kill()
        process.wait()


def test_an_unmarked_daemon_is_that_of_the_agent_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    with agent(tmp_path / "b") as other:
        stray = daemon(tmp_path / "a" / "deep", "sleep 600")
        try:
            assert found_in(tmp_path / "a", other) == [stray.pid]
            mine = AgentTrace(tmp_path / "a", other.began)
            assert found_in(tmp_path / "b", mine) == []
        finally:
            end(stray)
        assert found_in(tmp_path / "a", other) == []


def test_a_daemon_that_works_elsewhere_waits_for_the_last_agent_that_may_have_started_it(
    tmp_path: Path,
) -> None:
    with agent(tmp_path / "b") as before:
        stray = daemon(Path("/"), "sleep 600")
        try:
            assert found_in(tmp_path / "a", before) == []
            assert found_in(tmp_path / "a") == [stray.pid]
        finally:
            end(stray)


def test_an_agent_that_begins_later_does_not_keep_a_daemon_alive(tmp_path: Path) -> None:
    stray = daemon(Path("/"), "sleep 600")
    later = AgentTrace(tmp_path / "b", _ticks_of(stray) + 1)
    starting = AgentTrace(tmp_path / "c")
    try:
        assert found_in(tmp_path / "a", later, starting) == [stray.pid]
    finally:
        end(stray)


def _ticks_of(process: psutil.Process) -> int:
    began = AgentTrace.of(process.pid, Path("/")).began
    assert began is not None
    return began


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every process")
def test_a_daemon_that_guards_its_memory_is_found(tmp_path: Path) -> None:
    guarded = (
        "import ctypes, time; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0);"  # PR_SET_DUMPABLE
        "open('ready', 'w').close(); time.sleep(600)"
    )
    os.mkfifo(tmp_path / "ready")
    stray = daemon(tmp_path, f'{sys.executable} -IS -c "{guarded}"')
    try:
        (tmp_path / "ready").read_bytes()
        assert found_in(tmp_path / "a") == [stray.pid]
    finally:
        end(stray)


def test_what_carries_a_mark_is_no_stray(tmp_path: Path) -> None:
    ours = daemon(tmp_path, "sleep 600", **{MARK_VARIABLE: OWN_MARK})
    try:
        assert found_in(tmp_path) == []
    finally:
        end(ours)


def test_without_adoption_no_child_is_a_stray(tmp_path: Path) -> None:
    subreaper.adopt(on=False)
    with subprocess.Popen(["sleep", "600"], env={}, cwd=tmp_path) as child:
        assert found_in(tmp_path) == []
        child.kill()


@asynccontextmanager
async def reaping() -> AsyncIterator[None]:
    task = asyncio.create_task(subreaper.reap_forever(0.05))
    yield
    assert not task.done()
    task.cancel()


async def test_adopted_children_leave_no_zombies_and_ours_keep_their_status(
    tmp_path: Path,
) -> None:
    stray = await asyncio.to_thread(daemon, tmp_path, "sleep 600")
    async with reaping():
        stray.kill()
        async with asyncio.timeout(50):
            for _ in range(20):
                own = await asyncio.create_subprocess_exec("sh", "-c", "exit 7")
                assert await own.wait() == 7
            # Another process's end: nothing tells of it.
            while await asyncio.to_thread(psutil.pid_exists, stray.pid):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
