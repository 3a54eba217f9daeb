"""A disk that is really full: a small tmpfs under the executor's home, or under its workspaces."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from executor.delivery.bounds import MAX_DATA_BYTES
from executor.delivery.outbox import Outbox
from executor.delivery.reserve import RESERVE_BYTES
from executor.delivery.state import StateStore
from executor.session_places import OUTPUT
from executor.tasks import disk_room
from executor.tasks.run_handler import Run
from executor.tasks.supervisor import Supervisor
from executor.tasks.workspace_disk import WorkspaceDisk
from shared.errors import LinkLost, Refusal
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunRef
from shared.protocol.local import RunAck
from shared.status import ErrorCode
from tests.fakes.agent import ScriptedAgent, in_process
from tests.fakes.agent_jobs import make_request
from tests.fakes.git_server import make_repository, serving
from tests.fakes.supervised import Handler, Records, Reports, request

SIZE_BYTES = 4 * RESERVE_BYTES


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own with 16 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    options = ["-o", f"size={SIZE_BYTES}", "none", str(folder)]
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", *options], capture_output=True, text=True)
    except OSError as exc:
        pytest.skip(f"NOT TESTED, a full disk: {exc}")
    if mounted.returncode:
        pytest.skip(f"NOT TESTED, a full disk: may not mount here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


class Disk:
    """The file system, and somebody else who uses it."""

    def __init__(self, home: Path) -> None:
        self._filler = home / "somebody-elses"

    def fill(self) -> None:
        """Leave nothing."""
        with self._filler.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"\0" * 4096)

    def free(self) -> None:
        """Give all of it back."""
        self._filler.unlink()


class Troubles:
    """What the listener was told."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[str | None] = asyncio.Queue()

    async def next(self) -> str | None:
        async with asyncio.timeout(10):
            return await self.told.get()


class Backend:
    def __init__(self) -> None:
        self.events: list[NumberedEvent] = []

    async def send_event(self, event: NumberedEvent) -> asyncio.Future[RunAck | None]:
        self.events.append(event)
        answer: asyncio.Future[RunAck | None] = asyncio.get_running_loop().create_future()
        answer.set_result(RunAck(success=True, acked=event.seq))
        return answer


@asynccontextmanager
async def opened(home: Path) -> AsyncIterator[tuple[StateStore, Outbox, Troubles]]:
    store = await StateStore.open(home / "state.db")
    troubles = Troubles()
    store.on_disk_trouble(troubles.told.put_nowait)
    outbox = await Outbox.open(store, on_superseded=lambda _: None)
    try:
        yield store, outbox, troubles
    finally:
        await outbox.close()
        await store.close()


