"""Daemons that commands leave behind become ours, and are reaped, in the real process table."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from executor.agents import subreaper
from executor.agents.process_tree import MARK_VARIABLE, OWN_MARK

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


def found_in(cwd: Path, *, others_live: bool) -> list[int]:
    return [stray.pid for stray in subreaper.strays(cwd, others_live=others_live)]


def test_an_unmarked_daemon_is_found_by_its_folder_or_as_the_only_agents(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    stray = daemon(tmp_path / "a" / "deep", "sleep 600")
    try:
        assert found_in(tmp_path / "a", others_live=True) == [stray.pid]
        assert found_in(tmp_path / "b", others_live=True) == []
        assert found_in(tmp_path / "b", others_live=False) == [stray.pid]
    finally:
        end(stray)
    assert found_in(tmp_path / "a", others_live=True) == []


def test_what_carries_a_mark_is_no_stray(tmp_path: Path) -> None:
    ours = daemon(tmp_path, "sleep 600", **{MARK_VARIABLE: OWN_MARK})
    try:
        assert found_in(tmp_path, others_live=False) == []
    finally:
        end(ours)


def test_without_adoption_no_child_is_a_stray(tmp_path: Path) -> None:
    subreaper.adopt(on=False)
    with subprocess.Popen(["sleep", "600"], env={}, cwd=tmp_path) as child:
        assert found_in(tmp_path, others_live=False) == []
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
        async with asyncio.timeout(20):
            for _ in range(20):
                own = await asyncio.create_subprocess_exec("sh", "-c", "exit 7")
                assert await own.wait() == 7
            # Another process's end: nothing tells of it.
            while await asyncio.to_thread(psutil.pid_exists, stray.pid):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
