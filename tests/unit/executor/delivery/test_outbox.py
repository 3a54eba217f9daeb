from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from executor.delivery.outbox import MAX_IN_FLIGHT, Outbox
from executor.delivery.state import StateStore
from shared.errors import LinkLost
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunKey, RunRef
from shared.protocol.local import RunAck, RunStanding

RUN = RunRef(7, 9)


def event(seq: int, run: RunRef = RUN) -> NumberedEvent:
    return NumberedEvent(run, seq, AgentEvent(EventType.WARNING, {"message": str(seq)}))


class Link:
    """A connection whose far side the test plays."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[tuple[NumberedEvent, asyncio.Future[RunAck | None]]] = (
            asyncio.Queue()
        )
        self.lost = False

    async def send_event(self, event: NumberedEvent) -> asyncio.Future[RunAck | None]:
        if self.lost:
            raise LinkLost("cut")
        answer: asyncio.Future[RunAck | None] = asyncio.get_running_loop().create_future()
        self.sent.put_nowait((event, answer))
        return answer

    async def take(self, count: int) -> list[int]:
        """The next *count* events' numbers, unanswered."""
        return [(await self.sent.get())[0].seq for _ in range(count)]

    async def ack(self, acked: int | None = None, **fields: object) -> int:
        """Answer the next event; returns its number."""
        event, answer = await self.sent.get()
        answer.set_result(
            RunAck(success=True, acked=event.seq if acked is None else acked)
            if not fields
            else RunAck.model_validate({"success": False, "acked": acked, **fields})
        )
        return event.seq


@asynccontextmanager
async def pumping(outbox: Outbox, link: Link, *, acks: bool = True) -> AsyncIterator[None]:
    async with asyncio.timeout(30):
        pump = asyncio.create_task(outbox.pump(link, acks=acks))
        try:
            yield
        finally:
            pump.cancel()
            with suppress(asyncio.CancelledError, LinkLost):
                await pump


@pytest.fixture
def superseded() -> list[RunKey]:
    return []


@pytest.fixture
async def outbox(store: StateStore, superseded: list[RunKey]) -> AsyncIterator[Outbox]:
    async with opened(store, superseded, retry_after_s=0) as outbox:
        yield outbox


@asynccontextmanager
async def opened(
    store: StateStore, superseded: list[RunKey], **options: Any
) -> AsyncIterator[Outbox]:
    outbox = await Outbox.open(store, on_superseded=superseded.append, **options)
    try:
        yield outbox
    finally:
        await outbox.close()


async def test_events_leave_in_order_and_are_gone_when_acknowledged(outbox: Outbox) -> None:
    for seq in (1, 2, 3):
        outbox.put(event(seq))
    link = Link()
    async with pumping(outbox, link):
        assert [await link.ack() for _ in range(3)] == [1, 2, 3]
        await outbox.wait_empty()
    assert outbox.depth == 0


async def test_several_events_are_in_flight_before_the_first_acknowledgement(
    outbox: Outbox,
) -> None:
    for seq in range(1, MAX_IN_FLIGHT + 2):
        outbox.put(event(seq))
    link = Link()
    async with pumping(outbox, link):
        first = await link.sent.get()
        await link.take(MAX_IN_FLIGHT - 1)
        assert link.sent.empty()
        first[1].set_result(RunAck(success=True, acked=1))
        assert await link.take(1) == [MAX_IN_FLIGHT + 1]


async def test_what_was_not_acknowledged_is_sent_again_on_the_next_connection(
    outbox: Outbox,
) -> None:
    for seq in (1, 2, 3):
        outbox.put(event(seq))
    first, second = Link(), Link()
    async with pumping(outbox, first):
        assert await first.ack() == 1
        assert await first.take(2) == [2, 3]
    outbox.put(event(4))
    async with pumping(outbox, second):
        assert [await second.ack() for _ in range(3)] == [2, 3, 4]
        await outbox.wait_empty()


async def test_an_event_the_cut_connection_did_not_take_stays(outbox: Outbox) -> None:
    outbox.put(event(1))
    link = Link()
    link.lost = True
    with pytest.raises(LinkLost):
        await outbox.pump(link, acks=True)
    assert outbox.depth == 1
    assert not outbox.connected


