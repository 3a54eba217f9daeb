"""Which runs are accepted, in which order they go on, and how they end."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator

import pytest

from shared.errors import Refusal
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.execution import ExecutionRequest
from shared.protocol.local import Cancel, Input
from shared.status import ErrorCode
from tests.fakes.supervised import (
    Handler,
    Make,
    Reports,
    Run,
    Script,
    completes,
    crashes,
    fails,
    idle,
    ignores,
    obeys,
    request,
    says_nothing,
)


async def test_an_accepted_run_ends_with_its_handlers_verdict(make: Make, reports: Reports) -> None:
    handler = Handler()
    supervisor = make(handler)
    assert not supervisor.submit(request()).duplicate
    (await handler.started.get()).gate.set()
    assert (await reports.verdict()).data == {"result": "done"}


async def test_a_repeated_dispatch_starts_nothing(make: Make, reports: Reports) -> None:
    handler = Handler()
    supervisor = make(handler)
    supervisor.submit(request(1, 10))
    assert supervisor.submit(request("1", "10")).duplicate
    assert len(handler.runs) == 1


async def test_a_repeat_of_a_finished_run_sends_its_result_again(
    make: Make, reports: Reports
) -> None:
    handler = Handler()
    supervisor = make(handler)
    supervisor.submit(request())
    (await handler.started.get()).gate.set()
    await reports.verdict()
    assert supervisor.submit(request()).duplicate
    assert reports.repeated == [(("10", 1), 2)]
    assert len(handler.runs) == 1


async def test_runs_of_one_session_go_one_after_the_other(make: Make, reports: Reports) -> None:
    handler = Handler()
    supervisor = make(handler)
    supervisor.submit(request(1, 10))
    supervisor.submit(request(1, 11))
    first = await handler.started.get()
    await first.begun.wait()
    assert list(handler.runs) == ["10"]
    first.gate.set()
    second = await handler.started.get()
    assert first.cleaned_up.is_set()
    second.gate.set()
    await reports.verdict(11)


async def test_sessions_run_side_by_side_up_to_the_limit(make: Make, reports: Reports) -> None:
    handler = Handler()
    supervisor = make(handler, max_concurrent=2)
    for session in (1, 2, 3):
        supervisor.submit(request(session, session * 10))
    first, second = await handler.started.get(), await handler.started.get()
    await first.begun.wait()
    await second.begun.wait()
    assert handler.started.empty()
    assert supervisor.running_task_ids() == [1, 2]
    assert supervisor.free_slots == 0
    second.gate.set()
    assert (await handler.started.get()).request.task_id == 3


async def test_beyond_the_queue_a_run_is_refused_as_busy(make: Make) -> None:
    handler = Handler()
    supervisor = make(handler, max_concurrent=1, queue_limit=1)
    supervisor.submit(request(1, 10))
    supervisor.submit(request(2, 20))
    with pytest.raises(Refusal) as refused:
        supervisor.submit(request(3, 30))
    assert (refused.value.error_code, refused.value.reason) == (ErrorCode.BUSY, "slots")


async def test_one_sessions_messages_cannot_fill_the_queue_without_end(make: Make) -> None:
    supervisor = make(Handler(), max_concurrent=3, queue_limit=1)
    supervisor.submit(request(1, 10))
    supervisor.submit(request(1, 11))
    assert supervisor.free_slots == 2
    with pytest.raises(Refusal) as refused:
        supervisor.submit(request(1, 12))
    assert refused.value.error_code == ErrorCode.BUSY
    supervisor.submit(request(2, 20))  # it need not wait
    assert supervisor.running_task_ids() == [1, 2]


async def test_what_the_handler_refuses_leaves_no_trace(make: Make, reports: Reports) -> None:
    handler = Handler()
    handler.refusal = Refusal(ErrorCode.UNSUPPORTED_AGENT, "no such agent")
    supervisor = make(handler)
    with pytest.raises(Refusal):
        supervisor.submit(request())
    assert reports.events == {}
    assert supervisor.unfinished() == []


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        (crashes, "internal", "ZeroDivisionError"),
        (says_nothing, "internal", "without a verdict"),
        (fails, "clone_failed", "no such branch"),
    ],
)
async def test_whatever_goes_wrong_becomes_one_verdict(
    make: Make, reports: Reports, script: Script, code: str, words: str
) -> None:
    supervisor = make(Handler(script))
    supervisor.submit(request(1, 10))
    verdict = await reports.verdict()
    assert verdict.data["error_code"] == code
    assert words in verdict.data["error"]
    assert "secret" not in verdict.data["error"]
    supervisor.submit(request(1, 11))
    await reports.verdict(11)
    assert reports.verdicts() == {"10": ["failed"], "11": ["failed"]}


async def test_a_run_that_cannot_be_started_fails_and_the_next_one_is_carried_out(
    make: Make, reports: Reports
) -> None:
    class Refusing(Handler):
        def start(self, request: ExecutionRequest) -> Run:
            if request.subtask_id != 11:
                raise UnicodeEncodeError("utf-8", "secret", 0, 1, "surrogates not allowed")
            return super().start(request)

    handler = Refusing()
    supervisor = make(handler, max_concurrent=1)
    supervisor.submit(request(1, 10))
    assert reports.verdicts() == {"10": ["failed"]}
    assert "secret" not in (await reports.verdict()).data["error"]
    supervisor.submit(request(1, 11))
    (await handler.started.get()).gate.set()
    await reports.verdict(11)
    await asyncio.wait_for(supervisor.drain(grace_s=3600), 30)


async def test_a_finished_run_keeps_nothing_of_its_request(make: Make, reports: Reports) -> None:
    handler = Handler()
    supervisor = make(handler)
    told = request()
    watched = weakref.ref(told)
    supervisor.submit(told)
    (await handler.started.get()).gate.set()
    await asyncio.wait_for(supervisor.drain(grace_s=3600), 30)
    handler.runs.clear()
    del told
    gc.collect()
    assert watched() is None
    assert supervisor.submit(request()).duplicate


async def test_a_run_is_forgotten_once_its_time_is_over_and_its_verdict_delivered(
    make: Make, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executor.tasks.lifecycle.FINISHED_KEPT_S", -1.0)
    handler = Handler()
    supervisor = make(handler)
    reports.undelivered.add(("10", 1))
    for subtask in (10, 20, 30):
        supervisor.submit(request(subtask, subtask))
        (await handler.started.get()).gate.set()
        await idle(supervisor)
    assert reports.forgotten == [("20", 1), ("30", 1)]
    assert supervisor.submit(request(10, 10)).duplicate


async def test_a_dispatch_again_of_what_was_superseded_is_not_forgotten_with_it(
    make: Make, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executor.tasks.lifecycle.FINISHED_KEPT_S", -1.0)
    handler = Handler()
    supervisor = make(handler)
    reports.undelivered.add(("10", 1))
    supervisor.submit(request(1, 10))
    (await handler.started.get()).gate.set()
    await idle(supervisor)
    supervisor.supersede(("10", 1))
    reports.undelivered.clear()
    assert not supervisor.submit(request(1, 10)).duplicate
    supervisor.submit(request(2, 20))
    again, other = await handler.started.get(), await handler.started.get()
    await again.begun.wait()
    other.gate.set()
    await idle(supervisor, but=1)
    assert [ref.subtask_id for ref in supervisor.unfinished()] == [10]
    again.gate.set()


async def test_a_run_beyond_its_time_is_interrupted_and_tells_what_it_has_done(
    make: Make, reports: Reports
) -> None:
    supervisor = make(Handler(obeys))
    supervisor.submit(request(timeout_seconds=0.01))
    verdict = await reports.verdict()
    assert verdict.type == EventType.FAILED
    assert verdict.data["error_code"] == "timed_out"
    assert "0.01 s" in verdict.data["error"]
    assert verdict.data["workspace"] == {"path": "/w"}


async def test_a_run_that_is_cancelled_beyond_its_time_is_cancelled(
    make: Make, reports: Reports
) -> None:
    handler = Handler(ignores)
    supervisor = make(handler, interrupt_grace_s=0.05)
    supervisor.submit(request(timeout_seconds=0.01))
    await (await handler.started.get()).cancelled.wait()
    supervisor.cancel(Cancel(task_id=1, reason="why"))
    assert (await reports.verdict()).data == {"reason": "why"}
    assert reports.verdicts() == {"10": ["cancelled"]}


async def test_a_run_beyond_its_time_is_ended_and_fails(make: Make, reports: Reports) -> None:
    handler = Handler(ignores)
    supervisor = make(handler, interrupt_grace_s=0.01)
    supervisor.submit(request(timeout_seconds=0.01))
    verdict = await reports.verdict()
    assert verdict.data["error_code"] == "timed_out"
    assert handler.runs["10"].cleaned_up.is_set()


async def test_a_cancelled_run_keeps_what_its_handler_says_of_the_workspace(
    make: Make, reports: Reports
) -> None:
    handler = Handler(obeys)
    supervisor = make(handler)
    supervisor.submit(request())
    await (await handler.started.get()).begun.wait()
    assert supervisor.cancel(Cancel(task_id=1, subtask_id="10", reason="why")) == "cancelling"
    verdict = await reports.verdict()
    assert verdict.type == EventType.CANCELLED
    assert verdict.data["workspace"] == {"path": "/w"}


async def test_an_agent_that_ignores_the_interrupt_is_ended(make: Make, reports: Reports) -> None:
    handler = Handler(ignores)
    supervisor = make(handler, interrupt_grace_s=0.01)
    supervisor.submit(request())
    run = await handler.started.get()
    await run.begun.wait()
    supervisor.cancel(Cancel(task_id=1, reason="why"))
    verdict = await reports.verdict()
    assert (verdict.type, verdict.data) == (EventType.CANCELLED, {"reason": "why"})
    assert run.cancelled.is_set()
    assert run.cleaned_up.is_set()


async def test_a_queued_run_is_cancelled_at_once(make: Make, reports: Reports) -> None:
    handler = Handler()
    supervisor = make(handler)
    supervisor.submit(request(1, 10))
    supervisor.submit(request(1, 11))
    assert supervisor.cancel(Cancel(task_id=1, subtask_id=11)) == "cancelling"
    assert reports.verdicts()["11"] == ["cancelled"]
    assert supervisor.cancel(Cancel(task_id=1, subtask_id=11)) == "finished"
    assert "11" not in handler.runs


async def test_a_cancel_before_its_dispatch_is_kept(make: Make, reports: Reports) -> None:
    handler = Handler()
    supervisor = make(handler)
    assert supervisor.cancel(Cancel(task_id=1, subtask_id=10)) == "unknown"
    supervisor.submit(request(1, 10))
    assert reports.verdicts() == {"10": ["cancelled"]}
    assert handler.runs == {}


async def test_cancelling_a_session_ends_all_its_runs_and_no_other(
    make: Make, reports: Reports
) -> None:
    handler = Handler(obeys)
    supervisor = make(handler)
    supervisor.submit(request(1, 10))
    supervisor.submit(request(1, 11))
    supervisor.submit(request(2, 20))
    supervisor.cancel(Cancel(task_id="1"))
    await reports.verdict(10)
    assert reports.verdicts() == {"10": ["cancelled"], "11": ["cancelled"], "20": []}


async def test_a_session_takes_the_next_run_after_a_cancel(make: Make, reports: Reports) -> None:
    handler = Handler(ignores)
    supervisor = make(handler, interrupt_grace_s=0)
    supervisor.submit(request(1, 10))
    supervisor.cancel(Cancel(task_id=1, subtask_id=10))
    await reports.verdict(10)
    handler.script = completes
    supervisor.submit(request(1, 11))
    run = await handler.started.get()
    while run.request.subtask_id != 11:
        run = await handler.started.get()
    run.gate.set()
    assert (await reports.verdict(11)).type == EventType.COMPLETED


async def test_a_later_attempt_ends_the_earlier_one_and_is_not_undone(
    make: Make, reports: Reports
) -> None:
    handler = Handler(obeys)
    supervisor = make(handler)
    supervisor.submit(request(1, 10))
    await (await handler.started.get()).begun.wait()
    supervisor.submit(request(1, 10, attempt=2))
    assert reports.forgotten == [("10", 1)]
    second = await handler.started.get()
    assert second.request.attempt == 2
    with pytest.raises(Refusal) as refused:
        supervisor.submit(request(1, 10, attempt=1))
    assert refused.value.error_code == ErrorCode.SUPERSEDED


async def test_reports_name_what_the_backend_may_not_know(make: Make, reports: Reports) -> None:
    async def knows_its_session(run: Run) -> AsyncGenerator[AgentEvent]:
        yield AgentEvent(EventType.SESSION, {"sdk_session_id": "s-1"})
        await run.gate.wait()
        yield AgentEvent(EventType.COMPLETED, {})

    handler = Handler(knows_its_session)
    supervisor = make(handler)
    supervisor.submit(request(1, 10))
    supervisor.submit(request(1, 11))
    first = await handler.started.get()
    first.gate.set()
    await (await handler.started.get()).begun.wait()
    reports.undelivered.add(("10", 1))
    told = {r.subtask_id: (r.state, r.last_seq, r.sdk_session_id) for r in supervisor.reports()}
    assert told[10] == ("finished", 2, "s-1")
    assert told[11][0] == "running"
    reports.undelivered.clear()
    assert [r.subtask_id for r in supervisor.reports()] == [11]
    assert [ref.subtask_id for ref in supervisor.unfinished()] == [11]


async def test_an_answer_reaches_the_run_that_asked(make: Make) -> None:
    handler = Handler()
    supervisor = make(handler)
    supervisor.submit(request(1, 10))
    answer = {"task_id": 1, "subtask_id": "10", "request_id": "known", "decision": "allow"}
    assert (await supervisor.answer(Input.model_validate(answer))).success
    unknown = await supervisor.answer(Input.model_validate({**answer, "request_id": "other"}))
    assert (unknown.success, unknown.code) == (False, "unknown_request")
