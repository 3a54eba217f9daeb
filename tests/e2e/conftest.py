"""What the end-to-end tests share: one manager and one executor for a whole file of tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.fakes.git_server import make_repository
from tests.fakes.processes import ExecutorProcess, ManagerProcess, system


@dataclass(frozen=True)
class System:
    """A manager, and an executor that keeps no agent's process between two runs."""

    manager: ManagerProcess
    executor: ExecutorProcess


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """For tests marked with ``asyncio(loop_scope="module")``; they bring their model along.

    Nothing is kept warm: a process that outlives its test would count as left behind.
    """
    place = tmp_path_factory.mktemp("system")
    async with system(place, CLAUDE_MAX_WARM_SESSIONS="0") as (manager, executor):
        yield System(manager, executor)


@pytest.fixture
def repository(tmp_path: Path) -> str:
    """The address of a small repository on this machine."""
    path = make_repository(tmp_path / "greeter", {"greeting.txt": "hello\n", "README.md": "# Hi\n"})
    return path.as_uri()
