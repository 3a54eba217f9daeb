"""The event log: what is taken, what is dropped, and what follows from it."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import insert
from sqlalchemy.event import listen
from sqlalchemy.exc import IntegrityError, OperationalError

from executor_manager.store.records import Committed, Superseded
from executor_manager.store.tables import events
from executor_manager.streams.hub import Hub
from tests.fakes.store_bench import Bench, append_own, event, open_store


async def test_a_repeat_is_acknowledged_and_not_stored_again(bench: Bench) -> None:
    run = await bench.running()
    assert await bench.tell(run, event(2), event(3)) == Committed(3)
    assert await bench.tell(run, event(2), event(3)) == Committed(3)
    assert [seq for _, seq, _ in await bench.log(run.run_id)] == [1, 2, 3]


async def test_a_run_that_begins_and_ends_in_one_commit_has_a_time_of_both(bench: Bench) -> None:
    await bench.node()
    await bench.queued()
    run = await bench.claim()
    await bench.tell(run, event(1, "lifecycle.started"), event(2, "lifecycle.completed"))
    ended = await bench.run(run.run_id)
    assert ended.started_at is not None
    assert ended.finished_at is not None


async def test_what_follows_a_gap_is_not_taken_until_the_gap_is_filled(bench: Bench) -> None:
    run = await bench.running()
    assert await bench.tell(run, event(3)) == Committed(1)
    assert await bench.tell(run, event(2), event(4)) == Committed(2)
    assert await bench.tell(run, event(3), event(4)) == Committed(4)


@pytest.mark.parametrize("covers_from", [1, 2])
async def test_a_placeholder_stands_for_the_events_that_it_covers(
    bench: Bench, covers_from: int
) -> None:
    run = await bench.running()
    placeholder = event(50, "system.truncated", covers_from=covers_from)
    assert await bench.tell(run, placeholder, event(51)) == Committed(51)
    # The sequence has no gaps, whatever the seq does.
    assert [(s, q) for s, q, _ in await bench.log(run.run_id)] == [(1, 1), (2, 50), (3, 51)]


@pytest.mark.parametrize("covers_from", [99, "1", None])
async def test_a_placeholder_that_does_not_say_what_it_covers_covers_itself(
    bench: Bench, covers_from: object
) -> None:
    run = await bench.running()
    placeholder = event(2, "system.truncated", covers_from=covers_from)
    assert await bench.tell(run, placeholder) == Committed(2)


async def test_a_placeholder_that_begins_too_late_is_a_gap(bench: Bench) -> None:
    run = await bench.running()
    assert await bench.tell(run, event(50, "system.truncated", covers_from=3)) == Committed(1)


async def test_only_the_owner_of_the_current_attempt_has_a_say(bench: Bench) -> None:
    run = await bench.running()
    append = bench.store.events.append
    assert await append("other", run.run_id, 1, [event(2)]) == Superseded()
    assert await append("n", run.run_id, 2, [event(2)]) == Superseded()
    assert await append("n", "no such run", 1, [event(2)]) == Superseded()


async def test_the_first_verdict_wins(bench: Bench) -> None:
    run = await bench.running()
    result = event(2, "lifecycle.completed", result="ok")
    assert await bench.tell(run, result) == Committed(2)
    assert await bench.tell(run, result) == Committed(2)  # its ack was lost
    assert await bench.tell(run, event(3, "lifecycle.failed", error="late")) == Superseded()
    assert not await append_own(bench.store, run.run_id, "lifecycle.cancelled", {})
    ended = await bench.run(run.run_id)
    assert (ended.state, ended.verdict) == ("completed", {"result": "ok"})


async def test_a_verdict_of_the_control_plane_takes_the_run_from_its_node(bench: Bench) -> None:
    run = await bench.running()
    failed = {"error": "gone", "error_code": "lost"}
    assert await append_own(bench.store, run.run_id, "lifecycle.failed", failed)
    assert await bench.tell(run, event(2, "lifecycle.completed")) == Superseded()
    ended = await bench.run(run.run_id)
    assert (ended.state, ended.error_code, ended.node_id) == ("failed", "lost", "n")


async def test_own_events_share_the_sequence_and_leave_the_seq_alone(bench: Bench) -> None:
    run = await bench.running()
    await append_own(bench.store, run.run_id, "system.warning", {"message": "hm"})
    assert await bench.tell(run, event(2)) == Committed(2)
    assert [(s, q) for s, q, _ in await bench.log(run.run_id)] == [(1, 1), (2, None), (3, 2)]


async def test_a_result_that_arrives_while_cancelling_is_kept(bench: Bench) -> None:
    run = await bench.running()
    await bench.store.runs.cancel(run.run_id)
    assert await bench.tell(run, event(2)) == Committed(2)
    assert (await bench.run(run.run_id)).state == "cancelling"
    await bench.tell(run, event(3, "lifecycle.completed", result="just made it"))
    assert (await bench.run(run.run_id)).state == "completed"


async def test_progress_never_falls(bench: Bench) -> None:
    run = await bench.running()
    for seq, told, shown in ((2, 40, 40), (3, 20, 40), (4, 400, 100)):
        new = event(seq)
        object.__setattr__(new, "progress", told)
        await bench.tell(run, new)
        assert (await bench.run(run.run_id)).progress == shown


async def test_the_agents_session_is_known_as_soon_as_it_is_told(bench: Bench) -> None:
    run = await bench.running()
    await bench.tell(run, event(2, "agent.session", sdk_session_id="s-1"))
    session = await bench.store.sessions.get(run.session_id)
    assert session is not None
    assert session.sdk_session_id == "s-1"


async def test_what_is_no_agents_session_is_not_kept_as_one(bench: Bench) -> None:
    run = await bench.running()
    for seq, told in ((2, "x" * 65), (3, 7), (4, None)):
        await bench.tell(run, event(seq, "agent.session", sdk_session_id=told))
    session = await bench.store.sessions.get(run.session_id)
    assert session is not None
    assert session.sdk_session_id is None


async def test_many_runs_events_at_once_keep_the_order_of_each_run(bench: Bench) -> None:
    await bench.node()
    for _ in range(5):
        await bench.queued()
    errands = [await bench.claim() for _ in range(5)]
    acks = [bench.tell(run, event(seq)) for seq in range(1, 101) for run in errands]
    # Called in this order; gather starts its coroutines in order, too.
    assert set(await asyncio.gather(*acks)) == {Committed(seq) for seq in range(1, 101)}
    for run in errands:
        assert [q for _, q, _ in await bench.log(run.run_id)] == list(range(1, 101))


async def test_an_event_that_cannot_be_stored_is_replaced_and_stops_nothing(bench: Bench) -> None:
    await bench.node()
    await bench.queued()
    await bench.queued()
    good, bad = await bench.claim(), await bench.claim()
    results = await asyncio.gather(
        bench.tell(bad, event(1, object_=object())),
        bench.tell(good, event(1)),
        bench.tell(bad, event(2)),
    )
    assert list(results) == [Committed(1), Committed(1), Committed(2)]
    assert await bench.log(bad.run_id) == [(1, 1, "system.warning"), (2, 2, "llm.reasoning")]


async def test_a_verdict_that_cannot_be_stored_is_a_verdict_all_the_same(bench: Bench) -> None:
    run = await bench.running()
    assert await bench.tell(run, event(2, "lifecycle.completed", result=object())) == Committed(2)
    ended = await bench.run(run.run_id)
    assert (ended.state, ended.error_code) == ("failed", "internal")


async def test_a_database_that_fails_fails_each_append_once_and_shows_no_event(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    run = await bench.running()
    engine = bench.store.events._database._engine
    refusing = True

    def refuse(*_: object) -> None:
        if refusing:
            raise OperationalError("INSERT", {}, sqlite3.OperationalError("disk is full"))

    listen(engine.sync_engine, "before_cursor_execute", refuse)
    told = [bench.tell(run, event(seq, text="Zq8")) for seq in range(2, 12)]
    results = await asyncio.gather(*told, return_exceptions=True)
    assert {getattr(result, "code", None) for result in results} == {"store_unavailable"}
    assert caplog.text.count("disk is full") == 1
    assert "Zq8" not in caplog.text
    refusing = False
    assert await bench.tell(run, event(2)) == Committed(2)


async def test_errors_of_the_database_do_not_repeat_what_was_to_be_written(bench: Bench) -> None:
    run = await bench.running()
    with pytest.raises(IntegrityError) as caught:
        async with bench.store.events._database.write() as transaction:
            values = {
                "run_id": run.run_id,
                "sequence": 1,
                "attempt": 1,
                "type": "x",
                "timestamp": "",
            }
            await transaction.connection.execute(insert(events).values(**values, data={"a": "Zq8"}))
    assert "Zq8" not in str(caught.value)


async def test_a_writer_that_dies_ends_the_store_instead_of_leaving_everyone_waiting(
    tmp_path: Path,
) -> None:
    with pytest.RaisesGroup(AttributeError):
        async with asyncio.timeout(30), open_store(tmp_path) as store:
            store.events._waiting.put_nowait(object())
            await store.events.append("n", "r", 1, [event(1)])


async def test_a_follower_is_woken_by_every_commit(bench: Bench) -> None:
    run = await bench.running()
    with bench.hub.follow(run.run_id) as wake_up, bench.hub.follow("other") as other:
        await wake_up.wait()
        await other.wait()
        await bench.tell(run, event(2))
        await wake_up.wait()
        assert not other._event.is_set()


async def test_a_log_is_read_in_pages(bench: Bench) -> None:
    run = await bench.running()
    await bench.tell(run, *[event(seq) for seq in range(2, 8)])
    first = await bench.store.events.after(run.run_id, 0, limit=4)
    rest = await bench.store.events.after(run.run_id, first[-1].sequence, limit=4)
    assert [event.sequence for event in first + rest] == [1, 2, 3, 4, 5, 6, 7]


async def test_a_new_process_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    async with asyncio.timeout(30):
        async with open_store(tmp_path) as store:
            run = await Bench(store, Hub(), tmp_path).running()
            # Not awaited: closing the store commits what it was given.
            pending = store.events.append("n", run.run_id, 1, [event(2)])
        assert pending.result() == Committed(2)
        async with open_store(tmp_path) as store:
            bench = Bench(store, Hub(), tmp_path)
            assert await bench.tell(run, event(2), event(3)) == Committed(3)
            assert [s for s, _, _ in await bench.log(run.run_id)] == [1, 2, 3]
