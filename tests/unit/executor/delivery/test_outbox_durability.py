"""What the outbox holds outlives the process, at any moment, whatever happened before."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from executor.delivery.event_rows import Placed
from executor.delivery.outbox import Outbox
from executor.delivery.send_queue import MAX_RECENT
from executor.delivery.state import StateStore
from shared.errors import LinkLost
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunKey, RunRef, Source
from shared.protocol.local import RunAck, RunStanding
from tests.fakes.outbox import open_outbox

RUN = RunRef(7, "9")

NORMAL, FULL = 1, 2
"""Values of SQLite's ``PRAGMA synchronous``."""


def event(seq: int, run: RunRef = RUN, type_: str = EventType.WARNING) -> NumberedEvent:
    source = Source("a", agent_name="näme")
    return NumberedEvent(
        run, seq, AgentEvent(type_, {"message": f"{seq} ü"}, source), progress=seq % 100
    )


class Backend:
    """Commits each run's events in order, takes placeholders, drops repeats; never skips."""

    def __init__(self) -> None:
        self.committed: dict[RunKey, list[NumberedEvent]] = {}
        self.cut_after: int | None = None
        self.silent = False
        self.began = asyncio.Event()

    def last(self, key: RunKey) -> int:
        events = self.committed.get(key)
        return events[-1].seq if events else 0

    def standings(self, runs: list[RunRef]) -> list[RunStanding]:
        return [
            RunStanding(subtask_id=run.subtask_id, attempt=run.attempt, seq=self.last(run.key))
            for run in runs
        ]

    async def send_event(self, event: NumberedEvent) -> asyncio.Future[RunAck | None]:
        if self.cut_after is not None:
            if self.cut_after == 0:
                raise LinkLost("cut")
            self.cut_after -= 1
        self.began.set()
        answer: asyncio.Future[RunAck | None] = asyncio.get_running_loop().create_future()
        key, last = event.run.key, self.last(event.run.key)
        first = event.event.data.get("covers_from", event.seq)
        if event.seq > last and first <= last + 1:
            self.committed.setdefault(key, []).append(event)
        if not self.silent:
            answer.set_result(RunAck(success=True, acked=self.last(key)))
        return answer


@asynccontextmanager
async def pumping(outbox: Outbox, backend: Backend) -> AsyncIterator[None]:
    pump = asyncio.create_task(outbox.pump(backend, acks=True))
    try:
        yield
    finally:
        pump.cancel()
        with suppress(asyncio.CancelledError, LinkLost):
            await pump


async def test_an_event_comes_back_from_the_disk_as_it_was(tmp_path: Path) -> None:
    put = [event(1), event(2, type_="from.a-newer-peer"), event(3, type_=EventType.FAILED)]
    async with asyncio.timeout(30), open_outbox(tmp_path) as (_, outbox):
        for one in put:
            outbox.put(one)
    async with asyncio.timeout(30), open_outbox(tmp_path) as (_, outbox):
        assert (outbox.depth, outbox.waits_for(RUN.key)) == (3, True)
        backend = Backend()
        async with pumping(outbox, backend):
            await outbox.wait_empty()
    assert backend.committed[RUN.key] == put
    async with open_outbox(tmp_path) as (_, outbox):
        assert outbox.depth == 0


async def test_an_event_is_on_the_disk_before_it_is_sent(tmp_path: Path) -> None:
    backend = Backend()
    busy = threading.Event()
    async with (
        asyncio.timeout(30),
        open_outbox(tmp_path) as (store, outbox),
        pumping(outbox, backend),
    ):
        backend.silent = True
        outbox.put(event(1))
        await backend.began.wait()
        store._database.tell(lambda _: busy.wait(5))
        outbox.put(event(2))
        # The acknowledgement wakes the outbox up, but there is nothing that it may send.
        outbox.register_standing(backend.standings([RUN]))
        for _ in range(20):
            await asyncio.sleep(0)
        assert (outbox.depth, backend.last(RUN.key)) == (1, 1)
        backend.silent = False
        busy.set()
        await outbox.wait_empty()
    assert backend.last(RUN.key) == 2


