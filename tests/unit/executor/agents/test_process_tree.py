"""Ending what agents have started, and counting its CPU, over real processes."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from executor.agents import process_tree, subreaper
from executor.agents.process_tree import MARK_VARIABLE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses a POSIX shell")


@contextmanager
def shell(command: str, mark: str) -> Iterator[tuple[psutil.Process, int]]:
    """A shell that runs *command*, and the number that it prints first."""
    with subprocess.Popen(
        ["/bin/sh", "-c", command],
        env={"PATH": os.environ["PATH"], MARK_VARIABLE: mark},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield psutil.Process(process.pid), int(process.stdout.readline())
        finally:
            process.kill()


@pytest.fixture
def mark() -> str:
    return secrets.token_hex(8)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_what_was_started_after_the_look_and_carries_no_mark_is_ended(mark: str) -> None:
    with shell("env -i setsid sleep 600 & echo $!; wait", mark) as (parent, child):
        # Only the parent has been seen.
        await process_tree.end([parent], mark, grace_s=2)
        assert gone(parent.pid)
        assert gone(child)


async def test_what_ignores_the_signal_to_end_is_killed_with_all_that_it_started(
    mark: str,
) -> None:
    deaf = "trap '' TERM; setsid sleep 600 & echo $!; while :; do wait; done"
    with shell(deaf, mark) as (parent, child):
        await process_tree.end([parent], mark, grace_s=0.2)
        assert gone(parent.pid)
        assert gone(child)


async def test_another_marks_processes_are_left_alone(mark: str) -> None:
    with shell("echo 1; exec sleep 600", "another") as (other, _):
        await process_tree.end([], mark, grace_s=0.1)
        assert other.is_running()


def test_cpu_of_tools_counts_also_when_they_have_ended(mark: str) -> None:
    burn = f"{sys.executable} -IS -c 'import time\nwhile time.process_time() < 0.3: pass'"
    with shell(f"({burn}); echo 1; exec sleep 600", mark) as (agent, _):
        assert process_tree.tools_cpu_s(agent.pid, mark) >= 0.25  # of 0.3, counted in steps


def test_the_agents_own_cpu_does_not_count(mark: str) -> None:
    burn = (
        "import time\nwhile time.process_time() < 0.3: pass\nprint(1, flush=True)\ntime.sleep(600)"
    )
    with shell(f'exec {sys.executable} -IS -c "{burn}"', mark) as (agent, _):
        assert process_tree.tools_cpu_s(agent.pid, mark) < 0.1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
def test_cpu_of_a_daemon_that_has_left_the_tree_counts(mark: str) -> None:
    assert subreaper.adopt()
    burn = (
        "import os, time\nwhile time.process_time() < 0.3: pass\n"
        "print(os.getpid(), flush=True)\ntime.sleep(600)"
    )
    daemon = f'(setsid {sys.executable} -IS -c "{burn}" &)'
    try:
        with shell(f"{daemon}; exec sleep 600", mark) as (agent, pid):
            try:
                assert process_tree.descendants(agent.pid) == []
                assert process_tree.tools_cpu_s(agent.pid, mark) >= 0.25
            finally:
                process_tree.kill([], mark)
                psutil.Process(pid).wait()
    finally:
        subreaper.adopt(on=False)


def test_nobodys_tools_use_nothing(mark: str) -> None:
    with shell("echo 1; exec sleep 600", mark) as (ended, _):
        pass
    assert process_tree.tools_cpu_s(ended.pid, mark) == 0.0
