"""Claims, refusals and what nodes have to be told."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.store_bench import Bench, event


async def test_the_oldest_run_of_the_highest_priority_goes_first(bench: Bench) -> None:
    await bench.node()
    runs = [await bench.queued(priority=priority) for priority in (0, 5, 5)]
    claimed = [(await bench.claim()).run_id for _ in runs]
    assert claimed == [runs[1].id, runs[2].id, runs[0].id]


async def test_concurrent_claims_never_give_two_runs_of_one_session(bench: Bench) -> None:
    await bench.node("a")
    await bench.node("b")
    for session in ("s1", "s2"):
        for _ in range(4):
            await bench.queued(session_id=session)
    claims = await asyncio.gather(*(bench.store.queue.claim(["a", "b"]) for _ in range(8)))
    assert sorted(claim.session_id for claim in claims if claim is not None) == ["s1", "s2"]


async def test_a_sessions_runs_go_in_order_whatever_their_priority(bench: Bench) -> None:
    await bench.node()
    first = await bench.queued(session_id="s")
    await bench.queued(session_id="s", priority=9)
    errand = await bench.claim()
    assert errand.run_id == first.id
    assert await bench.store.queue.claim(["n"]) is None
    await bench.tell(errand, event(1, "lifecycle.completed"))
    assert (await bench.claim()).session_id == "s"


async def test_a_session_stays_on_its_node_and_blocks_no_other(bench: Bench) -> None:
    await bench.node("a")
    await bench.queued(session_id="s")
    errand = await bench.claim("a")
    await bench.tell(errand, event(1, "lifecycle.completed"))
    await bench.node("b")
    await bench.queued(session_id="s")
    other = await bench.queued()
    assert (await bench.claim("b")).run_id == other.id
    assert await bench.store.queue.claim(["b"]) is None
    assert (await bench.claim("a", "b")).node_id == "a"


async def test_a_node_gets_as_many_runs_as_it_takes_and_the_emptier_one_first(
    bench: Bench,
) -> None:
    await bench.node("small", capacity=1)
    await bench.node("large", capacity=2)
    for _ in range(4):
        await bench.queued()
    claimed = [(await bench.claim("small", "large")).node_id for _ in range(3)]
    assert claimed[0] == "large"
    assert sorted(claimed) == ["large", "large", "small"]
    assert await bench.store.queue.claim(["small", "large"]) is None


async def test_a_claim_is_committed_with_its_lease(bench: Bench) -> None:
    await bench.node()
    run = await bench.queued()
    errand = await bench.claim()
    claimed = await bench.run(run.id)
    assert (claimed.state, claimed.lease_owner) == ("claimed", "n")
    assert claimed.lease_expiry is not None
    assert claimed.lease_expiry >= claimed.created_at + 30
    assert await bench.store.queue.errands(["n"]) == [errand]
    await bench.store.queue.accepted(errand)
    assert await bench.store.queue.errands(["n"]) == []


async def test_a_busy_node_is_left_alone_until_it_tells_of_a_free_slot(bench: Bench) -> None:
    await bench.node()
    run = await bench.queued()
    await bench.store.queue.refused(await bench.claim(), "busy", "no")
    waiting = await bench.run(run.id)
    assert (waiting.state, waiting.attempt, waiting.lease_owner) == ("queued", 1, None)
    assert await bench.store.queue.claim(["n"]) is None
    await bench.store.nodes.heartbeat("n", [], draining=False, free_slots=1)
    assert (await bench.claim()).run_id == run.id


async def test_a_refusal_as_draining_keeps_the_node_out_until_it_is_back(bench: Bench) -> None:
    await bench.node()
    await bench.queued()
    await bench.store.queue.refused(await bench.claim(), "draining", "going")
    await bench.store.nodes.heartbeat("n", [], draining=True, free_slots=1)
    assert await bench.store.queue.claim(["n"]) is None
    await bench.node()
    await bench.claim()


async def test_a_busy_node_is_asked_again_as_soon_as_one_of_its_runs_has_ended(
    bench: Bench,
) -> None:
    running = await bench.running()
    refused = await bench.queued()
    await bench.store.queue.refused(await bench.claim(), "busy", "no")
    assert await bench.store.queue.claim(["n"]) is None
    await bench.tell(running, event(2, "lifecycle.completed"))
    assert (await bench.claim()).run_id == refused.id


async def test_any_other_refusal_is_the_verdict(bench: Bench) -> None:
    await bench.node()
    errand = (await bench.queued(), await bench.claim())[1]
    await bench.store.queue.refused(errand, "isolation_unavailable", "no sandbox here")
    failed = await bench.run(errand.run_id)
    assert (failed.state, failed.error_code) == ("failed", "isolation_unavailable")


async def test_a_refusal_that_comes_late_changes_nothing(bench: Bench) -> None:
    run = await bench.running(on_node_loss="requeue")
    await bench.store.leases.expire((await bench.run(run.run_id)).created_at + 100)
    await bench.store.queue.refused(run, "unsupported_agent", "no")
    assert (await bench.run(run.run_id)).state == "queued"


async def test_a_run_that_has_begun_waits_for_its_busy_node(bench: Bench) -> None:
    run = await bench.running()
    await bench.store.queue.refused(run, "busy", "just started")
    assert (await bench.run(run.run_id)).state == "running"


# --- Cancelling ---------------------------------------------------------------------------------


async def test_a_queued_run_is_cancelled_at_once(bench: Bench) -> None:
    run = await bench.queued()
    cancelled = await bench.store.runs.cancel(run.id, "typo")
    assert cancelled is not None
    assert (cancelled.state, cancelled.last_sequence) == ("cancelled", 1)
    assert cancelled.verdict is not None
    assert cancelled.verdict["reason"] == "typo"


async def test_a_run_on_a_node_is_cancelled_by_its_node(bench: Bench) -> None:
    run = await bench.running()
    cancelling = await bench.store.runs.cancel(run.run_id, "typo")
    assert cancelling is not None
    assert cancelling.state == "cancelling"
    [errand] = await bench.store.queue.errands(["n"])
    assert (errand.kind, errand.run_id, errand.reason) == ("cancel", run.run_id, "typo")
    await bench.store.queue.cancel_answered(errand, known=True)
    assert await bench.store.queue.errands(["n"]) == []
    assert (await bench.run(run.run_id)).state == "cancelling"


async def test_a_claimed_run_whose_cancel_came_first_is_cancelled_by_its_refusal(
    bench: Bench,
) -> None:
    await bench.node()
    run = await bench.queued()
    errand = await bench.claim()
    await bench.store.runs.cancel(run.id)
    await bench.store.queue.refused(errand, "busy", "no")
    assert (await bench.run(run.id)).state == "cancelled"


async def test_a_run_whose_cancel_came_before_its_dispatch_is_not_dispatched_any_more(
    bench: Bench,
) -> None:
    await bench.node()
    run = await bench.queued()
    await bench.claim()
    await bench.cancel(run.id, known=True)
    assert await bench.store.queue.errands(["n"]) == []


async def test_a_cancel_that_the_node_does_not_know_is_recorded_here(bench: Bench) -> None:
    run = await bench.running()
    await bench.cancel(run.run_id, known=False)
    assert (await bench.run(run.run_id)).state == "cancelled"


async def test_a_finished_or_unknown_run_is_not_cancelled(bench: Bench) -> None:
    run = await bench.running()
    await bench.tell(run, event(2, "lifecycle.completed"))
    finished = await bench.store.runs.cancel(run.run_id)
    assert finished is not None
    assert finished.state == "completed"
    assert await bench.store.runs.cancel("no such run") is None


@pytest.mark.parametrize("code", ["draining", "busy", "isolation_unavailable"])
async def test_a_session_whose_first_run_is_refused_may_go_to_another_node(
    bench: Bench, code: str
) -> None:
    await bench.node("n")
    run = await bench.queued()
    await bench.store.queue.refused(await bench.claim("n"), code, "no")
    await bench.queued(session_id=run.session_id)
    await bench.node("other")
    assert (await bench.claim("other")).session_id == run.session_id


async def test_a_session_stays_where_it_has_begun_whatever_is_refused_later(bench: Bench) -> None:
    first = await bench.running(session_id="s")
    await bench.tell(first, event(2, "lifecycle.completed"))
    await bench.queued(session_id="s")
    await bench.store.queue.refused(await bench.claim("n"), "draining", "no")
    await bench.node("other")
    assert await bench.store.queue.claim(["other"]) is None


async def test_a_session_whose_first_run_never_arrived_may_go_to_another_node(
    bench: Bench,
) -> None:
    await bench.node("n")
    run = await bench.queued()
    await bench.claim("n")
    await bench.cancel(run.id, known=False)
    await bench.queued(session_id=run.session_id)
    await bench.node("other")
    assert (await bench.claim("other")).session_id == run.session_id
