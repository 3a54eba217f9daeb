"""What a run has begun is ended before a verdict that its node has not told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from executor_manager.store.nodes import NodeHello
from executor_manager.store.records import Errand
from tests.fakes.store_bench import Bench, event

SOURCE = {"agent_id": "a", "agent_type": "worker", "agent_name": "A", "team_name": None}


async def lose(bench: Bench, run: Errand) -> None:
    await bench.store.nodes.register(NodeHello("n", 10), [])


async def cancel_unreachable(bench: Bench, run: Errand) -> None:
    await bench.store.leases.expire((await bench.run(run.run_id)).created_at + 100)
    await bench.store.runs.cancel(run.run_id, "typo")


async def cancel_unknown(bench: Bench, run: Errand) -> None:
    await bench.store.runs.cancel(run.run_id, "typo")
    [cancel] = await bench.store.queue.errands(["n"])
    await bench.store.queue.cancel_answered(cancel, known=False)


async def refuse(bench: Bench, run: Errand) -> None:
    await bench.store.queue.refused(run, "isolation_unavailable", "no sandbox any more")


async def begun(bench: Bench, **fields: str) -> Errand:
    run = await bench.running(**fields)
    await bench.tell(
        run,
        event(2, "llm.start", message_id="done", model="m"),
        event(3, "llm.done", message_id="done", content="x"),
        event(4, "llm.start", message_id="failed", model="m"),
        event(5, "llm.error", message_id="failed", error="x"),
        replace(event(6, "llm.start", message_id="open", model="m"), source=SOURCE),
        event(7, "agent.input_required", request_id="q", kind="plan"),
    )
    return run


@pytest.mark.parametrize(
    ("end", "verdict", "code"),
    [
        (lose, "lifecycle.failed", "lost"),
        (cancel_unreachable, "lifecycle.cancelled", "cancelled"),
        (cancel_unknown, "lifecycle.cancelled", "cancelled"),
        (refuse, "lifecycle.failed", "isolation_unavailable"),
    ],
)
async def test_no_reader_is_left_with_an_open_message_or_question(
    bench: Bench, end: Callable[[Bench, Errand], Awaitable[None]], verdict: str, code: str
) -> None:
    run = await begun(bench)
    await end(bench, run)
    message, question, last = await bench.store.events.after(run.run_id, 7)
    assert (message.type, message.source) == ("llm.error", SOURCE)
    assert (message.data["message_id"], message.data["code"]) == ("open", code)
    assert message.data["error"]
    assert (question.type, question.data) == (
        "agent.input_resolved",
        {"request_id": "q", "outcome": "denied" if code == "cancelled" else "expired"},
    )
    assert last.type == verdict
    assert [event.sequence for event in (message, question, last)] == [8, 9, 10]


async def test_an_attempt_that_is_given_up_leaves_nothing_open(bench: Bench) -> None:
    run = await begun(bench, on_node_loss="requeue")
    await lose(bench, run)
    added = [(e.type, e.attempt) for e in await bench.store.events.after(run.run_id, 7)]
    assert added == [("llm.error", 1), ("agent.input_resolved", 1), ("system.warning", 1)]

    second = await bench.claim()
    await bench.tell(second, event(1, "llm.start", message_id="new", model="m"))
    await lose(bench, second)
    ended = [
        e.data["message_id"]
        for e in await bench.store.events.after(run.run_id, 0)
        if e.type == "llm.error" and e.seq is None
    ]
    assert ended == ["open", "new"]


async def test_a_nodes_own_verdict_is_its_last_word(bench: Bench) -> None:
    run = await begun(bench)
    await bench.tell(run, event(8, "lifecycle.failed", error="x"))
    assert [e.type for e in await bench.store.events.after(run.run_id, 7)] == ["lifecycle.failed"]
