"""What the end-to-end tests share: a manager with an executor, and the built program."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from executor.agents.claude_code.location import bundled_claude
from tests.fakes.built_program import GIVEN_BINARY, built_program
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


@pytest.fixture(scope="session")
def claude() -> Path:
    """A CLI that is installed on the machine, for programs that bring none."""
    installed = bundled_claude()
    assert installed is not None
    return installed


@pytest.fixture(scope="session")
def binary() -> Path:
    """The program as one file, in a folder with nothing but what the build puts beside it.

    It is built once, in about a minute; `EXECUTOR_BINARY=dist/wegent-executor` takes one that is
    there.
    """
    if there := os.environ.get(GIVEN_BINARY):
        return Path(there).resolve()
    return built_program() / "wegent-executor"


@pytest.fixture(scope="session")
def program_folder() -> Path:
    """The program as a folder, for packages and services; it is built once."""
    return built_program("--onedir") / "wegent-executor"
