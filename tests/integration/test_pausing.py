"""Pausing stops a real process and what it has started, and lets both go on."""

from __future__ import annotations

import asyncio
import sys

import psutil
import pytest

from executor.tasks.pausing import Pause, resume_tree, suspend_tree
from executor.tasks.stall import StallClock

FAMILY = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"


async def until(state: str, processes: list[psutil.Process]) -> None:
    """Wait until all of them are in this state, which nothing tells of."""
    async with asyncio.timeout(30):
        while {p.status() for p in processes} != {state}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.skipif(sys.platform == "win32", reason="looks at POSIX process states")
async def test_a_tree_stands_still_and_goes_on() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FAMILY, stdin=asyncio.subprocess.PIPE
    )
    try:
        parent = psutil.Process(process.pid)
        async with asyncio.timeout(30):
            while not (children := parent.children()):  # noqa: ASYNC110 - the child tells nobody
                await asyncio.sleep(0.01)
        tree = [parent, *children]
        await asyncio.to_thread(suspend_tree, process.pid)
        await until(psutil.STATUS_STOPPED, tree)
        await asyncio.to_thread(resume_tree, process.pid)
        await until(psutil.STATUS_SLEEPING, tree)
    finally:
        await process.communicate(b"\n")
    await asyncio.to_thread(suspend_tree, process.pid)  # nobody there: nothing happens
    await asyncio.to_thread(resume_tree, process.pid)


@pytest.mark.skipif(sys.platform == "win32", reason="looks at POSIX process states")
async def test_a_paused_run_stands_still_with_each_of_its_processes_and_its_clock() -> None:
    clock = StallClock(600)
    pause = Pause(clock.held)
    await pause.begin()  # while the agent is being started
    await pause.begin()
    assert clock.standing
    process = await asyncio.create_subprocess_exec("sleep", "600")
    seen = [psutil.Process(process.pid)]
    try:
        await pause.attach(process.pid)
        await until(psutil.STATUS_STOPPED, seen)
        await pause.detach()  # to be ended
        await until(psutil.STATUS_SLEEPING, seen)
        assert clock.standing
        await pause.attach(process.pid)  # the next attempt
        await until(psutil.STATUS_STOPPED, seen)
        await pause.end()
        await until(psutil.STATUS_SLEEPING, seen)
        assert not clock.standing
        await pause.attach(process.pid)  # not paused any more: nothing happens
        assert seen[0].status() == psutil.STATUS_SLEEPING
    finally:
        process.kill()
        await process.wait()
