"""Finding what agents have started, and counting its CPU, over real processes."""

from __future__ import annotations

import secrets
import sys
import time

import psutil
import pytest

from executor.agents import process_ending, process_tree, subreaper
from executor.agents.process_tree import MARK_VARIABLE
from tests.fakes.shells import shell

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses a POSIX shell")


@pytest.fixture
def mark() -> str:
    return secrets.token_hex(8)


def marked(mark: str) -> dict[str, str]:
    return {MARK_VARIABLE: mark}


def test_a_look_serves_all_who_asked_before_it_began_and_nobody_else() -> None:
    asked_s = time.monotonic()
    seen = process_tree.snapshot(asked_s)
    assert process_tree.snapshot(asked_s) is seen
    with shell("echo 1; exec sleep 600", **marked("new")) as (new, _):
        later = process_tree.snapshot(time.monotonic())
        assert new in later.marked("new")
        assert new not in seen.marked("new")


def test_a_snapshot_knows_what_is_below_at_any_depth(mark: str) -> None:
    nested = "sh -c 'sleep 600 & echo 1; wait' & wait"
    with shell(nested, **marked(mark)) as (top, _):
        root, *below = process_tree.tree(top.pid, time.monotonic())
        assert root == top
        assert sorted(process.name() for process in below) == ["sh", "sleep"]
        for process in below:
            process.kill()


def test_cpu_of_tools_counts_also_when_they_have_ended(mark: str) -> None:
    burn = f"{sys.executable} -IS -c 'import time\nwhile time.process_time() < 0.3: pass'"
    with shell(f"({burn}); echo 1; exec sleep 600", **marked(mark)) as (agent, _):
        assert process_tree.tools_cpu_s(agent.pid, mark) >= 0.25  # of 0.3, counted in steps


def test_the_agents_own_cpu_does_not_count(mark: str) -> None:
    burn = (
        "import time\nwhile time.process_time() < 0.3: pass\nprint(1, flush=True)\ntime.sleep(600)"
    )
    with shell(f'exec {sys.executable} -IS -c "{burn}"', **marked(mark)) as (agent, _):
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
        with shell(f"{daemon}; exec sleep 600", **marked(mark)) as (agent, pid):
            try:
                assert agent.children(recursive=True) == []
                assert process_tree.tools_cpu_s(agent.pid, mark) >= 0.25
            finally:
                process_ending.kill([], mark)
                psutil.Process(int(pid)).wait()
    finally:
        subreaper.adopt(on=False)


def test_nobodys_tools_use_nothing(mark: str) -> None:
    with shell("echo 1; exec sleep 600", **marked(mark)) as (ended, _):
        pass
    assert process_tree.tools_cpu_s(ended.pid, mark) == 0.0
