"""The end of leases, and registrations that settle what is left."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import update

from executor_manager.store.leases import Expired
from executor_manager.store.nodes import Farewell, NodeHello
from executor_manager.store.records import Committed, Errand, Superseded
from executor_manager.store.standings import ReportedRun, Standing
from executor_manager.store.tables import nodes, runs
from tests.fakes.store_bench import Bench, append_own, event, secrets_of

LEASE = 30
LOST_AFTER = 1000


async def expire(bench: Bench, run: Errand, seconds: float) -> Expired:
    """Look at the leases *seconds* after the run's creation."""
    return await bench.store.leases.expire((await bench.run(run.run_id)).created_at + seconds)


async def test_a_lease_that_runs_ends_nothing(bench: Bench) -> None:
    run = await bench.running()
    assert await expire(bench, run, LEASE - 10) == Expired([], [], [])


async def test_a_run_whose_lease_ends_is_unreachable_and_comes_back_with_its_node(
    bench: Bench,
) -> None:
    run = await bench.running()
    assert await expire(bench, run, LEASE + 10) == Expired(["n"], [run.run_id], [])
    gone = await bench.run(run.run_id)
    assert (gone.state, gone.unreachable) == ("running", True)
    assert await expire(bench, run, LEASE + 20) == Expired([], [], [])

    assert (
        await bench.store.nodes.heartbeat("n", [(run.run_id, 1)], draining=False, free_slots=0)
        == []
    )
    back = await bench.run(run.run_id)
    assert (back.state, back.unreachable) == ("running", False)
    assert await bench.tell(run, event(2)) == Committed(2)


async def test_a_run_that_waited_too_long_is_lost(bench: Bench) -> None:
    run = await bench.running()
    assert (await expire(bench, run, LEASE + LOST_AFTER - 10)).lost == []
    assert (await expire(bench, run, LEASE + LOST_AFTER + 10)).lost == [run.run_id]
    lost = await bench.run(run.run_id)
    assert (lost.state, lost.error_code, lost.unreachable) == ("failed", "lost", False)


async def test_a_run_can_ask_to_fail_as_soon_as_its_lease_ends(bench: Bench) -> None:
    run = await bench.running(on_node_loss="fail")
    assert (await expire(bench, run, LEASE + 10)).lost == [run.run_id]
    assert (await bench.run(run.run_id)).error_code == "lost"


async def test_a_run_can_ask_to_go_to_another_node(bench: Bench) -> None:
    run = await bench.running(on_node_loss="requeue", secrets={"/git_token": "T"})
    await expire(bench, run, LEASE + 10)
    await bench.node("other")
    second = await bench.claim("other")
    assert (second.run_id, second.attempt) == (run.run_id, 2)
    assert await secrets_of(bench.store, run.run_id) == {"/git_token": "T"}
    assert await bench.tell(second, event(1, "lifecycle.started")) == Committed(1)
    assert [type_ for _, _, type_ in await bench.log(run.run_id)] == [
        "lifecycle.started",
        "system.warning",
        "lifecycle.started",
    ]


async def test_a_cancelled_run_that_is_lost_ends_as_cancelled(bench: Bench) -> None:
    run = await bench.running(on_node_loss="requeue")
    await bench.store.runs.cancel(run.run_id, "typo")
    await expire(bench, run, LEASE + 10)
    assert (await bench.run(run.run_id)).state == "cancelled"


async def test_a_cancel_does_not_wait_for_a_node_that_is_gone(bench: Bench) -> None:
    run = await bench.running(session_id="s", secrets={"/git_token": "T"})
    await expire(bench, run, LEASE + 10)
    cancelled = await bench.store.runs.cancel(run.run_id, "typo")
    assert cancelled is not None
    assert (cancelled.state, cancelled.verdict) == (
        "cancelled",
        {"reason": "typo", "workspace": None, "statistics": {}},
    )
    assert await secrets_of(bench.store, run.run_id) == {}

    # The node comes back: it has to stop, and its result comes too late.
    assert await register(bench, report(run)) == [Standing(superseded=True)]
    assert await bench.tell(run, event(2, "lifecycle.completed")) == Superseded()
    await bench.queued(session_id="s")
    assert (await bench.claim()).session_id == "s"


