"""The disk of a running executor is full: it says so, refuses, stands still, and then goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench._full_disk import DiskNotPermitted, SmallDisk, small_disk
from shared.protocol.local import LocalEvent
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.docker_mode import docker_process
from tests.fakes.model import reaching
from tests.fakes.processes import ExecutorProcess, executor_process, family, gone
from tests.fakes.runs import RUN_SECONDS
from tests.fakes.scripted_cli import ANSWER, install, script

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a stand-in for the CLI")


@asynccontextmanager
async def executor_on_small_disk(
    place: Path, *, full: bool = False, used: bool = False, only_sessions: bool = False
) -> AsyncIterator[tuple[FakeBackend, ExecutorProcess, SmallDisk]]:
    """A registered executor; or one that has just been started, with a disk that is full.

    Args:
        used: Whether an executor has already run in its home, and has used up its reserve.
        only_sessions: Whether its home is elsewhere.
    """
    home = (place if only_sessions else place / "small") / "home"
    settings = {
        "WEGENT_CLAUDE_PATH": str(install(place)),
        "WEGENT_EXECUTOR_LOG_DIR": str(place / "logs"),
        "LOCAL_SHUTDOWN_GRACE_SECONDS": "0",
        "LOCAL_ISOLATION": "none",
        "LOCAL_WORKSPACE_ROOT": str(place / "small" / "sessions"),
    }
    try:
        async with (
            asyncio.timeout(RUN_SECONDS),
            small_disk(place / "small", 48) as disk,
            open_backend() as backend,
        ):
            if used:
                async with executor_process(home, backend.url, TOKEN, **settings) as process:
                    await process.registered()
                (home / "reserve").unlink()  # or it would be enough to begin with
            if full:
                await disk.fill()
            async with executor_process(home, backend.url, TOKEN, **settings) as process:
                if not full:
                    await process.registered()
                yield backend, process, disk
    except DiskNotPermitted as exc:
        pytest.skip(f"NOT TESTED, a full disk: {exc}")


async def run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


def use_up_inodes(place: Path) -> list[Path]:
    """Make files until there is no room for another one."""
    made: list[Path] = []
    with suppress(OSError):
        while True:
            file = place / f"file-{len(made)}"
            file.touch()
            made.append(file)
    return made


async def dispatch(backend: FakeBackend, task_id: int, prompt: str, **fields: Any) -> Any:
    bot = {"agent_config": reaching("http://127.0.0.1:9")}
    request = {"task_id": task_id, "subtask_id": task_id, "prompt": prompt, "bot": bot, **fields}
    return await backend.send(LocalEvent.DISPATCH, request)


def stopped(process: ExecutorProcess) -> list[psutil.Process]:
    return [p for p in family(process.program.pid) if p.status() == psutil.STATUS_STOPPED]


async def test_a_full_disk_refuses_tasks_and_stops_agents_until_there_is_space(
    tmp_path: Path,
) -> None:
    async with executor_on_small_disk(tmp_path) as (backend, process, disk):
        prompt = script("word " * 300, pieces=300, pause_s=0.02)
        # Shorter than it will stand still: what stands is not what stalls.
        await dispatch(backend, 0, prompt, stall_timeout_seconds=1)
        await backend.expect(LocalEvent.CHAT_CHUNK)
        await disk.fill()
        await process.program.says("agents are paused")
        refused = await dispatch(backend, 1, "never")
        assert (refused["accepted"], refused["code"], refused["reason"]) == (False, "busy", "disk")
        async with asyncio.timeout(10):
            while not await asyncio.to_thread(stopped, process):
                pass
        clock = asyncio.get_running_loop()
        longer_than_a_stall = clock.create_future()
        clock.call_later(2.5, longer_than_a_stall.set_result, None)
        await longer_than_a_stall
        assert backend.payloads(LocalEvent.RESULT) == []
        await disk.free()
        await process.program.says("agents go on")
        result = await backend.expect(LocalEvent.RESULT)
        assert (result["status"], result["subtask_id"]) == ("completed", 0)
        text = "".join(chunk["chunk"] for chunk in backend.payloads(LocalEvent.CHAT_CHUNK))
        assert text == result["result"]["value"] == "word " * 300
        assert backend.seqs(0) == list(range(1, len(backend.seqs(0)) + 1))
        assert (await dispatch(backend, 2, "hello"))["accepted"]
        assert (await backend.expect(LocalEvent.RESULT))["result"]["value"] == ANSWER


async def test_a_full_disk_under_the_workspaces_alone_does_the_same(tmp_path: Path) -> None:
    async with executor_on_small_disk(tmp_path, only_sessions=True) as (backend, process, disk):
        await dispatch(backend, 0, script("word " * 300, pieces=300, pause_s=0.02))
        await backend.expect(LocalEvent.CHAT_CHUNK)
        await disk.fill()
        await process.program.says("agents are paused")
        refused = await dispatch(backend, 1, "never")
        assert (refused["accepted"], refused["code"], refused["reason"]) == (False, "busy", "disk")
        await disk.free()
        await process.program.says("agents go on")
        result = await backend.expect(LocalEvent.RESULT)
        assert (result["status"], result["result"]["value"]) == ("completed", "word " * 300)


async def test_docker_mode_takes_nothing_while_the_disk_of_its_sessions_is_full(
    tmp_path: Path,
) -> None:
    try:
        async with small_disk(tmp_path / "small", 48) as disk:
            settings = {"WORKSPACE_ROOT": str(tmp_path / "small")}
            async with docker_process(tmp_path, **settings) as executor:
                await disk.fill()
                await executor.program.says("new tasks are refused")
                refusal = await executor.client.error(
                    "POST", "/v1/tasks/execute", status=503, json={"session_id": "a", "prompt": "x"}
                )
                assert refusal["code"] == "busy"
                await disk.free()
                await executor.program.says("agents go on")
                await executor.client.execute(prompt=script("Hi."))
                assert (await executor.client.finished("1"))["result"] == "Hi."
    except DiskNotPermitted as exc:
        pytest.skip(f"NOT TESTED, a full disk: {exc}")


async def test_a_stop_on_a_full_disk_ends_in_order(tmp_path: Path) -> None:
    async with executor_on_small_disk(tmp_path) as (backend, process, disk):
        await dispatch(backend, 0, script("word " * 3000, pieces=3000, pause_s=0.02))
        await backend.expect(LocalEvent.CHAT_CHUNK)
        await disk.fill()
        await process.program.says("agents are paused")
        agents = family(process.program.pid)
        process.program.signal(signal.SIGTERM)
        assert await process.program.ended() == 0
        (left,) = (await backend.expect(LocalEvent.UNREGISTER))["runs"]
    assert (left["subtask_id"], left["state"]) == (0, "interrupted")
    assert await gone(agents)
    assert "Traceback" not in process.program.output


@pytest.mark.parametrize("used", [False, True], ids=["new home", "used home"])
async def test_a_start_on_a_full_disk_waits_for_space(tmp_path: Path, *, used: bool) -> None:
    async with executor_on_small_disk(tmp_path, full=True, used=used) as (backend, process, disk):
        await process.program.says("waiting for some")
        await disk.free()
        await process.registered()
        assert (await dispatch(backend, 0, "hello"))["accepted"]
        assert (await backend.expect(LocalEvent.RESULT))["result"]["value"] == ANSWER


async def test_a_start_waits_until_the_folder_of_the_workspaces_can_be_made(
    tmp_path: Path,
) -> None:
    place, home = tmp_path / "small", tmp_path / "home"
    try:
        async with small_disk(place, 4), open_backend() as backend:
            await run("mount", "-o", "remount,nr_inodes=8", str(place))
            files = await asyncio.to_thread(use_up_inodes, place)
            settings = {"LOCAL_WORKSPACE_ROOT": str(place / "sessions")}
            async with executor_process(home, backend.url, TOKEN, **settings) as process:
                await process.program.says("waiting for some")
                for file in files:
                    file.unlink()
                await process.registered()
    except DiskNotPermitted as exc:
        pytest.skip(f"NOT TESTED, a full disk: {exc}")


async def test_a_start_that_waits_for_space_can_be_stopped(tmp_path: Path) -> None:
    async with executor_on_small_disk(tmp_path, full=True) as (_, process, _):
        await process.program.says("waiting for some")
        process.program.signal(signal.SIGTERM)
        assert await process.program.ended() == 0
    assert "Traceback" not in process.program.output