@pytest.mark.parametrize(
    ("type_", "level"), [(EventType.REASONING, NORMAL), (EventType.COMPLETED, FULL)]
)
async def test_only_a_verdict_is_written_through_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, type_: str, level: int
) -> None:
    levels: list[int] = []
    async with asyncio.timeout(30), open_outbox(tmp_path) as (store, outbox):
        insert = store._insert

        def watched(db: sqlite3.Connection, placed: list[Placed]) -> int:
            levels.extend(db.execute("PRAGMA synchronous").fetchone())
            return insert(db, placed)

        monkeypatch.setattr(store, "_insert", watched)
        outbox.put(event(1, type_=type_))
        await store.events_after(0, 1)
    assert levels == [level]


async def test_far_more_events_than_fit_in_memory_keep_their_order(tmp_path: Path) -> None:
    count = 5 * MAX_RECENT
    other = RunRef(8, 10)
    backend = Backend()
    async with asyncio.timeout(30), open_outbox(tmp_path) as (_, outbox):
        for seq in range(1, count):
            outbox.put(event(seq))
            outbox.put(event(seq, other))
        async with pumping(outbox, backend):
            await backend.began.wait()
            for seq in range(count, 2 * count):  # and some more while it catches up
                outbox.put(event(seq))
            await outbox.wait_empty()
    assert [e.seq for e in backend.committed[RUN.key]] == list(range(1, 2 * count))
    assert [e.seq for e in backend.committed[other.key]] == list(range(1, count))


async def test_a_backend_that_has_forgotten_gets_a_placeholder_for_what_is_gone(
    tmp_path: Path,
) -> None:
    backend = Backend()
    async with asyncio.timeout(30), open_outbox(tmp_path) as (_, outbox):
        for seq in range(1, 6):
            outbox.put(event(seq))
        async with pumping(outbox, backend):
            await outbox.wait_empty()
        outbox.put(event(6))
        del backend.committed[RUN.key][2:]  # it has been restored from a backup
        outbox.register_standing(backend.standings([RUN]))
        async with pumping(outbox, backend):
            await outbox.wait_empty()
            del backend.committed[RUN.key][1:]  # again, while nothing waits
            outbox.register_standing(backend.standings([RUN]))
        async with pumping(outbox, backend):
            await outbox.wait_empty()
    told = [(e.seq, e.event.data.get("covers_from")) for e in backend.committed[RUN.key]]
    assert told == [(1, None), (6, 2)]


async def test_a_backend_that_forgets_while_connected_is_told_of_the_gap(tmp_path: Path) -> None:
    backend = Backend()
    async with (
        asyncio.timeout(30),
        open_outbox(tmp_path, retry_after_s=0) as (_, outbox),
        pumping(outbox, backend),
    ):
        for seq in (1, 2, 3):
            outbox.put(event(seq))
        await outbox.wait_empty()
        backend.committed.clear()
        outbox.put(event(4))
        await outbox.wait_empty()
    told = [(e.seq, e.event.data.get("covers_from")) for e in backend.committed[RUN.key]]
    assert told == [(3, 1), (4, None)]


