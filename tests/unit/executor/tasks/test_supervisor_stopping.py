"""What becomes of runs when the executor stops."""

from __future__ import annotations

import asyncio

import pytest

from executor.tasks.supervisor import Supervisor
from shared.errors import Refusal
from shared.protocol.local import Cancel
from shared.status import ErrorCode
from tests.fakes.supervised import (
    Handler,
    Make,
    Reports,
    ignores,
    request,
)


async def test_draining_lets_runs_finish_and_takes_no_new_ones(
    make: Make, reports: Reports
) -> None:
    handler = Handler()
    supervisor = make(handler)
    supervisor.submit(request(1, 10))
    run = await handler.started.get()
    drained = asyncio.create_task(supervisor.drain(grace_s=3600))
    await run.begun.wait()
    assert handler.winding_down
    with pytest.raises(Refusal) as refused:
        supervisor.submit(request(2, 20))
    assert refused.value.error_code == ErrorCode.DRAINING
    run.gate.set()
    await asyncio.wait_for(drained, 30)
    assert reports.verdicts() == {"10": ["completed"]}


def states(supervisor: Supervisor) -> dict[int | str, str]:
    """How the backend is told that its runs stand."""
    return {report.subtask_id: report.state for report in supervisor.reports()}


async def test_what_the_grace_does_not_suffice_for_is_parked(make: Make, reports: Reports) -> None:
    handler = Handler(ignores)
    supervisor = make(handler, redispatches=True)
    for session, subtask in ((1, 10), (1, 11), (2, 20)):
        supervisor.submit(request(session, subtask))
    run = await handler.started.get()
    await run.begun.wait()
    await asyncio.wait_for(supervisor.drain(grace_s=0), 30)
    assert run.cleaned_up.is_set()
    assert reports.verdicts() == {"10": [], "11": [], "20": []}
    assert states(supervisor) == {10: "interrupted", 11: "queued", 20: "interrupted"}
    assert sorted(reports.parked) == [("10", 1), ("11", 1), ("20", 1)]
    assert len(supervisor.unfinished()) == 3


async def test_a_run_that_has_told_nothing_yet_is_parked_as_queued(
    make: Make, reports: Reports
) -> None:
    handler = Handler(ignores)
    supervisor = make(handler, redispatches=True)
    supervisor.submit(request())
    async with asyncio.timeout(30):  # no task of its own, which would let the run begin first
        await supervisor.close()
    assert states(supervisor) == {10: "queued"}
    assert handler.closed


async def test_what_waits_does_not_begin_any_more_when_it_will_be_sent_again(
    make: Make, reports: Reports
) -> None:
    handler = Handler()
    supervisor = make(handler, redispatches=True)
    supervisor.submit(request(1, 10))
    supervisor.submit(request(1, 11))
    run = await handler.started.get()
    drained = asyncio.create_task(supervisor.drain(grace_s=3600))
    await run.begun.wait()
    run.gate.set()
    await asyncio.wait_for(drained, 30)
    assert reports.verdicts() == {"10": ["completed"], "11": []}
    assert list(handler.runs) == ["10"]
    assert states(supervisor) == {11: "queued"}


async def test_what_waits_begins_in_the_grace_when_nobody_will_send_it_again(
    make: Make, reports: Reports
) -> None:
    handler = Handler()
    supervisor = make(handler)
    supervisor.submit(request(1, 10))
    supervisor.submit(request(1, 11))
    drained = asyncio.create_task(supervisor.drain(grace_s=3600))
    for _ in range(2):
        (await handler.started.get()).gate.set()
    await asyncio.wait_for(drained, 30)
    assert reports.verdicts() == {"10": ["completed"], "11": ["completed"]}


async def test_whether_to_park_goes_by_the_last_registration(make: Make, reports: Reports) -> None:
    supervisor = make(Handler(ignores), redispatches=True)
    supervisor.connected(redispatches=False)
    supervisor.submit(request())
    await asyncio.wait_for(supervisor.close(), 30)
    assert reports.verdicts() == {"10": ["failed"]}


async def test_a_parked_run_is_cancelled_and_not_taken_up_by_this_process(
    make: Make, reports: Reports
) -> None:
    supervisor = make(Handler(ignores), redispatches=True)
    supervisor.submit(request())
    await asyncio.wait_for(supervisor.drain(grace_s=0), 30)
    with pytest.raises(Refusal) as refused:
        supervisor.submit(request())
    assert refused.value.error_code == ErrorCode.DRAINING
    assert supervisor.cancel(Cancel(task_id=1, subtask_id=10)) == "cancelling"
    assert reports.verdicts() == {"10": ["cancelled"]}
    assert supervisor.unfinished() == []


async def test_a_superseded_run_that_is_still_ending_is_not_parked(
    make: Make, reports: Reports
) -> None:
    handler = Handler(ignores)
    supervisor = make(handler, redispatches=True)
    supervisor.submit(request())
    await (await handler.started.get()).begun.wait()
    supervisor.supersede(("10", 1))
    await asyncio.wait_for(supervisor.drain(grace_s=0), 30)
    assert reports.parked == []
    assert supervisor.reports() == []


async def test_a_draining_executor_has_no_free_slots(make: Make) -> None:
    supervisor = make(Handler())
    supervisor.stop_accepting()
    assert supervisor.free_slots == 0


async def test_what_the_grace_does_not_suffice_for_fails_when_nobody_will_send_it_again(
    make: Make, reports: Reports
) -> None:
    handler = Handler(ignores)
    supervisor = make(handler)
    supervisor.submit(request(1, 10))
    supervisor.submit(request(1, 11))
    run = await handler.started.get()
    await run.begun.wait()
    await asyncio.wait_for(supervisor.drain(grace_s=0), 30)
    codes = [(await reports.verdict(n)).data["error_code"] for n in (10, 11)]
    assert codes == ["executor_restarted", "executor_restarted"]
    assert run.cleaned_up.is_set()
    assert "11" not in handler.runs


async def test_a_run_ended_before_its_first_step_still_gets_a_verdict(
    make: Make, reports: Reports
) -> None:
    handler = Handler(ignores)
    supervisor = make(handler)
    supervisor.submit(request(1, 10))
    await asyncio.wait_for(supervisor.close(), 30)
    assert reports.verdicts() == {"10": ["failed"]}
    assert handler.closed
