"""A stream ends with its run, which the verdict of one of its attempts need not be."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

from shared.protocol.events import EventType, RunRef
from shared.web.streams import PAGE_EVENTS, Streams
from tests.fakes.event_log import open_log, tell

FIRST = RunRef(7, 9)
SECOND = RunRef(7, 9, attempt=2)


async def test_a_stream_goes_on_over_the_verdict_of_an_attempt_that_has_given_way(
    tmp_path: Path,
) -> None:
    async with open_log(tmp_path) as (_, log), asyncio.timeout(30):
        await log.accept(FIRST)
        tell(log, FIRST, EventType.STARTED, EventType.FAILED)
        log.forget_run(FIRST.key)
        await log.accept(SECOND)
        tell(log, SECOND, EventType.STARTED)
        stream = Streams(log.hub).follow(log, "9", after=0, finished_at=None)
        names = []
        async with aclosing(stream):
            async for event in stream:
                names.append(event.event)
                if len(names) == 3:
                    tell(log, SECOND, EventType.COMPLETED)
    assert names == [
        EventType.STARTED,
        EventType.FAILED,
        EventType.STARTED,
        EventType.COMPLETED,
        "close",
    ]


async def test_a_verdict_that_is_read_slowly_ends_no_stream_when_another_attempt_has_begun(
    tmp_path: Path,
) -> None:
    async with open_log(tmp_path) as (_, log), asyncio.timeout(30):
        await log.accept(FIRST)
        tell(log, FIRST, EventType.STARTED, EventType.FAILED)
        async with aclosing(Streams(log.hub).follow(log, "9", after=0, finished_at=None)) as stream:
            await anext(stream)
            await anext(stream)
            log.forget_run(FIRST.key)
            await log.accept(SECOND)
            tell(log, SECOND, EventType.COMPLETED)
            names = [event.event async for event in stream]
    assert names == [EventType.COMPLETED, "close"]


async def test_what_is_no_number_in_json_is_shown_as_null(tmp_path: Path) -> None:
    async with open_log(tmp_path) as (_, log), asyncio.timeout(30):
        await log.accept(FIRST)
        tell(log, FIRST, EventType.COMPLETED, result=float("nan"))
        async with aclosing(Streams(log.hub).follow(log, "9", after=0, finished_at=None)) as stream:
            event = await anext(stream)
    assert '"data":{"result":null}' in str(event.data)


async def test_a_stop_ends_streams_without_goodbye_and_those_that_come_later_at_once(
    tmp_path: Path,
) -> None:
    async with open_log(tmp_path) as (_, log), asyncio.timeout(30):
        await log.accept(FIRST)
        tell(log, FIRST, EventType.STARTED)
        streams = Streams(log.hub)
        stream = streams.follow(log, "9", after=0, finished_at=None)
        await anext(stream)
        rest = asyncio.create_task(anext(stream, None))
        await log.after("9", 0)
        streams.close()
        assert await rest is None
        assert [e async for e in streams.follow(log, "9", after=0, finished_at=None)] == []


async def test_a_stream_without_traffic_shows_that_it_lives(tmp_path: Path) -> None:
    async with open_log(tmp_path) as (_, log), asyncio.timeout(30):
        await log.accept(FIRST)
        streams = Streams(log.hub, keepalive_seconds=0.01)
        stream = streams.follow(log, "9", after=0, finished_at=None)
        async with aclosing(stream):
            comments = [await anext(stream), await anext(stream)]
            tell(log, FIRST, EventType.STARTED)
            while (event := await anext(stream)).comment is not None:
                pass
    assert [comment.comment for comment in comments] == ["keep-alive"] * 2
    assert event.event == EventType.STARTED


async def test_whoever_does_not_read_on_holds_a_page_and_delays_nobody(tmp_path: Path) -> None:
    async with open_log(tmp_path) as (_, log), asyncio.timeout(30):
        await log.accept(FIRST)
        streams = Streams(log.hub)
        read: list[int] = []
        after = log.after

        class Counting:
            async def after(self, run_id: str, sequence: int, limit: int = PAGE_EVENTS):  # type: ignore[no-untyped-def] # the log's own
                page = await after(run_id, sequence, limit)
                read.append(len(page))
                return page

        tell(log, FIRST, *[EventType.REASONING] * (5 * PAGE_EVENTS))
        slow = streams.follow(Counting(), "9", after=0, finished_at=None)
        await anext(slow)
        tell(log, FIRST, EventType.COMPLETED)
        quick = streams.follow(log, "9", after=0, finished_at=None)
        seen = [event async for event in quick]
        assert len(seen) == 5 * PAGE_EVENTS + 2
        assert read == [PAGE_EVENTS]
        rest = [event.id async for event in slow]
        assert len(rest) == 5 * PAGE_EVENTS + 1
        assert rest[:-1] == [str(number) for number in range(2, 5 * PAGE_EVENTS + 2)]
