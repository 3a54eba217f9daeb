"""Input files of a request, in their folder."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from executor.tasks.staging.fetching import Fetcher
from executor.tasks.staging.input_files import Inputs
from shared.errors import Refusal, RunError
from shared.protocol.execution import ExecutionRequest, read_execution_request
from shared.status import ErrorCode
from tests.fakes.given_files import FileServer, serve

TOKEN = "s3cr3t-token"

backend = pytest.fixture(serve, name="backend")


@pytest.fixture
def session(tmp_path: Path) -> Path:
    path = tmp_path / "7"
    path.mkdir()
    return path


@pytest.fixture
async def inputs(backend: FileServer) -> AsyncIterator[Inputs]:
    fetcher = Fetcher(backend_url=backend.url, environ={}, timeout_s=5)
    yield Inputs(fetcher, max_file_bytes=2000, max_total_bytes=3000)


def request(*files: dict[str, Any], **fields: Any) -> ExecutionRequest:
    raw = {"task_id": 7, "subtask_id": 1, "prompt": "go", "input_files": list(files), **fields}
    return read_execution_request(raw)


def text(path: str, content: str = "x") -> dict[str, Any]:
    return {"path": path, "content": content}


async def place(inputs: Inputs, session: Path, *files: dict[str, Any], **fields: Any) -> None:
    wanted = request(*files, **fields)
    inputs.check(wanted)
    async with inputs.staged(wanted, session) as put:
        await asyncio.to_thread(put)


def files_in(session: Path) -> dict[str, str]:
    return {
        path.relative_to(session).as_posix(): path.read_text()
        for path in sorted(session.rglob("*"))
        if path.is_file() and path.name != ".staged"
    }


async def test_files_of_every_kind_land_in_the_folder(
    inputs: Inputs, session: Path, backend: FileServer
) -> None:
    await place(
        inputs,
        session,
        text("a.txt", "one"),
        {"path": "data/b.bin", "content_base64": "dHdv"},
        {"filename": "data/deep/c", "url": "/files/c", "size": 1000},
        auth_token=TOKEN,
    )

    assert files_in(session) == {
        "input/a.txt": "one",
        "input/data/b.bin": "two",
        "input/data/deep/c": "x" * 1000,
    }
    assert backend.authorizations == [f"Bearer {TOKEN}"]
    assert stat.S_IMODE((session / "input" / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((session / "input" / "a.txt").stat().st_mode) == 0o600


async def test_files_of_a_later_message_replace_them(inputs: Inputs, session: Path) -> None:
    await place(inputs, session, text("old/a.txt"), text("b.txt", "1"))
    await place(inputs, session, text("b.txt", "2"))

    assert files_in(session) == {"input/b.txt": "2"}


async def test_a_message_without_any_leaves_them(inputs: Inputs, session: Path) -> None:
    await place(inputs, session, text("a.txt"))
    await place(inputs, session)

    assert files_in(session) == {"input/a.txt": "x"}


async def test_the_same_files_again_leave_what_the_agent_has_made_of_them(
    inputs: Inputs, session: Path
) -> None:
    await place(inputs, session, text("a.txt"))
    (session / "input" / "a.txt").write_text("edited")
    await place(inputs, session, text("a.txt"))

    assert files_in(session) == {"input/a.txt": "edited"}


async def test_a_link_in_the_folders_place_is_replaced_and_not_followed(
    inputs: Inputs, session: Path, tmp_path: Path
) -> None:
    await place(inputs, session, text("a.txt"))
    (session / "input").rename(tmp_path / "moved")
    (session / "input").symlink_to(tmp_path / "moved")

    await place(inputs, session, text("a.txt"))

    assert not (session / "input").is_symlink()
    assert files_in(session) == {"input/a.txt": "x"}
    assert (tmp_path / "moved" / "a.txt").exists()


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"path": "b", "content_base64": "not base64!"}, "not valid Base64"),
        ({"path": "b", "url": "/files/missing"}, "answered 404"),
        ({"path": "b", "url": "/files/cut"}, "download failed"),
        ({"path": "b", "url": "/files/b", "size": 999}, "larger than 999"),
        ({"path": "b", "url": "/files/b", "size": 1001}, "1000 bytes instead of the 1001"),
        ({"path": "b", "content": "x" * 2001}, "larger than 2000 bytes"),
    ],
)
async def test_a_file_that_cannot_be_used_is_named_and_leaves_what_was_there(
    inputs: Inputs, session: Path, file: dict[str, Any], words: str
) -> None:
    await place(inputs, session, text("old.txt"))

    with pytest.raises(RunError, match=words) as raised:
        await place(inputs, session, text("a.txt"), file)

    assert raised.value.error_code is ErrorCode.ATTACHMENT_FAILED
    assert "'b'" in str(raised.value)
    assert files_in(session) == {"input/old.txt": "x"}
    assert [path.name for path in session.iterdir()] == ["input"]


async def test_all_files_together_are_bounded(inputs: Inputs, session: Path) -> None:
    with pytest.raises(RunError, match="'b': it is larger than 1000 bytes"):
        await place(inputs, session, text("a", "x" * 2000), text("b", "x" * 1001))

    assert list(session.iterdir()) == []


async def test_a_download_that_hangs_ends_by_its_timeout(
    session: Path, backend: FileServer
) -> None:
    inputs = Inputs(Fetcher(backend_url=backend.url, environ={}, timeout_s=0.2))

    with pytest.raises(RunError, match="took too long"):
        await place(inputs, session, {"path": "a", "url": "/files/hang"})

    assert list(session.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "field"),
    [
        ({"path": "a", "url": "file:///etc/passwd"}, "input_files.0.url"),
        ({"path": "a", "url": "/a", "size": 2001}, "input_files.0.size"),
        ({"path": ".Staged", "content": ""}, "input_files.0.filename"),
    ],
)
def test_what_cannot_be_placed_is_refused_by_name(
    inputs: Inputs, file: dict[str, Any], field: str
) -> None:
    with pytest.raises(Refusal, match=field) as raised:
        inputs.check(request(file))

    assert raised.value.error_code is ErrorCode.INVALID_REQUEST