async def test_a_pending_cancel_is_the_verdict_as_soon_as_the_lease_ends(bench: Bench) -> None:
    run = await bench.running()
    await bench.store.runs.cancel(run.run_id, "typo")
    assert await expire(bench, run, LEASE + 10) == Expired(["n"], [], [run.run_id])
    ended = await bench.run(run.run_id)
    assert (ended.state, ended.verdict) == (
        "cancelled",
        {"reason": "typo", "workspace": None, "statistics": {}},
    )


async def test_a_heartbeat_that_lists_an_older_attempt_too_renews_the_current_one(
    bench: Bench,
) -> None:
    first = await bench.running(on_node_loss="requeue")
    await expire(bench, first, LEASE + 10)
    await bench.node()
    second = await bench.claim()
    keys = [(second.run_id, 2), (second.run_id, 1)]
    before = (await bench.run(second.run_id)).lease_expiry
    superseded = await bench.store.nodes.heartbeat("n", keys, draining=False, free_slots=0)
    after = (await bench.run(second.run_id)).lease_expiry
    assert superseded == [(second.run_id, 1)]
    assert before is not None and after is not None and after > before


@pytest.mark.parametrize("listed", [True, False])
async def test_a_heartbeat_renews_the_runs_that_it_lists(bench: Bench, listed: bool) -> None:
    run = await bench.running()
    before = (await bench.run(run.run_id)).lease_expiry
    keys = [(run.run_id, 1)] if listed else []
    await bench.store.nodes.heartbeat("n", keys, draining=False, free_slots=0)
    after = (await bench.run(run.run_id)).lease_expiry
    assert before is not None
    assert after is not None
    assert (after > before) == listed


async def test_what_a_node_says_of_an_older_attempt_does_not_count_for_its_newer_one(
    bench: Bench,
) -> None:
    first = await bench.running(on_node_loss="requeue")
    await register(bench)  # it came back without the run
    second = await bench.claim()
    before = (await bench.run(second.run_id)).lease_expiry
    await bench.store.nodes.heartbeat("n", [(first.run_id, 1)], draining=False, free_slots=0)
    assert (await bench.run(second.run_id)).lease_expiry == before
    await bench.store.queue.accepted(first)
    assert await bench.store.queue.errands(["n"]) == [second]


# --- Registrations ------------------------------------------------------------------------------


async def register(bench: Bench, *reported: ReportedRun) -> list[Standing]:
    return (await bench.store.nodes.register(NodeHello("n", 10), reported)).standings


def report(run: Errand, last_seq: int = 1, *, needs_dispatch: bool = False) -> ReportedRun:
    return ReportedRun(run.run_id, run.attempt, last_seq, needs_dispatch)


async def test_each_registration_is_a_new_incarnation(bench: Bench) -> None:
    first = await bench.store.nodes.register(NodeHello("n", 10), [])
    second = await bench.store.nodes.register(NodeHello("n", 3, name="renamed"), [])
    assert (first.incarnation, second.incarnation) == (1, 2)
    [node] = await bench.store.nodes.all()
    assert (node.name, node.capacity, node.status) == ("renamed", 3, "online")


async def test_a_finished_run_stands_where_it_was_committed(bench: Bench) -> None:
    run = await bench.running()
    await bench.tell(run, event(2, "lifecycle.completed"))
    assert await register(bench, report(run, 2)) == [Standing(seq=2)]


async def test_a_run_with_another_verdict_is_superseded(bench: Bench) -> None:
    run = await bench.running()
    await append_own(bench.store, run.run_id, "lifecycle.failed", {"error": "x"})
    assert await register(bench, report(run)) == [Standing(superseded=True)]


