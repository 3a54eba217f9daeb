"""Docker mode in this process, where whatever blocks the event loop fails the test."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from executor.bootstrap.docker import run_docker
from executor.config.docker import DockerSettings
from executor.delivery.session_rows import SessionRecord
from executor.delivery.state import StateStore
from executor.home_lock import HomeLock
from executor.signals import StopSignals
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunRef
from shared.redaction import Redactor
from tests.fakes import scripted_cli
from tests.fakes.docker_mode import LISTENING, DockerClient
from tests.fakes.outbox import open_outbox
from tests.fakes.scripted_cli import script


@asynccontextmanager
async def serving(
    place: Path, capsys: pytest.CaptureFixture[str], **variables: str
) -> AsyncIterator[DockerClient]:
    """An executor that is told to stop at the end; it has to do so with status 0."""
    usual = {
        "WEGENT_EXECUTOR_HOME": str(place / "home"),
        "WORKSPACE_ROOT": str(place / "workspace"),
        "WEGENT_CLAUDE_PATH": str(scripted_cli.install(place)),
        "ANTHROPIC_API_KEY": "sk-of-the-executor",
        "LOCAL_ISOLATION": "none",
        "PORT": "0",
    }
    settings = await asyncio.to_thread(lambda: DockerSettings(**{**usual, **variables}))  # type: ignore[arg-type]  # as text, like an environment
    stop = StopSignals()
    async with asyncio.timeout(40):
        running = asyncio.create_task(run_docker(settings, stop, Redactor()))
        said = ""
        while LISTENING not in said:
            assert not running.done() or running.result() is None
            await asyncio.sleep(0.01)
            said += capsys.readouterr().out
        async with DockerClient(said.partition(LISTENING)[2].strip(), None) as client:
            yield client
        stop.request()
        assert await running == 0


async def test_what_local_mode_keeps_in_the_same_home_is_not_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, run = tmp_path / "home", RunRef(7, 9)
    home.mkdir(mode=0o700)
    async with open_outbox(home) as (store, outbox):
        await store.accept(run)
        outbox.put(NumberedEvent(run, 1, AgentEvent(EventType.STARTED, {})))
    async with serving(tmp_path, capsys) as client:
        await client.error("GET", "/v1/tasks/9", status=404)
    async with open_outbox(home) as (store, outbox):
        assert outbox.depth == 1
        assert [record.run for record in await store.runs()] == [run]


async def test_a_task_with_a_large_file_is_carried_out_without_holding_anybody_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = base64.b64encode(os.urandom(8 * 2**20)).decode()
    async with serving(tmp_path, capsys) as client:
        task = {
            "task_id": 1,
            "subtask_id": 1,
            "prompt": script("Hi."),
            "attachments": [{"filename": "large.bin", "content_base64": content}],
        }
        body = io.BytesIO(json.dumps(task).encode())
        await client.ask("POST", "/api/tasks/execute", data=body)
        run = await client.finished("1")

    assert run["state"] == "completed"
    stored = await asyncio.to_thread((tmp_path / "workspace/1/attachments/large.bin").stat)
    assert stored.st_size == 8 * 2**20


async def test_sessions_of_long_ago_are_forgotten_with_their_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, root = tmp_path / "home", tmp_path / "workspace"
    home.mkdir(mode=0o700)
    (root / "2").mkdir(parents=True)
    store = await StateStore.open(home / "docker.db")
    for session_id in ("1", "2"):
        store.save_session(SessionRecord(session_id, "claude_code", None, root, None))
    await store.submit(lambda db: db.execute("UPDATE sessions SET updated_at = '2000'").close())
    await store.close()
    async with serving(tmp_path, capsys) as client:
        listed = None
        while listed != ["2"]:
            sessions = (await client.ask("GET", "/api/tasks/sessions"))["sessions"]
            listed = [session["session_id"] for session in sessions]


async def test_a_stop_without_runs_is_quick_and_clean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path, capsys) as client:
        assert (await client.ask("GET", "/health"))["status"] == "ok"

    lock = await asyncio.to_thread(HomeLock.acquire, tmp_path / "home")  # nobody has it any more
    lock.release()
