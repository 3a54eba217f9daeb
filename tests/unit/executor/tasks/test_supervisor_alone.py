"""Runs that need no process of ours: left going on when it stops, and followed again later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from executor.delivery.run_rows import RunRecord
from executor.tasks.continuing import AFTER_RESTART
from executor.tasks.supervisor import Supervisor
from shared.protocol.events import AgentEvent, EventType, RunRef
from shared.protocol.local import Cancel
from tests.fakes.supervised import (
    Handler,
    Make,
    Records,
    Reports,
    Run,
    completes,
    idle,
    ignores,
    obeys,
    request,
)

LEFT = RunRecord(RunRef(1, 10), "running", 7, 40, "sid-1", {}, origin=7)


def supervisor_of(handler: Handler, reports: Reports, **options: Any) -> Supervisor:
    limits = {"max_concurrent": 2, "queue_limit": 4, "timeout_s": 60.0}
    return Supervisor(handler, reports, Records(), **{**limits, **options})


async def begun_alone(supervisor: Supervisor, handler: Handler) -> Run:
    """A run that has begun and goes on whatever becomes of the executor."""
    supervisor.submit(request(1, 10))
    run = await handler.started.get()
    await run.begun.wait()
    run.goes_on_alone = True
    return run


async def test_a_stop_neither_waits_for_nor_ends_a_run_that_goes_on_alone(
    make: Make, reports: Reports
) -> None:
    handler = Handler(ignores)
    supervisor = make(handler, redispatches=True)
    run = await begun_alone(supervisor, handler)
    await asyncio.wait_for(supervisor.drain(grace_s=3600), 30)
    assert [(report.subtask_id, report.state) for report in supervisor.reports()] == [
        (10, "running")
    ]
    assert not run.cleaned_up.is_set()
    await asyncio.wait_for(supervisor.close(), 30)
    assert run.left_alone
    assert run.cleaned_up.is_set()
    assert reports.verdicts() == {"10": []}


async def test_a_stop_leaves_it_also_where_nobody_would_send_it_again(
    make: Make, reports: Reports
) -> None:
    handler = Handler(ignores)
    supervisor = make(handler, redispatches=False)
    for session, subtask in ((1, 10), (2, 20)):
        supervisor.submit(request(session, subtask))
    alone, other = await handler.started.get(), await handler.started.get()
    alone.goes_on_alone = True
    await asyncio.wait_for(supervisor.close(), 30)
    assert (alone.left_alone, other.left_alone) == (True, False)
    assert reports.verdicts() == {"10": [], "20": ["failed"]}


async def test_a_run_that_is_being_cancelled_is_ended_by_a_stop(
    make: Make, reports: Reports
) -> None:
    handler = Handler(ignores)
    supervisor = make(handler, redispatches=True)
    run = await begun_alone(supervisor, handler)
    supervisor.cancel(Cancel(task_id=1, subtask_id=10))
    await asyncio.wait_for(supervisor.close(), 30)
    assert not run.left_alone
    assert reports.verdicts() == {"10": ["cancelled"]}


async def test_a_living_run_of_an_earlier_process_is_running_and_tells_its_verdict() -> None:
    handler, reports = Handler(), Reports()
    supervisor = supervisor_of(handler, reports)
    run = Run(request(1, 10), completes)
    supervisor.restore([LEFT])
    supervisor.follow({LEFT.run.key: run})
    assert [(report.state, report.last_seq) for report in supervisor.reports()] == [("running", 7)]
    async with asyncio.timeout(30):
        await run.begun.wait()
    run.gate.set()
    assert (await reports.verdict()).action == "completed"
    assert supervisor.submit(request(1, 10)).duplicate
    assert (reports.resumed, reports.reattached) == ([], [])
    assert reports.repeated == [(("10", 1), 9)]
    await supervisor.close()


async def test_a_run_that_is_found_later_is_followed_from_then_on() -> None:
    handler, reports = Handler(), Reports()
    supervisor = supervisor_of(handler, reports)
    run = Run(request(1, 10), completes)
    supervisor.restore([LEFT])
    assert [report.state for report in supervisor.reports()] == ["interrupted"]
    supervisor.follow({LEFT.run.key: run})
    assert [report.state for report in supervisor.reports()] == ["running"]
    run.gate.set()
    async with asyncio.timeout(30):
        assert (await reports.verdict()).action == "completed"
    await supervisor.close()


async def test_a_run_that_has_ended_or_is_kept_for_the_next_start_is_not_followed() -> None:
    handler, reports = Handler(), Reports()
    supervisor = supervisor_of(handler, reports)
    other = replace(LEFT, run=RunRef(2, 20))
    supervisor.restore([LEFT, other])
    supervisor.cancel(Cancel(task_id=1, subtask_id=10))
    supervisor.follow({LEFT.run.key: Run(request(1, 10), completes)})
    supervisor.stop_accepting()
    supervisor.follow({other.run.key: Run(request(2, 20), completes)})
    assert supervisor.running_task_ids() == []
    assert [report.state for report in supervisor.reports()][-1] == "interrupted"
    await supervisor.close()


@pytest.mark.parametrize(
    "told",
    [
        {"used_s": 7200.0, "limit_s": 7200.0},
        {"used_s": 60.0, "limit_s": None},  # nobody has said it: the executor's own
        {"used_s": 1.0, "limit_s": 7200.0, "away_s": 7200.0},
    ],
)
async def test_a_run_that_is_followed_has_what_is_left_of_its_time(told: dict[str, Any]) -> None:
    reports = Reports()
    supervisor = supervisor_of(Handler(), reports, catch_up_s=0.0)
    seen_at = time.monotonic() - told.pop("away_s", 0.0)
    supervisor.restore([replace(LEFT, seen_at=seen_at, **told)])
    supervisor.follow({LEFT.run.key: Run(request(1, 10), obeys)})
    assert (await reports.verdict()).data["error_code"] == "timed_out"
    await supervisor.close()


async def test_what_a_run_has_told_by_the_end_of_its_time_is_heard_first() -> None:
    async def has_ended(run: Run) -> AsyncGenerator[AgentEvent]:
        yield AgentEvent(EventType.STARTED, {})
        for _ in range(100):
            await asyncio.sleep(0)
        yield AgentEvent(EventType.CANCELLED if run.cancelled.is_set() else EventType.COMPLETED, {})

    reports = Reports()
    supervisor = supervisor_of(Handler(), reports)
    supervisor.restore([replace(LEFT, used_s=60.0, limit_s=60.0)])
    supervisor.follow({LEFT.run.key: Run(request(1, 10), has_ended)})
    assert (await reports.verdict()).action == "completed"
    await supervisor.close()


async def test_a_run_that_is_found_while_a_disk_is_full_stands_still() -> None:
    handler, reports = Handler(), Reports()
    supervisor = supervisor_of(handler, reports)
    supervisor.restore([LEFT])
    supervisor.disk_trouble("no space left")
    run = Run(request(1, 10), completes)
    supervisor.follow({LEFT.run.key: run})
    async with asyncio.timeout(30):
        await run.paused.wait()
        supervisor.disk_trouble(None)
        await run.resumed.wait()
    await supervisor.close()


async def test_its_session_waits_for_it_and_its_place_is_taken() -> None:
    handler, reports = Handler(), Reports()
    supervisor = supervisor_of(handler, reports)
    run = Run(request(1, 10), completes)
    supervisor.restore([LEFT])
    supervisor.follow({LEFT.run.key: run})
    assert supervisor.free_slots == 1
    supervisor.submit(request(1, 11))
    assert handler.started.empty()
    run.gate.set()
    async with asyncio.timeout(30):
        assert (await handler.started.get()).request.subtask_id == 11
    handler.runs["11"].gate.set()
    await idle(supervisor)
    await supervisor.close()


async def test_its_dispatch_starts_nothing_and_makes_its_request_known() -> None:
    handler, reports = Handler(), Reports()
    supervisor = supervisor_of(handler, reports)
    run = Run(request(1, 10), obeys)
    supervisor.restore([LEFT])
    supervisor.follow({LEFT.run.key: run})
    for _ in range(2):
        assert supervisor.submit(request(1, 10)).duplicate
    assert handler.started.empty()
    assert reports.reattached == [("10", 1)]
    supervisor.cancel(Cancel(task_id=1, subtask_id=10))
    assert (await reports.verdict()).action == "cancelled"
    await supervisor.close()


async def test_a_run_told_elsewhere_that_lives_no_more_goes_on_with_its_own_request() -> None:
    handler, reports = Handler(), Reports()
    supervisor = supervisor_of(handler, reports)
    here = replace(LEFT, run=RunRef(2, 20), origin=None)
    supervisor.restore([LEFT, here])
    for session, subtask in ((1, 10), (2, 20)):
        assert supervisor.submit(request(session, subtask)).resumed
    elsewhere, at_home = await handler.started.get(), await handler.started.get()
    # What was told elsewhere is closed there, and the executor there says how it goes on.
    assert (reports.reattached, reports.resumed) == ([("10", 1)], [("20", 1)])
    assert elsewhere.request.prompt == "go"
    assert str(at_home.request.prompt).startswith(AFTER_RESTART)
    await supervisor.close()
