"""The log keeps what was read, numbers over all attempts, and lets go of it in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from executor.delivery.bounding import Bounds
from executor.delivery.callback_book import CallbackBook
from executor.delivery.event_log import EventLog
from executor.delivery.state import StateStore
from executor.modes.local.progress_reporter import ProgressReporter
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunRef
from shared.protocol.execution import ExecutionRequest
from shared.redaction import Redactor
from tests.fakes.event_log import open_log, tell

FIRST = RunRef(7, 9)
SECOND = RunRef(7, 9, attempt=2)
DAY = 24 * 3600.0


async def sequences(log: EventLog, after: int = 0, run_id: str = "9") -> list[tuple[int, str]]:
    return [(event.sequence, event.type) for event in await log.after(run_id, after)]


async def test_what_was_read_can_be_read_again_from_any_place(tmp_path: Path) -> None:
    async with open_log(tmp_path) as (_, log):
        await log.accept(FIRST)
        tell(log, FIRST, EventType.STARTED, EventType.REASONING, EventType.COMPLETED)
        assert [number for number, _ in await sequences(log)] == [1, 2, 3]
        assert await sequences(log, after=1) == [
            (2, EventType.REASONING),
            (3, EventType.COMPLETED),
        ]
        assert await sequences(log, after=3) == await sequences(log, after=99) == []
        assert [event.sequence for event in await log.after("9", 0, limit=2)] == [1, 2]
        assert await sequences(log, run_id="another") == []


async def test_a_restart_changes_nothing_of_what_can_be_read(tmp_path: Path) -> None:
    async with open_log(tmp_path) as (_, log):
        await log.accept(FIRST)
        tell(log, FIRST, EventType.STARTED, EventType.REASONING)
        before = await log.after("9", 0)
    async with open_log(tmp_path) as (_, log):
        assert await log.after("9", 0) == before
        assert log.last_seq(FIRST.key) == log.last_sequence("9") == 2
        tell(log, FIRST, EventType.COMPLETED)
        assert (await sequences(log, after=2)) == [(3, EventType.COMPLETED)]


async def test_the_numbers_go_on_over_attempts_and_only_the_newest_verdict_is_the_end(
    tmp_path: Path,
) -> None:
    async with open_log(tmp_path) as (_, log):
        await log.accept(FIRST)
        tell(log, FIRST, EventType.STARTED, EventType.FAILED)
        assert [event.ends_run for event in await log.after("9", 0)] == [False, True]
        log.drop(FIRST.key)
        log.forget_run(FIRST.key)
        await log.accept(SECOND)
        tell(log, FIRST, EventType.REASONING)  # that attempt has given way
        tell(log, SECOND, EventType.STARTED, EventType.COMPLETED)
        expected = [
            (1, EventType.STARTED),
            (2, EventType.FAILED),
            (3, EventType.STARTED),
            (4, EventType.COMPLETED),
        ]
        assert await sequences(log) == expected
        assert await sequences(log, after=1) == expected[1:]
        assert [event.ends_run for event in await log.after("9", 0)] == [False, False, False, True]
        # One page may hold the end of one attempt and the beginning of the next.
        assert [event.sequence for event in await log.after("9", 0, limit=3)] == [1, 2, 3]
    async with open_log(tmp_path) as (store, log):
        assert await sequences(log) == expected
        assert [record.run for record in await store.runs()] == [SECOND]


async def test_an_attempt_that_was_given_up_before_its_verdict_stays_in_the_log(
    tmp_path: Path,
) -> None:
    async with open_log(tmp_path) as (_, log):
        await log.accept(FIRST)
        tell(log, FIRST, EventType.STARTED)
        log.forget_run(FIRST.key)
        await log.accept(SECOND)
        await asyncio.sleep(0)
        tell(log, SECOND, EventType.STARTED)
        assert await sequences(log) == [(1, EventType.STARTED), (2, EventType.STARTED)]
        standing = await log.standing("9")
        assert standing is not None
        assert (standing.run, standing.sequence) == (SECOND, 2)


async def test_a_forgotten_run_leaves_nothing(tmp_path: Path) -> None:
    async with open_log(tmp_path) as (store, log):
        await log.accept(FIRST)
        tell(log, FIRST, EventType.STARTED, EventType.FAILED)
        log.forget_run(FIRST.key)
        await asyncio.sleep(0)
        assert await sequences(log) == []
        assert await log.standing("9") is None
        assert log.last_sequence("9") == 0
        assert (await store.outstanding()).held == []
        assert await store.runs() == []


@pytest.mark.parametrize(("days", "known"), [(6.9, True), (7.1, False)])
async def test_a_finished_run_can_be_replayed_for_seven_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: float, known: bool
) -> None:
    awake = 1000.0
    monkeypatch.setattr("executor.delivery.state.time.monotonic", lambda: awake)
    bounds = Bounds(max_age_s=30 * DAY)
    async with open_log(tmp_path, bounds=bounds) as (_, log):
        await log.accept(FIRST)
        await log.accept(RunRef(7, 10))
        tell(log, FIRST, EventType.STARTED, EventType.COMPLETED)
        tell(log, RunRef(7, 10), EventType.STARTED)
        assert len(await sequences(log)) == 2
    store = await StateStore.open(tmp_path / "state.db")
    awake += days * DAY
    log = await EventLog.open(store, bounds=bounds)
    assert bool(await sequences(log)) == known
    assert bool(await log.standing("9")) == known
    assert len(await sequences(log, run_id="10")) == 1  # it has no verdict
    await log.close()
    await store.close()


@asynccontextmanager
async def lost_power(home: Path, boot_id: str | None) -> AsyncIterator[EventLog]:
    """A log that goes on in this run of the system, and is not closed at its end."""
    store = await StateStore.open(home / "state.db")
    log = await EventLog.open(store, boot_id=lambda: boot_id)
    try:
        yield log
    finally:
        await log._keeper.close()
        await store.close()


async def test_no_number_that_somebody_may_have_seen_is_used_again_after_a_loss_of_power(
    tmp_path: Path,
) -> None:
    async with lost_power(tmp_path, "one") as log:
        await log.accept(FIRST)
        await log.accept(RunRef(7, 10))
        await log.accept(RunRef(7, 11))
        tell(log, FIRST, EventType.STARTED, EventType.REASONING)
        tell(log, RunRef(7, 11), EventType.COMPLETED)
        await log.after("9", 0)
    async with lost_power(tmp_path, "two") as log:
        tell(log, FIRST, EventType.WARNING, EventType.COMPLETED)
        last, gap, warning, verdict = await log.after("9", 1)
        assert (last.sequence, last.type) == (2, EventType.REASONING)
        assert (gap.type, gap.data) == (EventType.TRUNCATED, {"covers_from": 3})
        assert gap.sequence > 1000
        assert [warning.sequence, verdict.sequence] == [gap.sequence + 1, gap.sequence + 2]
        assert [event.data for event in await log.after("10", 0)] == [{"covers_from": 1}]
        assert await sequences(log, run_id="11") == [(1, EventType.COMPLETED)]
        standing = await log.standing("9")
        assert standing is not None
        assert standing.finished_at == verdict.sequence


@pytest.mark.parametrize("boot_id", ["one", None])
async def test_a_killed_executor_leaves_no_gap(tmp_path: Path, boot_id: str | None) -> None:
    for _ in range(2):
        async with lost_power(tmp_path, boot_id) as log:
            await log.accept(FIRST)
            tell(log, FIRST, EventType.STARTED)
            await log.after("9", 0)
    async with lost_power(tmp_path, boot_id) as log:
        numbers = [number for number, _ in await sequences(log)]
    assert numbers == [1, 2]


async def test_a_log_that_was_closed_leaves_no_gap_when_the_system_starts_anew(
    tmp_path: Path,
) -> None:
    for boot_id in ("one", "two"):
        async with open_log(tmp_path, boot_id=lambda boot_id=boot_id: boot_id) as (_, log):
            await log.accept(FIRST)
            tell(log, FIRST, EventType.STARTED)
            numbers = [number for number, _ in await sequences(log)]
    assert numbers == [1, 2]


async def test_the_end_of_a_run_is_what_ends_it_when_it_is_looked_at(tmp_path: Path) -> None:
    async with open_log(tmp_path) as (_, log):
        await log.accept(FIRST)
        tell(log, FIRST, EventType.FAILED)
        (verdict,) = await log.after("9", 0)
        assert verdict.ends_run
        log.forget_run(FIRST.key)
        await log.accept(SECOND)
        assert not verdict.ends_run


async def test_large_events_are_read_a_few_at_a_time_and_none_is_passed_over(
    tmp_path: Path,
) -> None:
    async with open_log(tmp_path) as (_, log):
        await log.accept(FIRST)
        tell(log, FIRST, *[EventType.REASONING] * 12, content="x" * 200_000)
        log.forget_run(FIRST.key)
        await log.accept(SECOND)
        tell(log, SECOND, EventType.STARTED)
        pages: list[list[int]] = []
        while page := await log.after("9", pages[-1][-1] if pages else 0):
            pages.append([event.sequence for event in page])
        assert [len(page) for page in pages] == [6, 6, 1]
        assert [number for page in pages for number in page] == list(range(1, 14))


async def test_an_event_that_comes_twice_is_there_once(tmp_path: Path) -> None:
    async with open_log(tmp_path) as (_, log):
        await log.accept(FIRST)
        tell(log, FIRST, EventType.STARTED, EventType.REASONING)
        log.put(NumberedEvent(FIRST, 1, AgentEvent(EventType.WARNING, {})))
        assert await sequences(log) == [(1, EventType.STARTED), (2, EventType.REASONING)]
        assert log.last_sequence("9") == 2


async def test_callbacks_are_forgotten_with_their_run(tmp_path: Path) -> None:
    async with open_log(tmp_path) as (store, log):
        book = CallbackBook(store)
        await log.accept(FIRST)
        await book.expect("9", "http://r/", "token", None)
        await book.expect("another", "http://r/", "token", None)  # it was never accepted
        assert {record.run_id for record in await book.unsettled()} == {"9", "another"}
        book.settle("9", "ended", None)
        assert {record.run_id for record in await book.unsettled()} == {"another"}
        log.forget_run(FIRST.key)
        await asyncio.sleep(0)
        assert await book.read("9") is None
    async with open_log(tmp_path) as (store, _):
        assert await CallbackBook(store).read("another") is None


async def test_old_events_give_way_to_placeholders_and_numbers_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    awake = 1000.0
    monkeypatch.setattr("executor.delivery.state.time.monotonic", lambda: awake)
    async with open_log(tmp_path) as (_, log):
        await log.accept(FIRST)
        tell(log, FIRST, EventType.STARTED)
        log.forget_run(FIRST.key)
        await log.accept(SECOND)
        tell(log, SECOND, EventType.STARTED, EventType.REASONING, EventType.COMPLETED)
        assert len(await sequences(log)) == 4
    store = await StateStore.open(tmp_path / "state.db")
    awake += 1.1 * DAY
    log = await EventLog.open(store)
    while await store.shrink(Bounds(), 0):
        pass
    kept = await log.after("9", 0)
    assert [(event.sequence, event.type) for event in kept] == [
        (1, EventType.TRUNCATED),
        (3, EventType.TRUNCATED),
        (4, EventType.COMPLETED),
    ]
    assert kept[1].data == {"covers_from": 2}
    await log.close()
    await store.close()


async def test_the_log_looks_after_its_bounds_by_itself(tmp_path: Path) -> None:
    async with open_log(tmp_path, bounds=Bounds(max_bytes=100_000)) as (store, log):
        await log.accept(FIRST)
        with log.hub.follow("9") as wake_up:
            for _ in range(300):
                tell(log, FIRST, EventType.REASONING, content="x" * 1000)
            async with asyncio.timeout(30):
                while (await log.after("9", 0, limit=1))[0].type != EventType.TRUNCATED:
                    await wake_up.wait()
                    tell(log, FIRST, EventType.REASONING)
        (held,) = (await store.outstanding()).held
        assert (held.first, held.last) == (1, log.last_sequence("9"))


async def test_followers_are_woken_when_an_event_can_be_read_and_not_for_another_run(
    tmp_path: Path,
) -> None:
    async with open_log(tmp_path) as (_, log), asyncio.timeout(30):
        with log.hub.follow("9") as wake_up, log.hub.follow("10") as other:
            await wake_up.wait()
            await other.wait()
            waiting = asyncio.create_task(other.wait())
            tell(log, FIRST, EventType.STARTED)
            await wake_up.wait()
            assert await sequences(log) == [(1, EventType.STARTED)]
            assert not waiting.done()
            waiting.cancel()


async def test_a_run_stands_where_its_events_have_brought_it(tmp_path: Path) -> None:
    async with open_log(tmp_path) as (_, log):
        assert await log.standing("9") is None
        await log.accept(FIRST)
        queued = await log.standing("9")
        tell(log, FIRST, EventType.STARTED, EventType.REASONING)
        running = await log.standing("9")
        tell(log, FIRST, EventType.CANCELLED, reason="enough")
        ended = await log.standing("9")
    assert queued is not None
    assert running is not None
    assert ended is not None
    assert (queued.run, queued.state, queued.sequence) == (FIRST, "queued", 0)
    assert (running.state, running.sequence, running.progress) == ("running", 2, 40)
    assert (running.finished_at, running.verdict) == (None, None)
    assert (ended.state, ended.sequence, ended.finished_at) == ("cancelled", 3, 3)
    assert ended.verdict is not None
    assert (ended.verdict.sequence, ended.verdict.data) == (3, {"reason": "enough"})


async def test_an_event_is_shown_as_every_door_shows_it(tmp_path: Path) -> None:
    async with open_log(tmp_path) as (_, log):
        event = AgentEvent(EventType.TOOL_CALL, {"tool_name": "Bash"}, timestamp="T")
        log.put(NumberedEvent(FIRST, 1, event))
        (shown,) = await log.after("9", 0)
    assert shown.to_dict() == {
        "run_id": "9",
        "sequence": 1,
        "timestamp": "T",
        "source": None,
        "event": {"category": "llm", "action": "tool_call"},
        "data": {"tool_name": "Bash"},
    }


async def test_the_reporter_tells_the_log_as_it_tells_an_outbox(tmp_path: Path) -> None:
    request = ExecutionRequest.model_validate({"task_id": 7, "subtask_id": 9, "prompt": "hi"})
    async with open_log(tmp_path) as (store, log):
        await log.accept(request.run)
        reporter = ProgressReporter(log, Redactor())
        reporter.open(request)
        reporter.report(request.run, AgentEvent(EventType.STARTED, {}))
        opened = AgentEvent(EventType.LLM_START, {"message_id": "m"})
        reporter.report(request.run, opened)
        await log.after("9", 0)
        (record,) = await store.runs()
    async with open_log(tmp_path) as (_, log):
        reporter = ProgressReporter(log, Redactor())
        reporter.reopen(record)
        reporter.resume(request)
        reporter.report(request.run, AgentEvent(EventType.COMPLETED, {"result": ""}))
        assert reporter.delivered(request.run.key)
        assert await sequences(log, after=2) == [(3, EventType.LLM_ERROR), (4, EventType.COMPLETED)]
