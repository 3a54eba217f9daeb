"""What the user of a machine hears of the running executor, and how a run is cancelled there."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from executor.control.desk import Desk, Identity
from executor.control.errors import ControlError
from executor.control.protocol import MAX_ANSWER_BYTES, MAX_TASKS, encode
from executor.modes.local.heartbeat import Rhythm
from executor.modes.local.standing import LinkStanding
from executor.tasks.supervisor import Supervisor
from shared.protocol.events import utc_timestamp
from shared.redaction import Redactor
from shared.version import __version__
from tests.fakes.supervised import Handler, Make, Reports, ignores, obeys, request

IDENTITY = Identity("工作站", Path("/home/me"), "http://127.0.0.1:1/prefix", 2)


def desk(supervisor: Supervisor, standing: LinkStanding | None = None, **options: Any) -> Desk:
    return Desk(
        IDENTITY,
        supervisor,
        standing or LinkStanding(),
        outbox_depth=lambda: 7,
        redact=Redactor(["the-token-of-the-executor"]).redact,
        **options,
    )


async def ask(desk: Desk, command: str, **arguments: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        answer = await desk.answer({"command": command, **arguments})
    told: dict[str, Any] = json.loads(json.dumps(answer))
    return told


async def test_a_status_tells_who_this_is_and_counts_runs_by_state(make: Make) -> None:
    supervisor = make(Handler(), max_concurrent=1, queue_limit=9)
    for number in (1, 2, 3):
        supervisor.submit(request(number, number * 10))
    told = await ask(desk(supervisor), "status")
    assert told.pop("since") <= told.pop("started") <= utc_timestamp()
    assert told == {
        "state": "connecting",
        "draining": False,
        "last_error": None,
        "backend": "http://127.0.0.1:1/prefix",
        "address": None,
        "last_heartbeat": None,
        "pid": os.getpid(),
        "version": __version__,
        "name": "工作站",
        "home": "/home/me",
        "runs": {
            "running": 1,
            "waiting_for_input": 0,
            "paused": 0,
            "cancelling": 0,
            "queued": 2,
            "interrupted": 0,
        },
        "max_concurrent_tasks": 2,
        "outbox": 7,
        "disk": None,
    }


async def test_why_it_is_not_connected_is_told_without_secrets(make: Make) -> None:
    standing = LinkStanding()
    told = desk(make(Handler()), standing)
    standing.attempt_failed("no route with the-token-of-the-executor")
    assert (await ask(told, "status"))["last_error"] == "no route with ***"
    standing.registered(Rhythm(10, 30))
    standing.heartbeat_heard()
    status = await ask(told, "status")
    assert (status["state"], status["last_error"]) == ("registered", None)
    assert status["last_heartbeat"] >= status["since"]


async def test_trouble_with_the_disk_and_a_stop_are_told(make: Make) -> None:
    supervisor = make(Handler())
    told = desk(supervisor)
    supervisor.disk_trouble("no space left")
    supervisor.stop_accepting()
    status = await ask(told, "status")
    assert (status["disk"], status["draining"]) == ("no space left", True)


async def test_tasks_are_told_with_their_ids_as_text(make: Make) -> None:
    supervisor = make(Handler(), max_concurrent=1)
    supervisor.submit(request(1, 10))
    supervisor.submit(request("b", "b-1"))
    told = await ask(desk(supervisor), "tasks")
    assert [task.pop("since")[-1] for task in told["tasks"]] == ["Z", "Z"]
    plain = {"attempt": 1, "agent": "claude_code"}
    assert told["total"] == 2
    assert told["tasks"] == [
        {"task_id": "1", "subtask_id": "10", "state": "running", "waits_for": None, **plain},
        {"task_id": "b", "subtask_id": "b-1", "state": "queued", "waits_for": "slot", **plain},
    ]


async def test_of_very_many_tasks_the_first_are_told_and_how_many_there_are(make: Make) -> None:
    supervisor = make(Handler(), max_concurrent=1, queue_limit=MAX_TASKS + 9)
    for number in range(MAX_TASKS + 1):
        name = f"{number:0128}"
        supervisor.submit(request(name, name))
    told = await ask(desk(supervisor), "tasks")
    assert (len(told["tasks"]), told["total"]) == (MAX_TASKS, MAX_TASKS + 1)
    assert len(encode(told)) * 5 < MAX_ANSWER_BYTES


async def test_a_cancel_goes_the_backends_way_and_waits_for_the_verdict(
    make: Make, reports: Reports
) -> None:
    handler = Handler()
    supervisor = make(handler)
    supervisor.submit(request(1, 10))
    run = await handler.started.get()
    cancelling = asyncio.create_task(ask(desk(supervisor), "cancel", id="10"))
    await run.cancelled.wait()
    assert not cancelling.done()
    run.gate.set()
    assert await cancelling == {"task_id": "1", "subtask_id": "10", "verdict": "cancelled"}
    assert (await reports.verdict()).data["reason"] == "cancelled on this machine"
    with pytest.raises(ControlError, match="in progress"):
        await ask(desk(supervisor), "cancel", id="10")


@pytest.mark.parametrize("name", ["1", "10", "1/10"])
async def test_a_run_goes_by_its_id_its_tasks_and_both(make: Make, name: str) -> None:
    supervisor = make(Handler(obeys))
    supervisor.submit(request(1, 10))
    supervisor.submit(request(2, 20))
    assert (await ask(desk(supervisor), "cancel", id=name))["subtask_id"] == "10"


@pytest.mark.parametrize("name", ["9", "", "1/", "01", "/10"])
async def test_an_unknown_id_is_an_error_that_says_where_to_look(make: Make, name: str) -> None:
    supervisor = make(Handler())
    supervisor.submit(request(1, 10))
    with pytest.raises(ControlError) as unknown:
        await ask(desk(supervisor), "cancel", id=name)
    assert unknown.value.reason == "unknown_run"
    assert "wegent-executor tasks" in str(unknown.value)


async def test_an_id_of_several_runs_names_them_and_cancels_none(make: Make) -> None:
    supervisor = make(Handler(obeys), queue_limit=9)
    supervisor.submit(request(1, 10))
    supervisor.submit(request(1, 11))
    supervisor.submit(request(11, 12))
    at = desk(supervisor)
    for name, runs in {"1": "1/10, 1/11", "11": "1/11, 11/12"}.items():
        with pytest.raises(ControlError, match=f"several runs: {runs}") as ambiguous:
            await ask(at, "cancel", id=name)
        assert ambiguous.value.reason == "ambiguous"
    assert len(supervisor.whereabouts()) == 3
    assert (await ask(at, "cancel", id="11/12"))["verdict"] == "cancelled"


async def test_a_run_that_does_not_end_in_time_has_no_verdict_yet(make: Make) -> None:
    supervisor = make(Handler(ignores), interrupt_grace_s=3600)
    supervisor.submit(request(1, 10))
    told = await ask(desk(supervisor, cancel_wait_s=0.01), "cancel", id="1")
    assert told["verdict"] is None
    (one,) = supervisor.whereabouts()
    assert one.state == "cancelling"


async def test_an_unknown_command_is_refused_with_the_version(make: Make) -> None:
    for command in ("stop", "", None, 7):
        with pytest.raises(ControlError, match=__version__) as unknown:
            await desk(make(Handler())).answer({"command": command})
        assert unknown.value.reason == "unknown_command"