async def test_what_a_node_told_after_its_verdict_is_superseded(bench: Bench) -> None:
    run = await bench.running()
    await bench.tell(run, event(2, "lifecycle.completed"))
    assert await register(bench, report(run, 3)) == [Standing(superseded=True)]


async def test_a_run_that_a_node_had_at_its_goodbye_and_does_not_bring_back_is_lost(
    bench: Bench,
) -> None:
    await bench.node()
    await bench.queued()
    run = await bench.claim()  # the answer to its dispatch does not come
    await bench.store.nodes.unregister("n", {(run.run_id, run.attempt)})
    await register(bench)
    assert (await bench.run(run.run_id)).error_code == "lost"


async def test_a_run_reported_after_a_lost_answer_counts_as_accepted(bench: Bench) -> None:
    await bench.node()
    await bench.queued()
    errand = await bench.claim()
    await register(bench, report(errand, 0))
    await register(bench)
    assert (await bench.run(errand.run_id)).error_code == "lost"


async def test_a_cancelled_run_whose_dispatch_was_never_answered_ends_with_its_process(
    bench: Bench,
) -> None:
    await bench.node()
    run = await bench.queued()
    await bench.claim()
    await bench.cancel(run.id, known=True)
    await register(bench)  # it died, and remembers nothing
    assert (await bench.run(run.id)).state == "cancelled"


async def test_a_claimed_run_that_never_arrived_is_still_due(bench: Bench) -> None:
    await bench.node()
    await bench.queued()
    errand = await bench.claim()
    await register(bench)
    assert await bench.store.queue.errands(["n"]) == [errand]


@pytest.mark.parametrize("needs_dispatch", [True, False])
async def test_a_cancelled_run_that_comes_back_is_cancelled_and_not_dispatched(
    bench: Bench, needs_dispatch: bool
) -> None:
    run = await bench.running()
    await bench.cancel(run.run_id, known=True)
    await register(bench, report(run, needs_dispatch=needs_dispatch))
    assert [errand.kind for errand in await bench.store.queue.errands(["n"])] == ["cancel"]


async def test_a_run_that_ends_frees_its_slot(bench: Bench) -> None:
    run = await bench.running()
    [node] = await bench.store.nodes.all()
    assert node.live_runs == 1
    await bench.tell(run, event(2, "lifecycle.completed"))
    [node] = await bench.store.nodes.all()
    assert node.live_runs == 0


# --- Signs of life ------------------------------------------------------------------------------


async def test_a_run_that_tells_something_new_keeps_its_lease(bench: Bench) -> None:
    # A node that lists only what it still works at: the verdict waits behind what it told before.
    run = await bench.running(on_node_loss="fail")
    before = (await bench.run(run.run_id)).lease_expiry
    await bench.tell(run, event(2))
    after = (await bench.run(run.run_id)).lease_expiry
    assert before is not None and after is not None and after > before


async def test_an_unreachable_run_that_tells_something_new_is_back(bench: Bench) -> None:
    run = await bench.running()
    await expire(bench, run, LEASE + 10)
    await bench.tell(run, event(2))
    assert (await bench.run(run.run_id)).unreachable is False


async def test_a_heartbeat_that_waits_for_a_slow_disk_has_come_in_time(bench: Bench) -> None:
    run = await bench.running(on_node_loss="fail")
    database = bench.store.leases._database
    async with database.write() as transaction:
        # The look begins now, and has to wait for its turn; so has the heartbeat behind it.
        look = asyncio.create_task(bench.store.leases.expire(await bench.store.leases.now()))
        while not database._one_writer._waiters:  # noqa: ASYNC110
            await asyncio.sleep(0)
        beat = asyncio.create_task(
            bench.store.nodes.heartbeat("n", [(run.run_id, 1)], draining=False, free_slots=0)
        )
        begun = await database.now()
        while (ends := await database.now()) <= begun:
            pass  # the database's clock counts milliseconds
        for table in (nodes, runs):
            await transaction.connection.execute(update(table).values(lease_expiry=ends))
    assert await look == Expired([], [], [])
    assert await beat == []


