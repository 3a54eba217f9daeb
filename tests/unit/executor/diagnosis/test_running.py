"""Whether an executor is running with the home, as it says itself."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from executor.control.errors import ControlError
from executor.control.server import Answer, ControlServer
from executor.diagnosis.finding import Finding, State
from executor.diagnosis.running import look_at_running
from executor.home_lock import HomeLock

pytestmark = pytest.mark.skipif(os.name != "posix", reason="looks at a Unix socket")

STATUS = {
    "pid": 4711,
    "state": "registered",
    "since": "2026-01-01T12:00:00.000Z",
    "draining": False,
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir(mode=0o700)
    return tmp_path / "home"


def says(**status: Any) -> Answer:
    async def answer(_request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**STATUS, "last_error": None, **status}

    return answer


async def refuse(_request: Mapping[str, Any]) -> Mapping[str, Any]:
    raise ControlError("not now", hint="try again")


async def look(home: Path, answer: Answer) -> Finding:
    server = ControlServer(home, answer)
    await server.start()
    try:
        async with asyncio.timeout(30):
            return await asyncio.to_thread(look_at_running, home)
    finally:
        await server.close()


def test_a_home_without_an_executor_is_ok(home: Path) -> None:
    assert look_at_running(home) == Finding("executor", State.OK, "none is running with this home")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has locked a file")
def test_one_that_is_just_starting_is_ok(home: Path) -> None:
    lock = HomeLock.acquire(home)
    try:
        finding = look_at_running(home)
    finally:
        lock.release()

    assert finding == Finding(
        "executor", State.OK, f"pid {os.getpid()} is just starting, or ending"
    )


async def test_one_that_is_registered_is_ok(home: Path) -> None:
    finding = await look(home, says())

    assert finding.state is State.OK
    assert finding.what == "running (pid 4711), registered since 2026-01-01T12:00:00.000Z"


async def test_one_that_is_not_registered_is_a_warning_with_its_reason(home: Path) -> None:
    finding = await look(home, says(state="connecting", last_error="nobody is there"))

    assert finding.state is State.WARNING
    assert finding.what.startswith("running (pid 4711), not registered since ")
    assert finding.what.endswith(": nobody is there")
    assert finding.remedy == "see what it tries: wegent-executor logs -f"


async def test_one_that_stops_is_a_warning(home: Path) -> None:
    finding = await look(home, says(draining=True))

    assert (finding.state, "takes no new tasks" in finding.what) == (State.WARNING, True)
    assert finding.remedy == "wait for its end: wegent-executor status --watch"


async def test_one_that_does_not_answer_the_question_is_a_warning(home: Path) -> None:
    finding = await look(home, refuse)

    assert finding.state is State.WARNING
    assert "cannot be asked: not now" in finding.what
    assert finding.remedy == "try again"
