"""The end of leases, and registrations that settle what is left."""

from __future__ import annotations

import pytest

from executor_manager.store.leases import Expired
from executor_manager.store.nodes import NodeHello, ReportedRun, Standing
from executor_manager.store.records import Committed, Errand, Superseded
from tests.fakes.store_bench import Bench, event

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
    assert await bench.store.runs.secrets_of(run.run_id) == {"/git_token": "T"}
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
    assert await bench.store.runs.secrets_of(run.run_id) == {}

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
    await bench.store.events.append_own(run.run_id, "lifecycle.failed", {"error": "x"})
    assert await register(bench, report(run)) == [Standing(superseded=True)]


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
    await bench.store.runs.cancel(run.id)
    [cancel] = await bench.store.queue.errands(["n"])
    await bench.store.queue.cancel_answered(cancel, known=True)
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
    await bench.store.runs.cancel(run.run_id)
    [cancel] = await bench.store.queue.errands(["n"])
    await bench.store.queue.cancel_answered(cancel, known=True)
    await register(bench, report(run, needs_dispatch=needs_dispatch))
    assert [errand.kind for errand in await bench.store.queue.errands(["n"])] == ["cancel"]


async def test_a_run_that_ends_frees_its_slot(bench: Bench) -> None:
    run = await bench.running()
    [node] = await bench.store.nodes.all()
    assert node.live_runs == 1
    await bench.tell(run, event(2, "lifecycle.completed"))
    [node] = await bench.store.nodes.all()
    assert node.live_runs == 0
