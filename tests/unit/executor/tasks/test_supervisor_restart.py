"""Runs of an earlier process: reported, taken up again, or failed; and a disk that is full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from executor.delivery.run_rows import RunRecord
from executor.delivery.state import StateStore
from executor.tasks.continuing import AFTER_RESTART, noted
from executor.tasks.redispatch import continued
from executor.tasks.supervisor import Supervisor
from shared.errors import Refusal
from shared.protocol.events import AgentEvent, EventType, RunRef
from shared.protocol.execution import ExecutionRequest
from shared.protocol.local import Cancel
from shared.protocol.prompt import TextBlock
from shared.status import ErrorCode
from tests.fakes.run_handler import ScriptedRunHandler, completed
from tests.fakes.supervised import Records, Reports, idle

INTERRUPTED = RunRecord(RunRef(1, "cut"), "running", 7, 40, "sid-1", {})
QUEUED = RunRecord(RunRef(2, "waiting"), "queued", 0, 0, None, {})
FINISHED = RunRecord(RunRef(3, "done"), "finished", 5, 100, "sid-3", {})


def request(run: RunRef, **fields: Any) -> ExecutionRequest:
    return ExecutionRequest.model_validate(
        {"task_id": run.task_id, "subtask_id": run.subtask_id, "prompt": "go", **fields}
    )


class Restarted:
    """A supervisor that has been told of the runs of an earlier process."""

    def __init__(self, *, wait_s: float = 60.0, max_concurrent: int = 2) -> None:
        self.agent = ScriptedRunHandler([AgentEvent(EventType.STARTED, {}), completed()])
        self.reports = Reports()
        self.records = Records()
        self.supervisor = Supervisor(
            self.agent,
            self.reports,
            self.records,
            max_concurrent=max_concurrent,
            queue_limit=4,
            timeout_s=60,
            redispatch_wait_s=wait_s,
        )
        self.supervisor.restore([INTERRUPTED, QUEUED, FINISHED])


@pytest.fixture
async def restarted() -> AsyncGenerator[Restarted]:
    restarted = Restarted()
    yield restarted
    async with asyncio.timeout(30):
        await restarted.supervisor.close()


def test_a_run_that_was_cut_off_is_told_so_and_given_its_task() -> None:
    plain = request(RunRef(1, 1), new_session=True)
    going_on = continued(plain, "sid")
    assert isinstance(going_on.prompt, str)
    assert going_on.prompt.startswith(AFTER_RESTART)
    assert going_on.prompt.endswith("\n\ngo")
    assert (going_on.sdk_session_id, going_on.new_session) == ("sid", False)
    assert continued(plain, None) is plain
    blocks = request(RunRef(1, 1), prompt=[{"type": "text", "text": "look"}])
    going_on_blocks = continued(blocks, "sid").prompt
    assert isinstance(going_on_blocks, list)
    note, *rest = going_on_blocks
    assert isinstance(note, TextBlock)
    assert note.text.startswith(AFTER_RESTART)
    assert rest == blocks.prompt


async def test_runs_of_an_earlier_process_are_reported_as_they_were_left(
    restarted: Restarted,
) -> None:
    restarted.reports.undelivered.add(FINISHED.run.key)
    told = {
        r.subtask_id: (r.state, r.last_seq, r.sdk_session_id)
        for r in restarted.supervisor.reports()
    }
    assert told == {
        "cut": ("interrupted", 7, "sid-1"),
        "waiting": ("queued", 0, None),
        "done": ("finished", 5, "sid-3"),
    }
    assert restarted.supervisor.unfinished() == [INTERRUPTED.run, QUEUED.run]
    assert restarted.agent.requests == []


async def test_a_dispatch_again_resumes_the_conversation_of_an_interrupted_run(
    restarted: Restarted,
) -> None:
    submission = restarted.supervisor.submit(request(INTERRUPTED.run))
    assert (submission.resumed, submission.duplicate) == (True, False)
    await submission.written()  # it was accepted before
    (started,) = restarted.agent.requests
    assert (started.sdk_session_id, started.prompt) == ("sid-1", noted(AFTER_RESTART, "go"))
    assert restarted.reports.resumed == [INTERRUPTED.run.key]
    key, verdict = await restarted.reports.next_verdict()
    assert (key, verdict.type) == (INTERRUPTED.run.key, EventType.COMPLETED)
    again = restarted.supervisor.submit(request(INTERRUPTED.run))
    assert (again.duplicate, again.resumed) == (True, False)
    assert restarted.reports.repeated == [(INTERRUPTED.run.key, 9)]
    assert restarted.records.accepted == {}


async def test_a_run_that_is_taken_up_has_what_is_left_of_its_time(reports: Reports) -> None:
    agent = ScriptedRunHandler([AgentEvent(EventType.STARTED, {}), asyncio.Event()])
    supervisor = Supervisor(
        agent, reports, Records(), max_concurrent=2, queue_limit=4, timeout_s=3600
    )
    supervisor.restore([replace(INTERRUPTED, used_s=3600.0), replace(QUEUED, used_s=3599.0)])
    supervisor.submit(request(QUEUED.run, timeout_seconds=7200))
    supervisor.submit(request(INTERRUPTED.run))
    key, verdict = await reports.next_verdict()
    assert (key, verdict.data["error_code"]) == (INTERRUPTED.run.key, "timed_out")
    assert "3600 s" in verdict.data["error"]
    await idle(supervisor, but=1)
    assert supervisor.running_task_ids() == [QUEUED.run.task_id]
    await asyncio.wait_for(supervisor.close(), 30)


async def test_a_run_that_is_killed_again_and_again_times_out_all_the_same(
    reports: Reports,
) -> None:
    lives: list[Supervisor] = []
    left = INTERRUPTED
    while left.used_s < 60:
        agent = ScriptedRunHandler([AgentEvent(EventType.STARTED, {}), asyncio.Event()])
        records = Records()
        life = Supervisor(agent, reports, records, max_concurrent=2, queue_limit=4, timeout_s=60)
        lives.append(life)
        life.restore([left])
        life.submit(request(left.run))
        await agent.started.get()
        used_s, _ = records.times[left.run.key]
        assert used_s > left.used_s  # and here it is killed
        left = replace(left, used_s=used_s)
    last = Supervisor(agent, reports, Records(), max_concurrent=2, queue_limit=4, timeout_s=60)
    last.restore([left])
    last.submit(request(left.run))
    assert (await reports.next_verdict())[1].data["error_code"] == "timed_out"
    for life in (*lives, last):
        await asyncio.wait_for(life.close(), 30)


async def test_the_used_time_is_written_down_for_a_later_process(
    store: StateStore, reports: Reports
) -> None:
    agent = ScriptedRunHandler([AgentEvent(EventType.STARTED, {}), asyncio.Event()])
    supervisor = Supervisor(
        agent,
        reports,
        store,
        max_concurrent=2,
        queue_limit=4,
        timeout_s=3600,
        redispatches=True,
    )
    supervisor.submit(request(RunRef(1, "a")))
    await agent.started.get()
    (ahead,) = await store.runs()
    await supervisor.close()
    (exact,) = await store.runs()
    assert 0 < exact.used_s < ahead.used_s
    assert (ahead.limit_s, exact.limit_s) == (3600, 3600)


async def test_a_dispatch_again_starts_a_queued_run_with_its_own_prompt(
    restarted: Restarted,
) -> None:
    submission = restarted.supervisor.submit(request(QUEUED.run))
    assert (submission.resumed, submission.duplicate) == (False, False)
    (started,) = restarted.agent.requests
    assert (started.sdk_session_id, started.prompt) == (None, "go")


async def test_a_repeat_of_a_run_finished_before_the_restart_sends_its_result(
    restarted: Restarted,
) -> None:
    assert restarted.supervisor.submit(request(FINISHED.run)).duplicate
    assert restarted.reports.repeated == [(FINISHED.run.key, 5)]
    assert restarted.agent.requests == []


async def test_a_run_not_dispatched_again_in_time_fails() -> None:
    restarted = Restarted(wait_s=0.0)
    restarted.supervisor.submit(request(QUEUED.run))
    restarted.supervisor.connected(redispatches=True)
    verdicts = dict(
        [await restarted.reports.next_verdict(), await restarted.reports.next_verdict()]
    )
    assert verdicts[QUEUED.run.key].type == EventType.COMPLETED
    failed = verdicts[INTERRUPTED.run.key]
    assert failed.data["error_code"] == ErrorCode.EXECUTOR_RESTARTED
    assert "within 0 s" in failed.data["error"]
    await restarted.supervisor.close()


async def test_the_time_without_a_connection_does_not_count() -> None:
    restarted = Restarted(wait_s=0.05)
    loop = asyncio.get_running_loop()
    restarted.supervisor.connected(redispatches=True)
    restarted.supervisor.disconnected()
    much_later = loop.create_future()
    loop.call_later(0.15, much_later.set_result, None)
    await much_later
    assert restarted.reports.verdicts() == {}
    assert len(restarted.supervisor.unfinished()) == 2
    restarted.supervisor.connected(redispatches=True)
    await restarted.reports.next_verdict()
    await restarted.supervisor.close()


async def test_a_backend_that_cannot_redispatch_hears_at_once_that_the_runs_failed(
    restarted: Restarted,
) -> None:
    restarted.supervisor.connected(redispatches=False)
    verdicts = dict(
        [await restarted.reports.next_verdict(), await restarted.reports.next_verdict()]
    )
    assert {v.data["error_code"] for v in verdicts.values()} == {ErrorCode.EXECUTOR_RESTARTED}
    assert restarted.supervisor.unfinished() == []


async def test_a_run_that_waits_to_be_dispatched_again_can_be_cancelled(
    restarted: Restarted,
) -> None:
    assert restarted.supervisor.cancel(Cancel(task_id=1, subtask_id="cut")) == "cancelling"
    key, verdict = await restarted.reports.next_verdict()
    assert (key, verdict.type) == (INTERRUPTED.run.key, EventType.CANCELLED)
    assert restarted.supervisor.cancel(Cancel(task_id=1, subtask_id="cut")) == "finished"


async def test_a_run_that_the_backend_gave_to_another_attempt_is_forgotten(
    restarted: Restarted,
) -> None:
    restarted.supervisor.submit(request(RunRef(1, "cut"), attempt=2))
    assert restarted.records.forgotten == [INTERRUPTED.run.key]
    with pytest.raises(Refusal) as refused:
        restarted.supervisor.submit(request(INTERRUPTED.run))
    assert refused.value.error_code == ErrorCode.SUPERSEDED


async def test_a_draining_executor_takes_nothing_up(restarted: Restarted) -> None:
    restarted.supervisor.stop_accepting()
    with pytest.raises(Refusal) as refused:
        restarted.supervisor.submit(request(INTERRUPTED.run))
    assert refused.value.error_code == ErrorCode.DRAINING
    await restarted.supervisor.close()
    # What is left for the next start has no verdict.
    assert [r.state for r in restarted.supervisor.reports()] == ["interrupted", "queued"]


async def test_a_draining_executor_gives_no_run_up_that_a_later_one_may_take_up() -> None:
    restarted = Restarted(wait_s=0.0)
    restarted.supervisor.connected(redispatches=True)
    restarted.supervisor.stop_accepting()
    restarted.supervisor.disconnected()
    restarted.supervisor.connected(redispatches=True)
    passed = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.0, passed.set_result, None)
    await passed
    assert [r.state for r in restarted.supervisor.reports()] == ["interrupted", "queued"]
    await restarted.supervisor.close()


async def test_a_cancelled_session_begins_nothing_that_waited_for_an_interrupted_run(
    restarted: Restarted,
) -> None:
    restarted.supervisor.submit(request(RunRef(1, "later")))
    assert restarted.agent.requests == []
    assert restarted.supervisor.cancel(Cancel(task_id=1)) == "cancelling"
    verdicts = [await restarted.reports.next_verdict() for _ in range(2)]
    assert {key for key, _ in verdicts} == {INTERRUPTED.run.key, ("later", 1)}
    assert {verdict.type for _, verdict in verdicts} == {EventType.CANCELLED}
    assert restarted.agent.requests == []


async def test_a_run_taken_up_and_parked_again_is_still_interrupted() -> None:
    restarted = Restarted()
    restarted.agent.script = [asyncio.Event()]
    restarted.supervisor.connected(redispatches=True)
    restarted.supervisor.submit(request(INTERRUPTED.run))
    await restarted.supervisor.close()
    assert [(r.state, r.sdk_session_id) for r in restarted.supervisor.reports()] == [
        ("interrupted", "sid-1"),
        ("queued", None),
    ]


async def test_an_acceptance_is_answered_only_when_it_is_written(restarted: Restarted) -> None:
    run = RunRef(9, "new")
    submission = restarted.supervisor.submit(request(run))
    repeat = restarted.supervisor.submit(request(run))
    waiting = [asyncio.create_task(s.written()) for s in (submission, repeat)]
    await asyncio.wait(waiting, timeout=0.01)
    assert not any(task.done() for task in waiting)
    assert submission.acceptance is not None
    submission.acceptance.set_result(None)
    async with asyncio.timeout(30):
        await asyncio.gather(*waiting)


async def test_agents_stand_still_until_every_disk_has_room(restarted: Restarted) -> None:
    restarted.agent.script = [gate := asyncio.Event(), completed()]
    restarted.supervisor.submit(request(RunRef(8, "busy")))
    await restarted.agent.started.get()
    restarted.supervisor.disk_trouble("the home is full", "home")
    restarted.supervisor.disk_trouble("the workspace is full", "workspace")
    restarted.supervisor.disk_trouble(None, "home")
    assert restarted.supervisor.trouble == "the workspace is full"
    async with asyncio.timeout(30):
        for _ in range(3):  # for each that was told
            assert await restarted.agent.paused.get() == "busy"
    assert restarted.agent.resumed.empty()
    restarted.supervisor.disk_trouble(None, "workspace")
    async with asyncio.timeout(30):
        assert await restarted.agent.resumed.get() == "busy"
    gate.set()
    await restarted.reports.next_verdict()


async def test_a_full_disk_pauses_agents_and_refuses_tasks_until_there_is_space(
    restarted: Restarted,
) -> None:
    gate = asyncio.Event()
    restarted.agent.script = [gate, completed()]
    restarted.supervisor.submit(request(RunRef(8, "busy")))
    await restarted.agent.started.get()
    restarted.supervisor.disk_trouble("the disk is full")
    async with asyncio.timeout(30):
        assert await restarted.agent.paused.get() == "busy"
    assert restarted.supervisor.free_slots == 0
    with pytest.raises(Refusal) as refused:
        restarted.supervisor.submit(request(RunRef(9, "new")))
    assert (refused.value.error_code, refused.value.reason) == (ErrorCode.BUSY, "disk")
    assert restarted.supervisor.submit(request(QUEUED.run)).duplicate is False  # but it waits
    assert restarted.agent.started.empty()
    restarted.supervisor.disk_trouble(None)
    async with asyncio.timeout(30):
        assert await restarted.agent.resumed.get() == "busy"
        assert await restarted.agent.started.get() == "waiting"
    gate.set()
    await restarted.reports.next_verdict()