def event(run: RunRef, seq: int, type_: str, size: int) -> NumberedEvent:
    return NumberedEvent(run, seq, AgentEvent(type_, {"content": os.urandom(size // 2).hex()}))


async def test_a_full_disk_is_told_once_and_every_verdict_is_still_written(home: Path) -> None:
    disk = Disk(home)
    runs = [RunRef(1, n) for n in range(4)]
    async with opened(home) as (store, outbox, troubles):
        for run in runs:
            await store.accept(run)
        await asyncio.to_thread(disk.fill)
        # More than is left in the pages that the files have already.
        seq = 0
        while troubles.told.empty():
            seq += 1
            outbox.put(event(runs[0], seq, EventType.REASONING, 100_000))
            await store.events_after(0, 1)
        assert "no more writes" in str(await troubles.next())
        outbox.put(event(runs[0], seq + 1, EventType.FAILED, 10_000))
        for run in runs[1:]:
            outbox.put(event(run, 1, EventType.FAILED, 100_000))
        async with asyncio.timeout(10):
            held = {h.run: h for h in (await store.outstanding()).held}
        assert [held[run].ended for run in runs] == [True] * 4
        assert troubles.told.empty()
        assert not (home / "reserve").exists()
    async with opened(home) as (store, outbox, troubles):  # a start with a disk that is full
        assert "too little space" in str(await troubles.next())
        assert {r.run: r.state for r in await store.runs()} == dict.fromkeys(runs, "finished")
        backend = Backend()
        pump = asyncio.create_task(outbox.pump(backend, acks=True))
        async with asyncio.timeout(10):
            await outbox.wait_empty()
        pump.cancel()
        with suppress(asyncio.CancelledError, LinkLost):
            await pump
        assert len([e for e in backend.events if e.event.terminal]) == 4
        await asyncio.to_thread(disk.free)
        assert await troubles.next() is None
        assert (home / "reserve").stat().st_size == RESERVE_BYTES
        await store.accept(RunRef(2, "later"))


async def test_the_reserve_holds_the_largest_verdicts_of_all_slots_and_those_of_a_full_queue(
    home: Path,
) -> None:
    disk = Disk(home)
    runs = [RunRef(1, n) for n in range(104)]
    async with opened(home) as (store, outbox, troubles):
        for run in runs:
            await store.accept(run)
        await asyncio.to_thread(disk.fill)
        for run in runs:
            size = MAX_DATA_BYTES if int(run.subtask_id) < 4 else 1000
            outbox.put(event(run, 1, EventType.FAILED, size))
        async with asyncio.timeout(50):
            held = (await store.outstanding()).held
        assert [h.ended for h in held] == [True] * 104
        assert await troubles.next() is not None


async def test_without_any_space_everything_waits_and_nothing_is_lost(home: Path) -> None:
    disk = Disk(home)
    run = RunRef(1, 1)
    async with opened(home) as (store, outbox, troubles):
        await asyncio.to_thread(disk.fill)
        seq = 0
        while troubles.told.empty():
            seq += 1
            outbox.put(event(run, seq, EventType.REASONING, 100_000))
            await store.events_after(0, 1)
        await asyncio.to_thread(disk.fill)  # the reserve, too
        for _ in range(60):
            seq += 1
            outbox.put(event(run, seq, EventType.REASONING, 100_000))
        outbox.put(event(run, seq + 1, EventType.COMPLETED, 100))
        accepting = store.accept(RunRef(2, 2))
        await asyncio.wait({accepting}, timeout=0.1)
        assert not accepting.done()
        backend = Backend()
        pump = asyncio.create_task(outbox.pump(backend, acks=True))
        await asyncio.to_thread(disk.free)
        async with asyncio.timeout(50):
            await accepting
            await outbox.wait_empty()
        pump.cancel()
        with suppress(asyncio.CancelledError, LinkLost):
            await pump
        assert [e.seq for e in backend.events] == list(range(1, seq + 2))
        assert await troubles.next() is not None
        assert await troubles.next() is None


class Waiting:
    """A run that has met the full disk, with what it has told so far."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.told: list[AgentEvent] = []
        self._came = asyncio.Event()
        self.over = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for event in self.run.events():
            self.told.append(event)
            self._came.set()

    async def warned(self) -> str:
        """Wait until it says that it waits."""
        async with asyncio.timeout(50):
            while not (warnings := [e for e in self.told if e.type == EventType.WARNING]):
                self._came.clear()
                await self._came.wait()
        return str(warnings[0].data["message"])

    async def verdict(self) -> AgentEvent:
        async with asyncio.timeout(50):
            await self.over
        return self.told[-1]


@asynccontextmanager
async def meeting_the_full_disk(
    home: Path, disk: Disk, **fields: Any
) -> AsyncIterator[tuple[ScriptedAgent, Waiting]]:
    agent = ScriptedAgent()
    async with in_process(agent, home) as handler:
        await asyncio.to_thread(disk.fill)
        waiting = Waiting(handler.start(make_request(**fields)))
        assert "disk is full" in await waiting.warned()
        yield agent, waiting


ATTACHMENT = {"filename": "a", "content_base64": base64.b64encode(os.urandom(100_000)).decode()}


@pytest.mark.parametrize("what", ["clone", "attachment"])
async def test_a_run_whose_preparation_meets_the_full_disk_waits_for_room_and_goes_on(
    home: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_room, "FIRST_PAUSE_S", 0.1)
    disk = Disk(home)
    source = tmp_path / "source" / "project.git"
    await asyncio.to_thread(make_repository, source, {"data": os.urandom(200_000).hex()})
    async with serving(source.parent) as server:
        fields: dict[str, dict[str, Any]] = {
            "clone": {"git_url": server.url("project")},
            "attachment": {"attachments": [ATTACHMENT]},
        }
        async with meeting_the_full_disk(home, disk, **fields[what]) as (agent, waiting):
            assert agent.jobs == []
            await asyncio.to_thread(disk.free)
            verdict = await waiting.verdict()
    assert verdict.type == EventType.COMPLETED, verdict.data
    assert [e.type for e in waiting.told].count(EventType.WARNING) == 1
    place = home / "workspace" / "1"
    found = place / ("project/data" if what == "clone" else "attachments/a")
    assert found.stat().st_size >= 100_000
    assert {p.name for p in place.iterdir()} == {found.parent.name, OUTPUT}


async def test_a_run_that_waits_for_room_can_be_cancelled(home: Path) -> None:
    disk = Disk(home)
    async with meeting_the_full_disk(home, disk, attachments=[ATTACHMENT]) as (_, waiting):
        await waiting.run.cancel("enough")
        verdict = await waiting.verdict()
        await asyncio.to_thread(disk.free)
    assert (verdict.type, verdict.data["reason"]) == (EventType.CANCELLED, "enough")


@asynccontextmanager
async def supervised(home: Path) -> AsyncIterator[tuple[Supervisor, Reports]]:
    """Runs as local mode has them: paused and refused by what the state store meets."""
    async with in_process(ScriptedAgent(), home) as handler:
        reports = Reports()
        supervisor = Supervisor(
            handler, reports, handler.state, max_concurrent=2, queue_limit=2, timeout_s=60
        )
        handler.state.on_disk_trouble(supervisor.disk_trouble)
        yield supervisor, reports
        async with asyncio.timeout(50):
            await supervisor.close()


LARGE = {
    "filename": "a",
    "content_base64": base64.b64encode(os.urandom(RESERVE_BYTES + 2**20)).decode(),
}
"""More than is left when the reserve is given up."""


async def test_a_run_accepted_as_the_disk_fills_waits_while_others_are_refused(home: Path) -> None:
    disk = Disk(home)
    async with supervised(home) as (supervisor, reports):
        await asyncio.to_thread(disk.fill)
        await supervisor.submit(make_request(attachments=[LARGE])).written()
        with pytest.raises(Refusal) as refused:
            supervisor.submit(make_request(task_id=2, subtask_id=2))
        assert (refused.value.error_code, refused.value.reason) == (ErrorCode.BUSY, "disk")
        ended = asyncio.create_task(reports.verdict(1))
        await asyncio.wait({ended}, timeout=0.5)
        assert not ended.done()
        await asyncio.to_thread(disk.free)
        verdict = await ended
    assert verdict.type == EventType.COMPLETED, verdict.data
    assert (home / "workspace" / "1" / "attachments" / "a").stat().st_size > RESERVE_BYTES


async def test_a_run_waits_for_room_no_longer_than_its_time(home: Path) -> None:
    disk = Disk(home)
    async with supervised(home) as (supervisor, reports):
        await asyncio.to_thread(disk.fill)
        supervisor.submit(make_request(attachments=[LARGE], timeout_seconds=0.5))
        verdict = await reports.verdict(1)
        await asyncio.to_thread(disk.free)
    assert verdict.data["error_code"] == "timed_out"


@pytest.fixture
def small(home: Path) -> Path:
    """The small disk, for sessions to work on; the home is elsewhere."""
    return home


async def test_a_full_disk_of_sessions_refuses_tasks_and_pauses_agents_until_there_is_room(
    small: Path, tmp_path: Path
) -> None:
    disk, handler, troubles = Disk(small), Handler(), Troubles()
    supervisor = Supervisor(
        handler, Reports(), Records(), max_concurrent=2, queue_limit=2, timeout_s=60
    )

    def tell(trouble: str | None) -> None:
        supervisor.disk_trouble(trouble, disk="workspace")
        troubles.told.put_nowait(trouble)

    workspaces = WorkspaceDisk(small / "workspace", tmp_path, tell, look_every_s=0.05)
    (small / "workspace").mkdir()
    workspaces.start()
    try:
        supervisor.submit(request(1, 10))
        run = await handler.started.get()
        for _ in range(2):  # it recovers by itself, and does so again
            run.paused.clear()
            run.resumed.clear()
            await asyncio.to_thread(disk.fill)
            assert await troubles.next() == f"the disk of {small / 'workspace'} is full"
            with pytest.raises(Refusal) as refused:
                supervisor.submit(request(2, 20))
            assert (refused.value.error_code, refused.value.reason) == (ErrorCode.BUSY, "disk")
            assert supervisor.free_slots == 0
            async with asyncio.timeout(5):
                await run.paused.wait()
            await asyncio.to_thread(disk.free)
            assert await troubles.next() is None
            async with asyncio.timeout(5):
                await run.resumed.wait()
        supervisor.submit(request(2, 20))
    finally:
        workspaces.close()
        async with asyncio.timeout(50):
            await supervisor.close()


async def test_a_disk_without_room_for_another_file_is_full(small: Path, tmp_path: Path) -> None:
    troubles, files = Troubles(), 0
    options = ["-o", "remount,nr_inodes=64", str(small)]
    await asyncio.to_thread(subprocess.run, ["mount", *options], check=True)
    workspaces = WorkspaceDisk(small, tmp_path, troubles.told.put_nowait, look_every_s=0.05)
    workspaces.start()
    try:
        with suppress(OSError):
            while True:
                (small / str(files)).touch()
                files += 1
        assert await troubles.next() is not None
        (small / "0").unlink()
        assert await troubles.next() is None
    finally:
        workspaces.close()


async def test_a_disk_that_is_the_homes_too_is_not_told_of_twice(home: Path) -> None:
    troubles = Troubles()
    (home / "workspace").mkdir()
    await asyncio.to_thread(Disk(home).fill)
    workspaces = WorkspaceDisk(
        home / "workspace", home, troubles.told.put_nowait, look_every_s=0.05
    )
    watching = set(threading.enumerate())
    workspaces.start()
    for thread in set(threading.enumerate()) - watching:
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive()
    await asyncio.sleep(0)
    assert troubles.told.empty()