async def test_the_backends_standing_settles_what_it_already_has(
    outbox: Outbox, superseded: list[RunKey]
) -> None:
    other, third = RunRef(8, 10), RunRef(8, 11, attempt=2)
    for seq in (1, 2, 3):
        outbox.put(event(seq))
    outbox.put(event(1, other))
    outbox.put(event(1, third))
    outbox.register_standing(
        [
            RunStanding(subtask_id="9", seq=2),
            RunStanding(subtask_id=10, unknown=True),
            RunStanding(subtask_id=11, attempt=2, superseded=True),
        ]
    )
    assert superseded == [("10", 1), ("11", 2)]
    link = Link()
    async with pumping(outbox, link):
        assert await link.ack() == 3
        await outbox.wait_empty()


async def test_a_superseded_run_is_dropped_and_told(
    outbox: Outbox, superseded: list[RunKey]
) -> None:
    outbox.put(event(1))
    outbox.put(event(2))
    link = Link()
    async with pumping(outbox, link):
        await link.ack(code="superseded")
        await outbox.wait_empty()
    assert superseded == [RUN.key]


async def test_an_unusable_event_counts_as_committed(outbox: Outbox) -> None:
    outbox.put(event(1))
    link = Link()
    async with pumping(outbox, link):
        await link.ack(1, code="invalid")
        await outbox.wait_empty()


async def test_events_that_could_not_be_committed_are_sent_again_in_order(outbox: Outbox) -> None:
    for seq in (1, 2):
        outbox.put(event(seq))
    link = Link()
    async with pumping(outbox, link):
        await link.ack(0, code="internal")
        await link.ack(0, code="internal")
        assert [await link.ack() for _ in range(2)] == [1, 2]
        await outbox.wait_empty()


async def test_an_answer_without_content_commits_nothing_at_a_backend_that_acknowledges_by_number(
    outbox: Outbox,
) -> None:
    outbox.put(event(1))
    link = Link()
    async with pumping(outbox, link):
        _, answer = await link.sent.get()
        answer.set_result(None)
        assert await link.ack() == 1
        await outbox.wait_empty()


async def test_one_acknowledgement_settles_all_events_before_it(outbox: Outbox) -> None:
    for seq in range(1, MAX_IN_FLIGHT + 3):
        outbox.put(event(seq))
    link = Link()
    async with pumping(outbox, link):
        await link.take(MAX_IN_FLIGHT - 1)
        await link.ack()  # the others stay without an answer
        assert await link.take(1) == [MAX_IN_FLIGHT + 1]
        assert await link.ack() == MAX_IN_FLIGHT + 2
        await outbox.wait_empty()


async def test_a_backend_that_stops_acknowledging_costs_the_connection(
    store: StateStore, superseded: list[RunKey]
) -> None:
    async with opened(store, superseded, stuck_after_s=0.01) as outbox:
        outbox.put(event(1))
        with pytest.raises(LinkLost, match="acknowledged nothing"):
            await asyncio.wait_for(outbox.pump(Link(), acks=True), 30)
        assert outbox.depth == 1


class NeverCommits(Link):
    """Answers every event of one run, but never with an advance; all others are committed."""

    async def send_event(self, event: NumberedEvent) -> asyncio.Future[RunAck | None]:
        answer = await super().send_event(event)
        bad = event.run == RUN
        answer.set_result(
            RunAck(success=False, code="internal", acked=0)
            if bad
            else RunAck(success=True, acked=event.seq)
        )
        return answer


async def test_refusing_to_commit_again_and_again_is_no_advance_and_costs_the_connection(
    store: StateStore, superseded: list[RunKey]
) -> None:
    async with opened(store, superseded, stuck_after_s=0.05, retry_after_s=0) as outbox:
        outbox.put(event(1))
        with pytest.raises(LinkLost, match="acknowledged nothing"):
            await asyncio.wait_for(outbox.pump(NeverCommits(), acks=True), 30)


async def test_a_run_that_does_not_advance_costs_the_connection_though_others_do(
    store: StateStore, superseded: list[RunKey]
) -> None:
    other = RunRef(8, 10)
    async with opened(store, superseded, stuck_after_s=0.05, retry_after_s=0.01) as outbox:
        outbox.put(event(1))
        link = NeverCommits()
        pump = asyncio.create_task(outbox.pump(link, acks=True))
        seq = 0
        async with asyncio.timeout(30):
            while not pump.done():  # the other run advances all the time
                seq += 1
                outbox.put(event(seq, other))
                await asyncio.wait({pump}, timeout=0.005)
        with pytest.raises(LinkLost, match="acknowledged nothing"):
            await pump
        assert outbox.waits_for(RUN.key)


async def test_an_idle_connection_is_not_mistaken_for_a_stuck_one(
    store: StateStore, superseded: list[RunKey]
) -> None:
    link = Link()
    async with (
        opened(store, superseded, stuck_after_s=0.01) as outbox,
        pumping(outbox, link),
    ):
        loop = asyncio.get_running_loop()
        later = loop.create_future()
        loop.call_later(0.05, later.set_result, None)
        await later
        outbox.put(event(1))
        await link.ack()
        await outbox.wait_empty()