async def test_a_backend_that_has_more_than_this_disk_moves_the_count(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as (_, outbox):
        outbox.know(RUN, 3)
        assert outbox.last_seq(RUN.key) == 3
        outbox.register_standing([RunStanding(subtask_id="9", seq=8)])
        assert (outbox.last_seq(RUN.key), outbox.depth) == (8, 0)


async def test_a_finished_runs_verdict_is_sent_again_after_a_restart(tmp_path: Path) -> None:
    verdict = event(2, type_=EventType.COMPLETED)
    async with asyncio.timeout(30), open_outbox(tmp_path) as (store, outbox):
        await store.accept(RUN)
        outbox.put(event(1))
        outbox.put(verdict)
        async with pumping(outbox, Backend()):
            await outbox.wait_empty()
    backend = Backend()
    async with asyncio.timeout(30), open_outbox(tmp_path, retry_after_s=0) as (store, outbox):
        (record,) = await store.runs()
        assert (record.state, record.last_seq) == ("finished", 2)
        outbox.repeat_verdict(RUN, 2)
        outbox.repeat_verdict(RUN, 2)
        assert outbox.depth == 1
        async with pumping(outbox, backend):  # it has forgotten the rest
            await outbox.wait_empty()
    first, second = backend.committed[RUN.key]
    assert (first.seq, first.event.data) == (1, {"covers_from": 1})
    assert second == verdict


async def test_a_dropped_run_leaves_nothing_for_its_successor_of_the_same_key(
    tmp_path: Path,
) -> None:
    backend = Backend()
    async with asyncio.timeout(30), open_outbox(tmp_path) as (_, outbox):
        for seq in (1, 2, 3):
            outbox.put(event(seq))
        outbox.drop(RUN.key)
        anew = event(1, type_="another.one")
        outbox.put(anew)
        async with pumping(outbox, backend):
            await outbox.wait_empty()
    assert backend.committed[RUN.key] == [anew]
    async with open_outbox(tmp_path) as (_, outbox):
        assert outbox.depth == 0


@pytest.mark.parametrize("seed", range(8))
async def test_random_puts_acks_cuts_and_reopens_lose_reorder_and_repeat_nothing(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    runs = [RunRef(n, f"run-{n}") for n in range(3)]
    put: dict[RunKey, int] = {run.key: 0 for run in runs}
    backend = Backend()
    for _ in range(6):
        async with (
            asyncio.timeout(30),
            open_outbox(tmp_path, retry_after_s=0, stuck_after_s=5) as (_, outbox),
        ):
            for run in runs:
                outbox.know(run, put[run.key])
            for _ in range(rng.randrange(1, 5)):
                for _ in range(rng.choice((0, 3, 700))):
                    run = rng.choice(runs)
                    put[run.key] += 1
                    outbox.put(event(put[run.key], run))
                outbox.register_standing(backend.standings(runs))
                backend.cut_after = rng.choice((0, 1, 50, None))
                backend.silent = rng.random() < 0.3
                async with pumping(outbox, backend):
                    for _ in range(rng.randrange(20)):
                        run = rng.choice(runs)
                        put[run.key] += 1
                        outbox.put(event(put[run.key], run))
                        await asyncio.sleep(rng.choice((0, 0.001)))
    backend.cut_after, backend.silent = None, False
    async with asyncio.timeout(30), open_outbox(tmp_path) as (_, outbox):
        outbox.register_standing(backend.standings(runs))
        async with pumping(outbox, backend):
            await outbox.wait_empty()
    for run in runs:
        told = backend.committed.get(run.key, [])
        assert told == [event_like(e, run) for e in told]
        assert [e.seq for e in told] == list(range(1, put[run.key] + 1))


def event_like(found: NumberedEvent, run: RunRef) -> NumberedEvent:
    """The event that was put with this number; its time is its own."""
    made = event(found.seq, run)
    return NumberedEvent(
        run,
        found.seq,
        AgentEvent(made.event.type, made.event.data, made.event.source, found.event.timestamp),
        progress=made.progress,
    )


async def test_what_is_written_down_of_a_run_follows_its_events(tmp_path: Path) -> None:
    async with asyncio.timeout(30), open_outbox(tmp_path) as (store, outbox):
        await store.accept(RUN)
        (record,) = await store.runs()
        assert (record.run, record.state, record.last_seq) == (RUN, "queued", 0)
        told = [
            AgentEvent(EventType.STARTED),
            AgentEvent(EventType.SESSION, {"sdk_session_id": "abc"}),
            AgentEvent(EventType.LLM_START, {"message_id": "m1"}, Source("a")),
            AgentEvent(EventType.LLM_START, {"message_id": "m2"}),
            AgentEvent(EventType.LLM_DONE, {"message_id": "m2", "content": ""}),
        ]
        for seq, one in enumerate(told, 1):
            outbox.put(NumberedEvent(RUN, seq, one, progress=10 * seq))
    store = await StateStore.open(tmp_path / "state.db")
    (record,) = await store.runs()
    assert (record.state, record.last_seq, record.progress) == ("running", 5, 50)
    assert record.sdk_session_id == "abc"
    assert record.open_messages == {"m1": Source("a")}
    store.forget_run(RUN.key)
    assert await store.runs() == []
    assert (await store.outstanding()).held == []
    await store.close()
