"""A cancel at every moment of a run: its verdict, its processes, and the session's next message."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import pytest_asyncio

from bench._full_disk import DiskNotPermitted, small_disk
from scripts.scripted_model import ScriptedModel
from shared.protocol.local import LocalEvent
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.model import reaching, scenario, step, text_step
from tests.fakes.processes import (
    START_SECONDS,
    ExecutorProcess,
    executor_process,
    family,
    gone,
    manager_process,
)
from tests.fakes.runs import RUN_SECONDS
from tests.fakes.scripted_cli import ANSWER, install, script
from tests.fakes.shells import alive
from tests.fakes.wire import open_wire

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="needs a stand-in for the CLI"),
    pytest.mark.asyncio(loop_scope="module"),
]

LONG_S = 86417
TALK = script("word " * 2000, pieces=2000, pause_s=0.5)
"""Goes on for a quarter of an hour."""


@dataclass
class Session:
    """One session of an executor whose CLI is a stand-in, and the backend that it serves."""

    backend: FakeBackend
    process: ExecutorProcess
    task_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    runs: int = field(default=0)

    async def dispatch(self, prompt: str, **fields: Any) -> str:
        """Send the next message; its subtask."""
        self.runs += 1
        subtask = f"{self.task_id}-{self.runs}"
        bot = {"agent_config": reaching("http://127.0.0.1:9")}
        request = {"task_id": self.task_id, "subtask_id": subtask, "prompt": prompt, "bot": bot}
        assert (await self.backend.send(LocalEvent.DISPATCH, request | fields))["accepted"]
        return subtask

    async def cancel(self, subtask: str) -> str:
        """Cancel; the answer."""
        cancel = {"task_id": self.task_id, "subtask_id": subtask, "reason": "changed my mind"}
        return str((await self.backend.send(LocalEvent.CANCEL, cancel))["state"])

    async def expect(self, event: LocalEvent) -> dict[str, Any]:
        """The next such event of this session."""
        async with asyncio.timeout(RUN_SECONDS):
            while True:
                told: dict[str, Any] = await self.backend.expect(event)
                if told["task_id"] == self.task_id:
                    return told

    async def progress(self, event: str) -> None:
        """Wait until a run tells this."""
        while True:
            told = (await self.expect(LocalEvent.PROGRESS))["event"]
            if f"{told['category']}.{told['action']}" == event:
                return

    async def is_cancelled(self, subtask: str) -> None:
        """Its verdict is a cancel with its reason, and there is only this one."""
        result = await self.expect(LocalEvent.RESULT)
        assert (result["subtask_id"], result["status"]) == (subtask, "cancelled")
        assert result["message"].endswith("changed my mind")
        assert await self.cancel(subtask) == "finished"

    async def goes_on(self) -> None:
        """The next message gets its answer."""
        subtask = await self.dispatch("and now?")
        result = await self.expect(LocalEvent.RESULT)
        assert (result["subtask_id"], result["status"]) == (subtask, "completed")
        assert result["result"]["value"] == ANSWER


@asynccontextmanager
async def opened(
    place: Path,
    cli: Path | None = None,
    *,
    home: Path | None = None,
    backend: FakeBackend | None = None,
) -> AsyncIterator[Session]:
    """A session of an executor of its own; *cli* is its agent's program, else the stand-in."""
    chosen = {"WEGENT_CLAUDE_PATH": str(cli or install(place)), "LOCAL_ISOLATION": "none"}
    async with (
        nullcontext(backend) if backend is not None else open_backend() as backend,
        executor_process(home or place / "home", backend.url, TOKEN, **chosen) as process,
    ):
        await process.registered()
        yield Session(backend, process)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Session]:
    async with opened(tmp_path_factory.mktemp("shared")) as session:
        yield session


@pytest_asyncio.fixture(loop_scope="module")
async def it(shared: Session) -> AsyncIterator[Session]:
    """A session of an executor that all tests share; its agent ends with the test."""
    session = Session(shared.backend, shared.process)
    yield session
    agents = family(session.process.program.pid)
    await session.backend.send(LocalEvent.CLOSE, {"task_id": session.task_id})
    assert await gone(agents)


async def test_before_its_dispatch(it: Session) -> None:
    subtask = f"{it.task_id}-1"
    assert await it.cancel(subtask) == "unknown"
    assert await it.dispatch(TALK) == subtask
    await it.is_cancelled(subtask)
    begun = [told["subtask_id"] for told in it.backend.payloads(LocalEvent.PROGRESS)]
    assert subtask not in begun
    await it.goes_on()


async def test_while_it_waits_for_the_run_before_it(it: Session) -> None:
    first = await it.dispatch(TALK)
    second = await it.dispatch("never")
    await it.expect(LocalEvent.CHAT_CHUNK)
    await it.cancel(second)
    await it.is_cancelled(second)
    await it.cancel(first)
    await it.is_cancelled(first)
    await it.goes_on()


async def test_while_it_waits_to_be_dispatched_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as it:
        subtask = await it.dispatch(TALK)
        await it.expect(LocalEvent.CHAT_CHUNK)
        it.process.program.signal(signal.SIGKILL)
        await it.process.program.ended()
        async with opened(tmp_path, backend=it.backend) as again:
            it.process = again.process
            assert await it.cancel(subtask) == "cancelling"
            await it.is_cancelled(subtask)
            await it.goes_on()