async def test_without_acknowledgements_time_on_the_connection_settles_an_event(
    store: StateStore, superseded: list[RunKey]
) -> None:
    gone = asyncio.Event()
    link = Link()
    async with (
        opened(store, superseded, assume_delivered_after_s=0.01) as outbox,
        pumping(outbox, link, acks=False),
    ):
        outbox.put(event(1))
        assert await link.take(1) == [1]
        while outbox.depth:
            asyncio.get_running_loop().call_later(0.01, gone.set)
            await gone.wait()
            gone.clear()


async def test_an_event_sent_just_before_the_end_of_a_connection_is_sent_to_a_base_backend_again(
    store: StateStore, superseded: list[RunKey]
) -> None:
    async with opened(store, superseded, assume_delivered_after_s=60) as outbox:
        outbox.put(event(1))
        for _ in range(2):
            link = Link()
            async with pumping(outbox, link, acks=False):
                assert await link.take(1) == [1]
        assert outbox.depth == 1


async def test_without_acknowledgements_empty_means_handed_over(outbox: Outbox) -> None:
    outbox.put(event(1))
    link = Link()
    async with pumping(outbox, link, acks=False):
        await outbox.wait_empty()
        assert await link.take(1) == [1]
    assert outbox.depth == 1


async def test_what_a_lost_connection_was_handed_is_not_taken_for_delivered(
    outbox: Outbox,
) -> None:
    outbox.put(event(1))
    async with pumping(outbox, Link(), acks=False):
        await outbox.wait_empty()
    settled = asyncio.create_task(outbox.wait_empty())
    await asyncio.sleep(0)
    assert not settled.done()
    link = Link()
    async with pumping(outbox, link, acks=False):
        await settled
        assert await link.take(1) == [1]


async def test_the_same_event_put_twice_is_sent_once(outbox: Outbox) -> None:
    outbox.put(event(1))
    outbox.put(event(1))
    link = Link()
    async with pumping(outbox, link):
        await link.ack()
        await outbox.wait_empty()
    assert link.sent.empty()


async def test_what_was_being_read_of_a_dropped_run_is_not_taken_for_its_successors(
    store: StateStore, superseded: list[RunKey]
) -> None:
    async with opened(store, superseded) as outbox:
        outbox.put(event(1))
        outbox.put(event(2))
        await store.events_after(0, 1)
        link = Link()
        async with pumping(outbox, link):
            await asyncio.sleep(0)  # its first page is on the way
            outbox.drop(RUN.key)
            outbox.put(NumberedEvent(RUN, 1, AgentEvent(EventType.STARTED, {})))
            first, answer = await link.sent.get()
            assert first.event.type == EventType.STARTED
            answer.set_result(RunAck(success=True, acked=1))
            await outbox.wait_empty()
        assert link.sent.empty()


async def test_a_repeat_of_what_still_waits_is_sent_once(outbox: Outbox) -> None:
    link = Link()
    async with pumping(outbox, link):
        outbox.put(event(1))
        assert await link.take(1) == [1]
        for seq in (1, 2):
            outbox.put(event(seq))
        assert await link.take(1) == [2]


async def test_an_unusable_event_counts_as_committed_though_the_answer_names_no_number(
    outbox: Outbox,
) -> None:
    outbox.put(event(1))
    link = Link()
    async with pumping(outbox, link):
        await link.ack(code="invalid")
        await outbox.wait_empty()


async def test_a_late_answer_does_not_count_for_the_next_run_of_its_key(outbox: Outbox) -> None:
    outbox.put(event(1))
    link = Link()
    async with pumping(outbox, link):
        _, late = await link.sent.get()
        outbox.drop(RUN.key)
        outbox.put(event(1))
        assert await link.take(1) == [1]
        late.set_result(RunAck(success=True, acked=1))
        await asyncio.sleep(0)  # the answer is read
        assert outbox.depth == 1


async def test_a_number_that_is_used_again_is_not_deleted_with_what_had_it_before(
    store: StateStore, superseded: list[RunKey]
) -> None:
    async with opened(store, superseded) as outbox:
        outbox.put(event(1))
        link = Link()
        async with pumping(outbox, link):
            await link.ack()
            await outbox.wait_empty()
            outbox.put(event(1))
            assert await link.take(1) == [1]
    async with opened(store, superseded) as outbox:
        assert outbox.depth == 1
