"""Questions as the log tells them, and answers on their way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from executor_manager.store.nodes import NodeHello
from executor_manager.store.questions import (
    AlreadyAnswered,
    NotWaiting,
    QuestionExpired,
    UnknownQuestion,
)
from executor_manager.store.records import Answer, Committed, Errand, NewEvent
from executor_manager.store.standings import ReportedRun
from shared.errors import ProtocolError
from tests.fakes.store_bench import Bench, event

ALLOW = Answer("allow")
DENY = Answer("deny", message="Zq8-not-like-this")


def asks(seq: int, request_id: str = "q", **data: Any) -> NewEvent:
    given = {"kind": "permission", "tool_name": "Bash", "tool_input": {"command": "ls"}}
    return event(seq, "agent.input_required", request_id=request_id, **given | data)


def resolves(seq: int, outcome: str, request_id: str = "q") -> NewEvent:
    return event(seq, "agent.input_resolved", request_id=request_id, outcome=outcome)


async def asking(bench: Bench, **fields: Any) -> Errand:
    run = await bench.running(**fields)
    await bench.tell(run, asks(2))
    return run


async def waits_for(bench: Bench, run: Errand) -> list[tuple[str, bool]]:
    questions = (await bench.store.questions.open_of([run.run_id])).get(run.run_id, [])
    return [(question.request_id, question.answered) for question in questions]


async def inputs(bench: Bench) -> list[str | None]:
    errands = await bench.store.queue.errands(["n"])
    return [errand.request_id for errand in errands if errand.kind == "input"]


async def the_input(bench: Bench) -> Errand:
    [errand] = await bench.store.queue.errands(["n"])
    assert errand.kind == "input"
    return errand


async def stored(bench: Bench) -> bytes:
    def read() -> bytes:
        return b"".join(file.read_bytes() for file in bench.path.parent.glob("manager.db*"))

    return await asyncio.to_thread(read)


async def test_what_is_asked_waits_until_the_node_tells_its_end(bench: Bench) -> None:
    run = await bench.running()
    await bench.tell(run, asks(2, "one"), asks(3, "two"))
    assert await waits_for(bench, run) == [("one", False), ("two", False)]
    await bench.tell(run, resolves(4, "denied", "one"))
    assert await waits_for(bench, run) == [("two", False)]
    [question] = (await bench.store.questions.open_of([run.run_id]))[run.run_id]
    assert question.data["tool_input"] == {"command": "ls"}


@pytest.mark.parametrize("verdict", ["lifecycle.completed", "lifecycle.cancelled"])
async def test_a_run_that_has_ended_waits_for_nothing(bench: Bench, verdict: str) -> None:
    run = await asking(bench)
    await bench.tell(run, event(3, verdict))
    assert await waits_for(bench, run) == []
    with pytest.raises(NotWaiting):
        await bench.store.questions.answer(run.run_id, "q", ALLOW)


async def test_an_answer_is_due_until_the_node_has_it(bench: Bench) -> None:
    run = await asking(bench)
    questions = bench.store.questions
    assert await questions.answer(run.run_id, "q", DENY) == "pending"
    assert await waits_for(bench, run) == [("q", True)]
    errand = await the_input(bench)
    assert await questions.to_deliver(errand) == DENY
    assert await questions.answer(run.run_id, "q", DENY) == "pending"
    await questions.delivered(errand)
    assert await inputs(bench) == []
    assert await questions.to_deliver(errand) is None
    assert await questions.answer(run.run_id, "q", DENY) == "accepted"


async def test_the_repeat_of_a_delivered_answer_succeeds_whatever_came_after(bench: Bench) -> None:
    run = await asking(bench)
    await bench.store.questions.answer(run.run_id, "q", ALLOW)
    await bench.store.questions.delivered(await the_input(bench))
    await bench.tell(run, resolves(3, "answered"), event(4, "lifecycle.completed"))
    assert await bench.store.questions.answer(run.run_id, "q", ALLOW) == "accepted"
    with pytest.raises(NotWaiting):
        await bench.store.questions.answer(run.run_id, "q", DENY)


async def test_an_answer_whose_acknowledgement_was_lost_counts_when_the_node_tells_so(
    bench: Bench,
) -> None:
    run = await asking(bench)
    await bench.store.questions.answer(run.run_id, "q", ALLOW)
    await bench.tell(run, resolves(3, "answered"))
    assert await inputs(bench) == []
    assert await bench.store.questions.answer(run.run_id, "q", ALLOW) == "accepted"


async def test_the_first_answer_counts(bench: Bench) -> None:
    run = await asking(bench)
    await bench.store.questions.answer(run.run_id, "q", ALLOW)
    for _ in range(2):
        with pytest.raises(AlreadyAnswered):
            await bench.store.questions.answer(run.run_id, "q", DENY)
        await bench.store.questions.delivered(await _input_of(run))
    assert await bench.store.questions.answer(run.run_id, "q", ALLOW) == "accepted"


async def _input_of(run: Errand) -> Errand:
    return Errand("input", run.run_id, run.session_id, run.attempt, "n", request_id="q")


async def test_what_was_not_asked_or_has_expired_cannot_be_answered(bench: Bench) -> None:
    run = await asking(bench)
    with pytest.raises(UnknownQuestion):
        await bench.store.questions.answer(run.run_id, "other", ALLOW)
    await bench.tell(run, resolves(3, "expired"))
    with pytest.raises(QuestionExpired):
        await bench.store.questions.answer(run.run_id, "q", ALLOW)


async def test_an_answer_that_does_not_fit_the_question_is_refused_and_the_next_one_counts(
    bench: Bench,
) -> None:
    run = await asking(bench)
    with pytest.raises(ProtocolError) as caught:
        await bench.store.questions.answer(run.run_id, "q", Answer("answer", {"1": "Zq8"}))
    assert caught.value.fields == ("decision",)
    assert "Zq8" not in str(caught.value)
    assert await bench.store.questions.answer(run.run_id, "q", ALLOW) == "pending"


async def test_a_node_that_cannot_use_an_answer_leaves_the_question_open(bench: Bench) -> None:
    run = await asking(bench)
    await bench.store.questions.answer(run.run_id, "q", ALLOW)
    await bench.store.questions.unusable(await the_input(bench))
    assert await waits_for(bench, run) == [("q", False)]
    with pytest.raises(ProtocolError):
        await bench.store.questions.delivery(run.run_id, "q", ALLOW)
    assert await bench.store.questions.answer(run.run_id, "q", DENY) == "pending"


async def test_a_question_that_the_node_calls_expired_is_resolved_by_the_nodes_own_word(
    bench: Bench,
) -> None:
    run = await asking(bench)
    await bench.store.questions.answer(run.run_id, "q", ALLOW)
    await bench.store.questions.expired(await the_input(bench))
    with pytest.raises(QuestionExpired):
        await bench.store.questions.delivery(run.run_id, "q", ALLOW)
    await bench.tell(run, resolves(3, "expired"))
    assert [type_ for _, _, type_ in await bench.log(run.run_id)].count("agent.input_resolved") == 1


async def test_a_question_that_its_node_called_expired_is_resolved_when_the_run_moves_on(
    bench: Bench,
) -> None:
    run = await asking(bench, on_node_loss="requeue")
    await bench.store.questions.answer(run.run_id, "q", ALLOW)
    await bench.store.questions.expired(await the_input(bench))
    await bench.store.leases.expire((await bench.run(run.run_id)).created_at + 100)
    assert [type_ for _, _, type_ in await bench.log(run.run_id)].count("agent.input_resolved") == 1


async def test_an_answer_is_never_in_the_clear_in_the_files(bench: Bench) -> None:
    run = await asking(bench)
    await bench.store.questions.answer(run.run_id, "q", DENY)
    assert b"agent.input_required" in await stored(bench)
    assert b"Zq8" not in await stored(bench)


async def test_an_answer_waits_for_the_node_to_take_the_run_up_again(bench: Bench) -> None:
    run = await asking(bench)
    await bench.store.questions.answer(run.run_id, "q", ALLOW)
    interrupted = ReportedRun(run.run_id, 1, 2, needs_dispatch=True)
    await bench.store.nodes.register(NodeHello("n", 10), [interrupted])
    [dispatch] = await bench.store.queue.errands(["n"])
    assert dispatch.kind == "dispatch"
    await bench.store.queue.accepted(dispatch)
    assert await inputs(bench) == ["q"]


async def test_a_cancel_takes_the_place_of_an_answer(bench: Bench) -> None:
    run = await asking(bench)
    await bench.store.questions.answer(run.run_id, "q", ALLOW)
    await bench.store.runs.cancel(run.run_id)
    assert [errand.kind for errand in await bench.store.queue.errands(["n"])] == ["cancel"]
    assert await waits_for(bench, run) == []
    with pytest.raises(NotWaiting):
        await bench.store.questions.answer(run.run_id, "q", DENY)


async def test_a_new_attempt_does_not_wait_for_what_the_old_one_asked(bench: Bench) -> None:
    run = await asking(bench, on_node_loss="requeue")
    await bench.store.questions.answer(run.run_id, "q", ALLOW)
    await bench.store.leases.expire((await bench.run(run.run_id)).created_at + 100)
    await bench.node()
    second = await bench.claim()
    await bench.store.queue.accepted(second)
    assert await inputs(bench) == []
    await bench.tell(second, asks(1))
    assert await waits_for(bench, second) == [("q", False)]
    await bench.store.questions.delivered(await _input_of(run))  # an acknowledgement of the old one
    assert await bench.store.questions.answer(run.run_id, "q", DENY) == "pending"


@pytest.mark.parametrize("request_id", ["x" * 201, "", 5, None])
async def test_a_question_with_an_odd_id_is_in_the_log_and_stops_nothing(
    bench: Bench, request_id: object
) -> None:
    run = await bench.running()
    odd = event(2, "agent.input_required", request_id=request_id)
    assert await bench.tell(run, odd, event(3)) == Committed(3)
    assert await waits_for(bench, run) == []
