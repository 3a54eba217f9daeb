"""Where runs stand, as somebody at this machine is told, and what became of one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from executor.delivery.run_rows import RunRecord
from executor.tasks.supervisor import Supervisor
from shared.protocol.events import RunRef, utc_timestamp
from shared.protocol.local import Cancel
from tests.fakes.supervised import Handler, Make, Reports, idle, obeys, request


def seen(supervisor: Supervisor) -> list[tuple[int | str, str, str | None]]:
    return [(one.ref.subtask_id, one.state, one.waits_for) for one in supervisor.whereabouts()]


async def test_queued_runs_wait_for_a_place_or_for_their_session(make: Make) -> None:
    supervisor = make(Handler(), max_concurrent=1, queue_limit=9)
    supervisor.submit(request(1, 10))
    supervisor.submit(request(1, 11))
    supervisor.submit(request(2, 20))
    assert seen(supervisor) == [
        (10, "running", None),
        (11, "queued", "session"),
        (20, "queued", "slot"),
    ]


async def test_a_run_that_waits_for_somebody_says_for_whom(make: Make) -> None:
    handler = Handler()
    supervisor = make(handler)
    supervisor.submit(request())
    run = await handler.started.get()
    run.waits_for = "user"
    assert seen(supervisor) == [(10, "waiting_for_input", "user")]
    run.waits_for = "api"
    assert seen(supervisor) == [(10, "running", "api")]


async def test_while_the_disk_is_full_runs_are_paused_and_none_begins(make: Make) -> None:
    handler = Handler()
    supervisor = make(handler, max_concurrent=1)
    supervisor.submit(request(1, 10))
    supervisor.submit(request(2, 20))
    supervisor.disk_trouble("no space left")
    assert supervisor.trouble == "no space left"
    assert seen(supervisor) == [(10, "paused", "disk"), (20, "queued", "disk")]
    supervisor.disk_trouble(None)
    assert supervisor.trouble is None
    assert seen(supervisor) == [(10, "running", None), (20, "queued", "slot")]


async def test_what_an_earlier_process_left_waits_for_the_backend(make: Make) -> None:
    supervisor = make(Handler())
    supervisor.restore(
        [
            RunRecord(RunRef(1, 10), "running", 3, 0, None, {}),
            RunRecord(RunRef(2, 20), "queued", 0, 0, None, {}),
            RunRecord(RunRef(3, 30), "finished", 9, 0, None, {}),
        ]
    )
    assert seen(supervisor) == [(10, "interrupted", "backend"), (20, "queued", "backend")]
    assert [one.agent for one in supervisor.whereabouts()] == ["", ""]
    supervisor.submit(request(1, 10))
    assert seen(supervisor)[0] == (10, "running", None)
    assert supervisor.whereabouts()[0].agent == "claude_code"


async def test_since_is_when_the_run_began_to_wait_and_then_when_it_began(make: Make) -> None:
    handler = Handler()
    supervisor = make(handler, max_concurrent=1)
    before = datetime.now(UTC)
    supervisor.submit(request(1, 10))
    supervisor.submit(request(2, 20))
    accepted = supervisor.whereabouts()[1].since
    assert abs((datetime.fromisoformat(accepted) - before).total_seconds()) < 60
    while utc_timestamp() == accepted:  # noqa: ASYNC110 - a clock
        await asyncio.sleep(0.001)
    (await handler.started.get()).gate.set()
    await handler.started.get()
    (second,) = supervisor.whereabouts()
    assert (second.state, second.since > accepted) == ("running", True)


async def test_a_cancelled_run_is_cancelling_until_its_verdict(make: Make) -> None:
    handler = Handler(obeys)
    supervisor = make(handler)
    supervisor.submit(request())
    await (await handler.started.get()).begun.wait()
    supervisor.cancel(Cancel(task_id=1, subtask_id=10))
    assert seen(supervisor) == [(10, "cancelling", None)]
    async with asyncio.timeout(30):
        assert await supervisor.verdict(("10", 1)) == "cancelled"
    assert seen(supervisor) == []


async def test_the_verdict_of_a_run_that_never_began_is_known_at_once(make: Make) -> None:
    supervisor = make(Handler(), max_concurrent=1)
    supervisor.submit(request(1, 10))
    supervisor.submit(request(2, 20))
    supervisor.cancel(Cancel(task_id=2, subtask_id=20))
    assert await supervisor.verdict(("20", 1)) == "cancelled"


async def test_a_run_that_completes_has_that_verdict(make: Make, reports: Reports) -> None:
    handler = Handler()
    supervisor = make(handler)
    supervisor.submit(request())
    waiting = asyncio.create_task(supervisor.verdict(("10", 1)))
    (await handler.started.get()).gate.set()
    async with asyncio.timeout(30):
        assert await waiting == "completed"


async def test_a_run_that_is_parked_or_unknown_has_no_verdict(make: Make) -> None:
    handler = Handler()
    supervisor = make(handler, redispatches=True)
    supervisor.submit(request())
    waiting = asyncio.create_task(supervisor.verdict(("10", 1)))
    await (await handler.started.get()).begun.wait()
    await supervisor.drain(0)
    async with asyncio.timeout(30):
        assert await waiting is None
        assert await supervisor.verdict(("unknown", 1)) is None
    await idle(supervisor)
