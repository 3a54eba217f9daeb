"""An executor that serves one session, in a directory that somebody else has chosen."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from executor.tasks.bound_session import bound_session
from executor.tasks.workspace import Workspaces
from shared.errors import Refusal, RunError
from shared.protocol.execution import ExecutionRequest, read_execution_request
from shared.status import ErrorCode
from tests.fakes.git_server import make_repository


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "source" / "calc", {"a.txt": "a\n"})


def make_workspaces(tmp_path: Path, **changes: Any) -> Workspaces:
    return Workspaces(
        tmp_path / "unused",
        private_dir=tmp_path / "private",
        clone_timeout_s=30,
        allow_local_repositories=True,
        environ=dict(os.environ),
        backend_url=None,
        session_dir=tmp_path / "workspace",
        **changes,
    )


def request(task_id: int | str = 7, **fields: Any) -> ExecutionRequest:
    return read_execution_request({"task_id": task_id, "subtask_id": 1, "prompt": "go", **fields})


async def test_the_first_session_gets_the_directory_and_keeps_it(
    tmp_path: Path, source: Path
) -> None:
    workspaces = make_workspaces(tmp_path)
    (tmp_path / "workspace").mkdir(mode=0o755)
    assert workspaces.bound_session is None

    workspace = await workspaces.prepare(request(git_url=source.as_uri()))

    assert workspaces.bound_session == "7"
    assert workspace.session_dir == tmp_path / "workspace"
    assert workspace.cwd == tmp_path / "workspace" / "calc"
    assert stat.S_IMODE(workspace.session_dir.stat().st_mode) == 0o755
    assert not (tmp_path / "unused").exists()
    workspaces.check(request("7"))
    again = await workspaces.prepare(request("7"), workspace.cwd)
    assert again.checkout == workspace.checkout


async def test_any_other_session_is_refused(tmp_path: Path) -> None:
    workspaces = make_workspaces(tmp_path)
    workspaces.check(request(8))  # whose it is is not known before a run begins
    await workspaces.prepare(request())

    with pytest.raises(Refusal, match="another than the only one") as refused:
        workspaces.check(request(8))
    with pytest.raises(RunError, match="serves another session") as failed:
        await workspaces.prepare(request(8))

    assert refused.value.error_code is ErrorCode.INVALID_REQUEST
    assert failed.value.error_code is ErrorCode.WORKSPACE_ERROR


async def test_a_session_that_is_known_from_the_start_is_the_only_one(tmp_path: Path) -> None:
    workspaces = make_workspaces(tmp_path, session_id="7")

    workspaces.check(request())
    with pytest.raises(Refusal):
        workspaces.check(request(8))


async def test_of_two_sessions_that_begin_at_once_one_gets_the_directory(tmp_path: Path) -> None:
    workspaces = make_workspaces(tmp_path)

    prepared = await asyncio.gather(
        *(workspaces.prepare(request(task_id)) for task_id in (7, 8)), return_exceptions=True
    )

    assert sorted(isinstance(one, RunError) for one in prepared) == [False, True]


async def test_the_directory_says_whose_it_is_at_the_next_start(tmp_path: Path) -> None:
    place = tmp_path / "workspace"
    assert await asyncio.to_thread(bound_session, place) is None
    await make_workspaces(tmp_path).prepare(request())
    (tmp_path / "link").symlink_to(place)

    for path in (place, tmp_path / "link"):
        assert await asyncio.to_thread(bound_session, path) == "7"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"session_id": 7}', '{"session_id": ""}'])
async def test_a_directory_that_says_it_in_no_way_we_know_is_nobodys(
    tmp_path: Path, content: str
) -> None:
    await make_workspaces(tmp_path).prepare(request())
    (tmp_path / "workspace" / ".wegent" / "session.json").write_text(content)

    assert await asyncio.to_thread(bound_session, tmp_path / "workspace") is None
