"""What holds for every test: nothing blocks the loop, nothing leaks, nothing of the machine shows.

The fixtures here are automatic. Each of them turns a rule of the system into a failing test.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import structlog
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings

from tests.fakes.docker_engine import OwnEngine

pytest_plugins = ["tests.fakes.ahead_fixtures", "tests.fakes.docker_fixtures"]

# The same examples everywhere and at any pace: what passes once passes always. Other examples are
# tried by `--hypothesis-profile=default`.
settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

OUR_PACKAGES = ["executor", "executor_manager", "shared"]

HARMLESS_CALLS = ("os.getcwd", "os.path.abspath", "os.path.samestat")
"""Watched by BlockBuster, but without I/O worth the name: microseconds, whatever the disk does."""

LEFTOVER_GRACE_S = 10.0
"""How long a process that has been told to end may take to vanish from the process table."""

OUR_VARIABLES = (
    "EXECUTOR_",
    "WEGENT_",
    "LOCAL_",
    "LOG_",
    "ANTHROPIC_",
    "CLAUDE",
    "MANAGER_",
    "WORKSPACE_",
    "CALLBACK_",
    "TASK_INFO",
    "PORT",
    "HOST",
    "DEBUG",
    "USER_ID",
    "SESSION_ID",
    "DEFAULT_MODEL",
    "DOCKER_",
    "OPENAI_",
    "GIT_",
    "SSL_CERT_",
    "NODE_EXTRA_CA_CERTS",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
)
"""Prefixes of the variables that change what our programs, the CLI, git or curl do."""


@pytest.fixture(autouse=True)
def _nothing_of_this_machine_shows(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An empty home, no settings, no proxy and no git configuration of whoever runs the tests."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(OUR_VARIABLES) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture(autouse=True, scope="session")
def _interrupts_arrive() -> Iterator[None]:
    """A shell lets what it starts in the background ignore SIGINT, and all its children with it."""
    inherited = signal.getsignal(signal.SIGINT)
    if inherited is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


@pytest.fixture(autouse=True)
def _the_event_loop_never_blocks() -> Iterator[None]:
    """A blocking call on the loop from, or on behalf of, our own code raises ``BlockingError``."""
    guard = BlockBuster(OUR_PACKAGES)
    for name in HARMLESS_CALLS:
        del guard.functions[name]
    for function in guard.functions.values():  # the loops of hooks and of agno are their own
        function.can_block_in("executor/hooks/thread.py", "_run")
        function.can_block_in("executor/agents/agno/own_loop.py", "_run")
    guard.activate()
    yield
    guard.deactivate()


@pytest.fixture(autouse=True)
def _logging_is_left_as_found() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> Iterator[None]:
    """Fails the test that started a process and did not end it; the process is killed.

    Processes that wider fixtures started before the test are theirs to end.
    """
    before = {child.pid for child in _children()}
    yield
    started = [
        child for child in _children() if child.pid not in before and not OwnEngine.has(child)
    ]
    if not started:
        return
    _, left = psutil.wait_procs(started, timeout=LEFTOVER_GRACE_S)
    names = [_describe(child) for child in left]
    for child in left:
        child.kill()
    psutil.wait_procs(left, timeout=LEFTOVER_GRACE_S)
    if names:
        pytest.fail(f"the test left processes behind: {names}")


def _children() -> list[psutil.Process]:
    """All processes that this one has started, at any depth.

    Looking for them takes milliseconds, since it is done among all of the machine; whether there
    are any is known at once.
    """
    if hasattr(os, "waitid"):
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return []
    return psutil.Process().children(recursive=True)


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:120]}"
    except psutil.Error:
        return str(process.pid)


@pytest.fixture
def repository_root() -> Path:
    """The checkout these tests belong to."""
    return Path(__file__).parent.parent
