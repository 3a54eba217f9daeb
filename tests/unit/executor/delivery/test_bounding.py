"""Beyond its bounds the outbox gives up its oldest events, never a verdict, and says which."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from executor.delivery.bounding import Bounds
from executor.delivery.outbox import Outbox
from executor.delivery.state import StateStore
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunRef
from shared.protocol.local import RunStanding

RUN, OTHER = RunRef(7, 9), RunRef(8, 10)

KB = 1024


class Teller:
    """Numbers what is put, like the reporter."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.seqs: dict[RunRef, int] = {}

    def tell(self, type_: str, run: RunRef = RUN, **data: Any) -> None:
        self.seqs[run] = seq = self.seqs.get(run, 0) + 1
        self.outbox.put(NumberedEvent(run, seq, AgentEvent(type_, data)))


async def shrunk(store: StateStore, bounds: Bounds, after: int = 0) -> list[NumberedEvent]:
    """What is left within *bounds*."""
    while await store.shrink(bounds, after):
        pass
    return [event for _, event in await store.events_after(0, 10_000)]


def shape(events: list[NumberedEvent], run: RunRef = RUN) -> list[tuple[int, int]]:
    """What each event covers; contiguous when each begins where the one before ended."""
    return [(e.event.data.get("covers_from", e.seq), e.seq) for e in events if e.run == run]


def contiguous(covered: list[tuple[int, int]]) -> bool:
    firsts, lasts = zip(*covered, strict=True)
    return list(firsts) == [1, *(last + 1 for last in lasts[:-1])]


@pytest.fixture
async def teller(store: StateStore) -> Teller:
    return Teller(Outbox(store, await store.outstanding(), on_superseded=lambda _: None))


async def test_too_large_the_oldest_range_becomes_one_placeholder(
    store: StateStore, teller: Teller
) -> None:
    for _ in range(40):
        teller.tell(EventType.REASONING, content="x" * KB)
    events = await shrunk(store, Bounds(max_bytes=20 * KB))
    covered = shape(events)
    assert contiguous(covered)
    assert covered[0][0] == 1
    assert covered[0][1] > 20
    assert covered[1:] == [(seq, seq) for seq in range(covered[0][1] + 1, 41)]
    assert events[0].event.type == EventType.TRUNCATED


async def test_placeholders_that_meet_become_one(store: StateStore, teller: Teller) -> None:
    for round_ in range(1, 5):
        for _ in range(40):
            teller.tell(EventType.REASONING, content="x" * KB)
        covered = shape(await shrunk(store, Bounds(max_bytes=20 * KB)))
        assert contiguous(covered)
        assert covered[-1][1] == 40 * round_
        assert [first for first, last in covered if first != last] == [1]


async def test_a_placeholder_is_widened_by_what_a_backend_has_forgotten_before_it(
    store: StateStore, teller: Teller
) -> None:
    for _ in range(40):
        teller.tell(EventType.REASONING, content="x" * KB)
    store.delete_acknowledged({RUN.key: 5})
    first, *others = shape(await shrunk(store, Bounds(max_bytes=20 * KB)))
    assert first[0] == 6
    outbox = await Outbox.open(store, on_superseded=lambda _: None)
    known = RunStanding(subtask_id=RUN.subtask_id, attempt=RUN.attempt, seq=2)
    outbox.register_standing([known])
    events = [event for _, event in await store.events_after(0, 10_000)]
    assert shape(events) == [(3, first[1]), *others]
    await outbox.close()


async def test_a_verdict_stays_whatever_its_size_and_age(store: StateStore, teller: Teller) -> None:
    for run in (RUN, OTHER):
        for _ in range(5):
            teller.tell(EventType.REASONING, run, content="x" * KB)
        teller.tell(EventType.COMPLETED, run, result="y" * 30 * KB)
    events = await shrunk(store, Bounds(max_bytes=KB, max_age_s=-1))
    assert shape(events) == [(1, 5), (6, 6)]
    assert shape(events, OTHER) == [(1, 5), (6, 6)]
    assert [e.event.data.get("result") for e in events if e.event.terminal] == ["y" * 30 * KB] * 2


async def test_what_is_too_old_goes_even_when_there_is_room(
    store: StateStore, teller: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        teller.tell(EventType.REASONING, content="old")
    await store.events_after(0, 1)
    monkeypatch.setattr(store, "_began", store._began + 3600)
    store_now = store.now()
    teller.tell(EventType.REASONING, content="new")
    await store.events_after(0, 1)
    assert store.now() >= store_now
    assert shape(await shrunk(store, Bounds(max_age_s=1800))) == [(1, 3), (4, 4)]


async def test_what_is_on_its_way_stays(store: StateStore, teller: Teller) -> None:
    for _ in range(10):
        teller.tell(EventType.REASONING, content="x" * KB)
    third = (await store.events_after(0, 3))[-1][0]
    events = await shrunk(store, Bounds(max_bytes=KB), after=third)
    assert shape(events) == [(1, 1), (2, 2), (3, 3), (4, 10)]


@pytest.mark.parametrize("ended_before", [True, False])
async def test_the_end_of_a_message_says_that_chunks_are_missing(
    store: StateStore, teller: Teller, ended_before: bool
) -> None:
    teller.tell(EventType.LLM_START, message_id="lossy")
    for offset in range(10):
        teller.tell(EventType.LLM_STREAM, message_id="lossy", content="x" * KB, offset=offset * KB)
    if ended_before:
        teller.tell(EventType.LLM_DONE, message_id="lossy", content="x")
    await store.shrink(Bounds(max_bytes=8 * KB), 0)
    if not ended_before:
        teller.tell(EventType.LLM_DONE, message_id="lossy", content="x")
    teller.tell(EventType.LLM_START, message_id="whole")
    teller.tell(EventType.LLM_STREAM, message_id="whole", content="y", offset=0)
    teller.tell(EventType.LLM_DONE, message_id="whole", content="y")
    events = [event for _, event in await store.events_after(0, 100)]
    ends = {
        e.event.data["message_id"]: e.event.data.get("truncated")
        for e in events
        if e.event.type == EventType.LLM_DONE
    }
    assert ends == {"lossy": True, "whole": None}


async def test_an_outbox_that_nobody_empties_keeps_itself_within_its_bounds(
    store: StateStore, tmp_path: Path
) -> None:
    outbox = await Outbox.open(
        store, on_superseded=lambda _: None, bounds=Bounds(max_bytes=64 * KB)
    )
    teller = Teller(outbox)
    for _ in range(40):
        for _ in range(50):
            teller.tell(EventType.REASONING, content="x" * KB)
        await store.events_after(0, 1)
    async with asyncio.timeout(30):
        while len(events := [e for _, e in await store.events_after(0, 10_000)]) > 400:
            pass
    assert contiguous(shape(events))
    assert outbox.depth == 2000
    await outbox.close()