async def test_a_step_back_of_the_clock_does_not_keep_a_dead_node_alive(bench: Bench) -> None:
    run = await bench.running()
    hour = 3600
    assert await expire(bench, run, -hour) == Expired([], [], [])
    assert await expire(bench, run, -hour + LEASE + 10) == Expired(["n"], [run.run_id], [])


async def test_a_run_is_begun_three_times_at_most(bench: Bench) -> None:
    await bench.node()
    run = await bench.queued(on_node_loss="requeue")
    for attempt in (1, 2, 3):
        errand = await bench.claim()
        assert errand.attempt == attempt
        await bench.store.queue.accepted(errand)
        await register(bench)  # it came back without the run
    ended = await bench.run(run.id)
    assert (ended.state, ended.error_code, ended.attempt) == ("failed", "lost", 3)


# --- Goodbyes -----------------------------------------------------------------------------------


async def goodbye(bench: Bench, *left: Errand) -> Farewell:
    return await bench.store.nodes.unregister("n", {(run.run_id, run.attempt) for run in left})


async def test_a_run_that_a_stopping_node_leaves_is_unreachable_at_once_and_goes_on_later(
    bench: Bench,
) -> None:
    run = await bench.running()
    assert await goodbye(bench, run) == Farewell([run.run_id], [], [])
    [node] = await bench.store.nodes.all()
    assert node.status == "offline"
    gone = await bench.run(run.run_id)
    assert (gone.state, gone.unreachable) == ("running", True)

    assert await register(bench, report(run, needs_dispatch=True)) == [Standing(seq=1)]
    back = await bench.run(run.run_id)
    assert (back.state, back.unreachable, back.attempt) == ("running", False, 1)
    [errand] = await bench.store.queue.errands(["n"])
    assert (errand.kind, errand.attempt) == ("dispatch", 1)


async def test_a_run_left_behind_is_lost_after_the_usual_time(bench: Bench) -> None:
    run = await bench.running()
    await goodbye(bench, run)
    assert (await expire(bench, run, LOST_AFTER - 10)).lost == []
    assert (await expire(bench, run, LOST_AFTER + 10)).lost == [run.run_id]


@pytest.mark.parametrize(("on_loss", "state"), [("fail", "failed"), ("requeue", "queued")])
async def test_a_run_that_does_not_wait_for_its_node_ends_with_the_goodbye(
    bench: Bench, on_loss: str, state: str
) -> None:
    run = await bench.running(on_node_loss=on_loss)
    assert await goodbye(bench, run) == Farewell([], [run.run_id], [])
    assert (await bench.run(run.run_id)).state == state
    if state == "queued":
        await bench.node("other")
        assert (await bench.claim("other")).attempt == 2
    assert await register(bench, report(run)) == [Standing(superseded=True)]


async def test_a_pending_cancel_is_the_verdict_of_a_run_left_behind(bench: Bench) -> None:
    run = await bench.running()
    await bench.store.runs.cancel(run.run_id, "typo")
    await goodbye(bench, run)
    assert (await bench.run(run.run_id)).state == "cancelled"


async def test_a_run_that_a_stopping_node_has_finished_may_still_tell_its_verdict(
    bench: Bench,
) -> None:
    run = await bench.running(on_node_loss="fail")
    assert await goodbye(bench) == Farewell([], [], [])
    assert (await bench.run(run.run_id)).state == "running"
    assert await register(bench, report(run, 2)) == [Standing(seq=1)]
    assert await bench.tell(run, event(2, "lifecycle.completed")) == Committed(2)


async def test_a_run_that_never_arrived_at_a_stopping_node_goes_to_another_one(
    bench: Bench,
) -> None:
    await bench.node()
    await bench.queued()
    first = await bench.claim()
    assert await goodbye(bench) == Farewell([], [], [first.run_id])
    await bench.node("other")
    second = await bench.claim("other")
    assert (second.run_id, second.attempt) == (first.run_id, 2)
    await bench.store.queue.accepted(first)  # its answer comes late
    assert await bench.store.queue.errands(["other"]) == [second]
