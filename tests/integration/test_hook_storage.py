"""The Workspace hook: the manifest, and ``output/`` in an object storage over real HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from executor.hooks import workspace
from executor.hooks.base import TaskConfig
from executor.hooks.object_storage import StorageFailed, StorageSettings
from executor.hooks.workspace import WorkspaceHook
from shared.protocol.events import AgentEvent, EventType
from tests.fakes.s3 import FakeS3, running_s3

CONFIG = TaskConfig(run_id="2", session_id="1", attempt=1, prompt="go", agent_type="claude_code")
CHANGED = {"files": [{"path": "a.txt", "status": "added"}]}


@pytest.fixture(autouse=True)
async def _bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(40):
        yield


@pytest.fixture
async def s3() -> AsyncIterator[FakeS3]:
    async with running_s3() as running:
        yield running


@pytest.fixture
def session(tmp_path: Path) -> Path:
    path = tmp_path / "sessions" / "1"
    (path / "output" / "deep").mkdir(parents=True)
    (path / "a.txt").write_text("hello")
    (path / "output" / "report.md").write_text("# done")
    (path / "output" / "deep" / "data.bin").write_bytes(b"\x00" * 1000)
    return path


def storage(s3: FakeS3) -> StorageSettings:
    return StorageSettings(
        bucket="bucket",
        region="eu-central-1",
        endpoint=s3.url,
        access_key="the-key",
        secret_key="the-secret",
    )


async def carried_out(
    session: Path, to: StorageSettings | None = None, *, success: bool = True
) -> None:
    """What a run tells the hook."""
    hook = WorkspaceHook(lambda session_id: session.parent / session_id, to)
    await hook.before_execution(CONFIG)
    await hook.on_event(AgentEvent(EventType.WORKSPACE_CHANGED, CHANGED))
    await hook.after_execution(success, None if success else "out of tea")


def manifest(session: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((session / ".wegent" / "manifest.json").read_text())
    return record


async def test_the_manifest_lists_every_file_with_its_checksum(session: Path) -> None:
    os.utime(session / "a.txt", ns=(0, 1_700_000_000_123_456_789))
    await carried_out(session, success=False)
    told = manifest(session)
    assert told["changed"] == CHANGED
    assert (told["session_id"], told["run_id"], told["attempt"]) == ("1", "2", 1)
    assert (told["success"], told["error"], told["truncated"]) == (False, "out of tea", False)
    assert [file["path"] for file in told["files"]] == [
        "a.txt",
        "output/report.md",
        "output/deep/data.bin",
    ]
    assert told["files"][0] == {
        "path": "a.txt",
        "size": 5,
        "sha256": hashlib.sha256(b"hello").hexdigest(),
        "modified": "2023-11-14T22:13:20.123456Z",
    }


async def test_a_file_that_has_not_changed_is_not_read_again(session: Path) -> None:
    await carried_out(session)
    record = manifest(session)
    record["files"][0]["sha256"] = "as it was"
    (session / ".wegent" / "manifest.json").write_text(json.dumps(record))
    (session / "output" / "report.md").write_text("# more")
    await carried_out(session)
    files = {file["path"]: file["sha256"] for file in manifest(session)["files"]}
    assert files["a.txt"] == "as it was"
    assert files["output/report.md"] == hashlib.sha256(b"# more").hexdigest()


async def test_a_manifest_is_bounded_and_says_so(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "MAX_FILES", 2)
    await carried_out(session)
    assert manifest(session)["truncated"] is True
    assert len(manifest(session)["files"]) == 2


async def test_a_later_runs_manifest_stays_when_an_earlier_run_is_slower(session: Path) -> None:
    await carried_out(session)
    record = {**manifest(session), "taken_at": "2999-01-01T00:00:00.000Z"}
    (session / ".wegent" / "manifest.json").write_text(json.dumps(record))
    await carried_out(session)
    assert manifest(session) == record


async def test_a_session_without_a_directory_gets_none(tmp_path: Path) -> None:
    hook = WorkspaceHook(lambda session_id: tmp_path / session_id, None)
    await hook.before_execution(CONFIG)
    await hook.after_execution(False, "no space left")
    assert list(tmp_path.iterdir()) == []


async def test_output_is_uploaded_and_what_is_stored_is_not_sent_again(
    session: Path, s3: FakeS3
) -> None:
    await carried_out(session, storage(s3))
    assert s3.objects == {
        "bucket/1/output/report.md": b"# done",
        "bucket/1/output/deep/data.bin": b"\x00" * 1000,
    }
    assert s3.authorizations == {"the-key"}
    (session / "output" / "report.md").write_text("# better")
    await carried_out(session, storage(s3))
    assert s3.puts[2:] == ["bucket/1/output/report.md"]
    assert s3.objects["bucket/1/output/report.md"] == b"# better"


async def test_a_file_of_many_megabytes_arrives_whole(session: Path, s3: FakeS3) -> None:
    content = bytes(range(256)) * 50_000
    (session / "output" / "big.bin").write_bytes(content)
    await carried_out(session, storage(s3))
    assert s3.objects["bucket/1/output/big.bin"] == content


async def test_a_name_that_no_storage_takes_keeps_the_other_files_from_nothing(
    session: Path, s3: FakeS3, caplog: pytest.LogCaptureFixture
) -> None:
    (session / "output" / "a\nb").write_text("strange")
    await carried_out(session, storage(s3))
    assert len(s3.objects) == 2
    assert "not uploaded" in caplog.text


async def test_a_storage_that_is_not_there_is_an_error(session: Path, s3: FakeS3) -> None:
    nowhere = StorageSettings("bucket", "here", "http://127.0.0.1:1", "the-key", "the-secret")
    with pytest.raises(StorageFailed):
        await carried_out(session, nowhere)


async def test_nothing_outside_of_output_is_uploaded_by_way_of_a_link(
    session: Path, s3: FakeS3, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("secret")
    (session / "output" / "key").symlink_to(tmp_path / "key")
    (session / "output" / "more").symlink_to(tmp_path)
    await carried_out(session, storage(s3))
    assert b"secret" not in s3.objects.values()
    assert len(s3.puts) == 2


async def test_an_output_that_is_a_link_is_not_followed(
    session: Path, s3: FakeS3, tmp_path: Path
) -> None:
    (session / "output").rename(tmp_path / "elsewhere")
    (session / "output").symlink_to(tmp_path / "elsewhere")
    await carried_out(session, storage(s3))
    assert s3.puts == []


async def test_a_storage_that_refuses_is_an_error_without_the_key(
    session: Path, s3: FakeS3
) -> None:
    s3.refuse = True
    with pytest.raises(StorageFailed) as refused:
        await carried_out(session, storage(s3))
    assert "1/output/" in str(refused.value)
    assert "the-secret" not in str(refused.value)
    assert manifest(session)["success"] is True  # the manifest was written before
    s3.refuse = False
    await carried_out(session, storage(s3))
    assert len(s3.objects) == 2


def test_no_key_shows_in_the_settings_of_a_storage() -> None:
    settings = StorageSettings("bucket", "here", access_key="the-key", secret_key="the-secret")
    assert "the-" not in repr(settings)
