"""Ending what agents have started, over real processes."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from executor.agents import process_ending
from executor.agents.process_tree import MARK_VARIABLE, marked
from tests.fakes.shells import alive, shell

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses a POSIX shell")

LIMIT_S = 30.0
DEAF = "trap '' TERM; setsid sleep 600 & echo $!; while :; do wait; done"


@pytest.fixture
def mark() -> str:
    return secrets.token_hex(8)


@pytest.fixture(params=["the system tells", "nothing tells"])
def _notices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With notices of the system about ends, and without."""

    def too_many(_pid: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    if request.param == "nothing tells":
        monkeypatch.setattr(os, "pidfd_open", too_many, raising=False)


async def test_what_was_started_after_the_look_and_carries_no_mark_is_ended(mark: str) -> None:
    command = "env -i setsid sleep 600 & echo $!; wait"
    with shell(command, **{MARK_VARIABLE: mark}) as (parent, child):
        # Only the parent has been seen.
        await process_ending.end([parent], mark, grace_s=2)
        assert not alive(parent)
        assert not psutil.pid_exists(int(child)) or not alive(psutil.Process(int(child)))


@pytest.mark.usefixtures("_notices")
async def test_what_ignores_the_signal_to_end_is_killed_with_all_that_it_started(
    mark: str,
) -> None:
    with shell(DEAF, **{MARK_VARIABLE: mark}) as (parent, child):
        started = psutil.Process(int(child))
        await process_ending.end([parent], mark, grace_s=0.2)
        assert not alive(parent)
        assert not alive(started)


async def test_what_the_signal_to_end_makes_a_process_start_is_ended(mark: str) -> None:
    restarting = "trap 'setsid sleep 600 & exit' TERM; echo 1; while :; do sleep 600 & wait; done"
    with shell(restarting, **{MARK_VARIABLE: mark}) as (parent, _):
        try:
            await process_ending.end([parent], mark, grace_s=2)
            assert await asyncio.to_thread(marked, mark) == []
        finally:
            await asyncio.to_thread(process_ending.kill, [], mark)


async def test_another_marks_processes_are_left_alone(mark: str) -> None:
    with shell("echo 1; exec sleep 600", **{MARK_VARIABLE: "another"}) as (other, _):
        await process_ending.end([], mark, grace_s=0.1)
        assert alive(other)


async def test_processes_that_take_their_time_hold_up_nothing_else(mark: str) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    marked = {MARK_VARIABLE: mark}
    with (
        shell("trap '' TERM; echo 1; exec sleep 600", **marked) as (deaf, _),
        shell("echo 1; exec sleep 600", **marked) as (obedient, _),
    ):
        ending = asyncio.create_task(process_ending.end([deaf], mark, grace_s=3600))
        async with asyncio.timeout(LIMIT_S):
            while alive(obedient):  # its end says that all have been told
                await asyncio.to_thread(lambda: None)
            # The one thread is free although the grace has just begun.
            await asyncio.to_thread(lambda: None)
            assert not ending.done()
            deaf.kill()
            await ending


async def test_no_file_stays_open_when_waiting_is_given_up(mark: str) -> None:
    with shell(DEAF, **{MARK_VARIABLE: mark}) as (parent, child):
        open_before = psutil.Process().num_fds()
        await process_ending.end([parent], mark, grace_s=0.1)
        assert psutil.Process().num_fds() == open_before
        assert not alive(parent), child