async def test_while_its_repository_is_cloned(it: Session) -> None:
    asked, never = asyncio.Event(), asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await never.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        subtask = await it.dispatch("never", git_url=f"http://{host}:{port}/slow.git")
        await asked.wait()
        cloning = family(it.process.program.pid)
        assert any("git" in process.name() for process in cloning)
        await it.cancel(subtask)
        await it.is_cancelled(subtask)
        assert await gone(cloning)
        await it.goes_on()
    finally:
        never.set()
        server.close()


async def test_while_its_agent_starts(tmp_path: Path) -> None:
    here = tmp_path / "here"
    os.mkfifo(here)
    stuck = tmp_path / "stuck"
    working = install(tmp_path)
    # The first time it says where it is and then nothing more; after that it works.
    stuck.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec {working} --version\n'
        f"if mkdir {tmp_path / 'once'} 2>/dev/null; then echo $$ >{here};"
        f' exec sleep {LONG_S}; fi\nexec {working} "$@"\n'
    )
    stuck.chmod(0o755)
    async with opened(tmp_path, stuck) as it:
        subtask = await it.dispatch("never")
        pid = int(await asyncio.to_thread(here.read_text))
        starting = psutil.Process(pid)
        await it.cancel(subtask)
        await it.is_cancelled(subtask)
        assert await gone([starting])
        await it.goes_on()


async def test_in_the_middle_of_a_turn(it: Session) -> None:
    subtask = await it.dispatch(TALK)
    await it.expect(LocalEvent.CHAT_CHUNK)
    assert await it.cancel(subtask) == "cancelling"
    assert (await it.expect(LocalEvent.CHAT_ERROR))["subtask_id"] == subtask
    await it.is_cancelled(subtask)
    await it.goes_on()


async def test_when_nothing_obeys(it: Session) -> None:
    deaf = script("go on", tool_s=LONG_S, child_s=LONG_S, stubborn=True, deaf=True)
    subtask = await it.dispatch(deaf)
    await it.progress("llm.tool_call")
    agents = await _until_there(it.process.program.pid, 3)
    await it.cancel(subtask)
    await it.is_cancelled(subtask)
    # The verdict came when all of them had ended.
    assert not [process for process in agents if alive(process)]
    await it.goes_on()


async def _until_there(pid: int, count: int) -> Sequence[psutil.Process]:
    """The processes below *pid*, once there are this many; a start tells nobody."""
    while len(found := await asyncio.to_thread(family, pid)) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return found


async def test_while_the_user_is_asked(it: Session) -> None:
    subtask = await it.dispatch(script("first then", asks=True))
    question = await it.expect(LocalEvent.INPUT_REQUIRED)
    await it.cancel(subtask)
    await it.is_cancelled(subtask)
    answer = {"task_id": it.task_id, "subtask_id": subtask, "request_id": question["request_id"]}
    late = await it.backend.send(LocalEvent.INPUT, {**answer, "decision": "deny"})
    assert late["success"] is False
    await it.goes_on()


async def test_while_agents_are_paused_because_the_disk_is_full(tmp_path: Path) -> None:
    try:
        async with small_disk(tmp_path / "small", 48) as disk:
            home = tmp_path / "small" / "home"
            async with asyncio.timeout(RUN_SECONDS), opened(tmp_path, home=home) as it:
                subtask = await it.dispatch(script("word " * 2000, pieces=2000, pause_s=0.02))
                await it.expect(LocalEvent.CHAT_CHUNK)
                await disk.fill()
                await it.process.program.says("agents are paused")
                await it.cancel(subtask)
                await it.is_cancelled(subtask)
                await disk.free()
                await it.process.program.says("agents go on")
                await it.goes_on()
    except DiskNotPermitted as exc:
        pytest.skip(f"NOT TESTED, a full disk: {exc}")


async def test_during_a_disconnect_it_takes_effect_when_the_executor_is_back(
    tmp_path: Path,
) -> None:
    scenarios = [
        scenario(step({"text": "I begin. "}, {"gate": "work"}, {"text": "Done."}), prompt="work"),
        scenario(text_step("here again"), prompt="go on"),
    ]
    async with (
        ScriptedModel(scenarios) as model,
        manager_process(tmp_path / "manager") as manager,
        open_wire(urlsplit(manager.url).port or 0) as wire,
    ):
        config = reaching(model.url)
        url = f"http://127.0.0.1:{wire.port}"
        fast = {"LOCAL_RECONNECT_DELAY": "0.2", "LOCAL_RECONNECT_MAX_DELAY": "0.5"}
        home = tmp_path / "executor"
        async with executor_process(home, url, manager.executor_token, **fast) as process:
            await process.registered()
            async with manager.following("work", config) as live:
                await live.reaches(model.gate("work"))
                await wire.refuse()
                wire.cut()
                async with asyncio.timeout(START_SECONDS):
                    await process.program.says("lost the connection")
                await manager.client.cancel(live.task_id, "changed my mind")
                await wire.listen()
                run = await live.finished()
            assert run.verdict == ("cancelled", None)
            assert run.kinds[-1] == "lifecycle.cancelled"
            after = await manager.run("go on", config, live.session_id)
            assert after.answer == "here again"
