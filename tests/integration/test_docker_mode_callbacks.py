"""Callbacks over real HTTP: in order, until they are acknowledged, whatever the receiver does."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from executor.delivery.event_log import EventLog
from executor.delivery.state import StateStore
from executor.modes.docker.callbacks import Callbacks, CallbackStanding
from executor.modes.docker.receiver_client import ReceiverClient, Unanswered
from executor.network.access import NetworkAccess
from shared.protocol.events import EventType, RunRef
from shared.protocol.http import CallbackTarget
from shared.redaction import Redactor
from tests.fakes.event_log import open_log, tell
from tests.fakes.http_proxy import open_proxy
from tests.fakes.receiver import Answer, Receiver, Request, open_receiver

RUN = RunRef(7, 9)
OTHER = RunRef(8, 10)
TOKEN = "a-token-for-one-run"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with open_receiver() as receiver:
        yield receiver


@dataclass
class Bench:
    """Everything that docker mode tells callbacks with."""

    store: StateStore
    log: EventLog
    callbacks: Callbacks
    warnings: list[tuple[RunRef, str]] = field(default_factory=list)

    async def begin(self, receiver: Receiver, run: RunRef = RUN, **fields: Any) -> None:
        """Have a run accepted whose callbacks go to *receiver*."""
        await self.log.accept(run)
        await self.callbacks.expect(run, target(receiver, **fields))

    async def begin_second(self, receiver: Receiver) -> RunRef:
        """Have a second attempt take the place of the first."""
        second = RunRef(7, 9, attempt=2)
        self.log.forget_run(RUN.key)
        await self.begin(receiver, second)
        return second

    async def standing(self, run: RunRef = RUN) -> CallbackStanding:
        standing = await self.callbacks.standing(run.key[0])
        assert standing is not None
        return standing

    async def reaches(self, met: Callable[[CallbackStanding], bool]) -> CallbackStanding:
        """Wait until the callbacks stand so; each look waits for the disk."""
        async with asyncio.timeout(30):
            while not met(standing := await self.standing()):
                pass
        return standing

    async def settled(self, run: RunRef = RUN) -> CallbackStanding:
        async with asyncio.timeout(30):
            await self.callbacks.wait_settled(run.key)
        return await self.standing(run)


def target(receiver: Receiver, token: str | None = TOKEN, **fields: Any) -> CallbackTarget:
    secret = SecretStr(token) if token is not None else None
    return CallbackTarget(f"{receiver.url}/callback", secret, **fields)


@asynccontextmanager
async def open_bench(
    home: Path,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    environ: dict[str, str] | None = None,
    timeout_s: float = 5,
) -> AsyncIterator[Bench]:
    warnings: list[tuple[RunRef, str]] = []
    async with open_log(home) as (store, log):
        client = ReceiverClient(NetworkAccess(environ or {}), timeout_s=timeout_s)
        callbacks = Callbacks(
            log,
            store,
            client,
            Redactor(),
            warn=lambda run, message: warnings.append((run, message)),
            delays=lambda: itertools.repeat(0.01),
            sleep=sleep,
        )
        await callbacks.resume()
        try:
            yield Bench(store, log, callbacks, warnings)
        finally:
            await callbacks.close(0)
            await client.close()


def statuses(*answers: int) -> Callable[[Request], int]:
    """Answer with these one after the other, and with 200 after that."""
    left = list(answers)
    return lambda _: left.pop(0) if left else 200


def held(receiver: Receiver) -> asyncio.Event:
    """Have *receiver* answer nothing before this is set."""
    go_on = asyncio.Event()

    async def answer(_: Request) -> int:
        await go_on.wait()
        return 200

    receiver.answer = answer
    return go_on


def tokens_on_disk(home: Path) -> list[str | None]:
    with closing(sqlite3.connect(home / "state.db")) as db:
        return [token for (token,) in db.execute("SELECT token FROM callbacks")]


async def test_a_run_is_told_in_order_with_its_own_token(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver, trace_id="trace-1")
        assert await bench.standing() == CallbackStanding("active", 0, None)
        tell(bench.log, RUN, EventType.STARTED, task="hi")
        tell(bench.log, RUN, EventType.REASONING, content="hm")
        tell(bench.log, RUN, EventType.TODOS, todos=[])
        tell(bench.log, RUN, EventType.COMPLETED, result="done")
        assert await bench.settled() == CallbackStanding("ended", 4, None)
    assert receiver.callbacks == [(1, "task_started"), (3, "todo_updated"), (4, "task_completed")]
    for request in receiver.requests:
        assert request.method == "POST"
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        assert request.headers["X-Trace-ID"] == "trace-1"
        assert request.headers["Content-Type"] == "application/json"
    assert len({request.headers["X-Request-ID"] for request in receiver.requests}) == 3
    assert tokens_on_disk(tmp_path) == [None]


async def test_what_is_no_number_in_json_is_told_as_null(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.COMPLETED, result=[float("nan"), float("inf"), 1.5])
        await bench.settled()
    assert receiver.requests[0].body["data"]["result"] == [None, None, 1.5]


async def test_a_receiver_without_a_token_is_sent_none(tmp_path: Path, receiver: Receiver) -> None:
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver, token=None)
        tell(bench.log, RUN, EventType.STARTED, EventType.COMPLETED)
        await bench.settled()
    assert ["Authorization" in request.headers for request in receiver.requests] == [False] * 2


@pytest.mark.parametrize("status", [500, 502, 503, 408, 425, 429])
async def test_what_may_succeed_later_is_sent_again_before_anything_else(
    tmp_path: Path, receiver: Receiver, status: int
) -> None:
    receiver.answer = statuses(200, status, status)
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.STARTED, EventType.TODOS, EventType.COMPLETED)
        assert await bench.settled() == CallbackStanding("ended", 3, None)
    assert [number for number, _ in receiver.callbacks] == [1, 2, 2, 2, 3]
    repeats = {request.headers["X-Request-ID"] for request in receiver.requests[1:4]}
    assert len(repeats) == 1


async def test_nothing_is_lost_while_the_receiver_is_away(
    tmp_path: Path, receiver: Receiver
) -> None:
    tried = asyncio.Event()

    async def sleep(seconds: float) -> None:
        tried.set()
        await asyncio.sleep(seconds)

    async with open_bench(tmp_path, sleep=sleep) as bench, asyncio.timeout(50):
        await bench.begin(receiver)
        await receiver.stop()
        tell(bench.log, RUN, EventType.STARTED, EventType.TODOS, EventType.COMPLETED)
        await tried.wait()
        away = await bench.standing()
        assert (away.state, away.acked) == ("active", 0)
        assert away.error is not None
        assert TOKEN not in away.error
        await receiver.start()
        assert await bench.settled() == CallbackStanding("ended", 3, None)
    assert [number for number, _ in receiver.callbacks] == [1, 2, 3]


async def test_a_receiver_that_hangs_is_given_up_after_a_while_and_tried_again(
    tmp_path: Path, receiver: Receiver
) -> None:
    answers = [receiver.hang]
    receiver.answer = lambda request: answers.pop()(request) if answers else 200
    async with open_bench(tmp_path, timeout_s=0.2) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.COMPLETED)
        assert (await bench.settled()).acked == 1
    assert receiver.callbacks == [(1, "task_completed")] * 2


async def test_an_answer_without_end_is_not_read(tmp_path: Path, receiver: Receiver) -> None:
    async def flood(_: Request) -> web.StreamResponse:
        response = web.Response(body=b"x" * 5_000_000)
        response.enable_compression()
        return response

    receiver.answer = flood
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.COMPLETED)
        assert (await bench.settled()).acked == 1


async def test_a_refused_callback_parks_the_others_but_not_the_verdict(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answer = statuses(200, 422)
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.STARTED, EventType.TODOS, EventType.TODOS)
        standing = await bench.reaches(lambda standing: standing.state == "parked")
        assert (standing.state, standing.acked) == ("parked", 1)
        assert standing.error is not None
        assert "422" in standing.error
        [(run, warning)] = bench.warnings
        assert run == RUN
        assert "422" in warning
        tell(bench.log, RUN, EventType.COMPLETED)
        ended = await bench.settled()
        assert (ended.state, ended.acked) == ("ended", 4)
    assert [number for number, _ in receiver.callbacks] == [1, 2, 4]
    assert tokens_on_disk(tmp_path) == [None]


async def test_a_verdict_that_is_refused_stays_parked_until_the_run_is_asked_for_again(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answer = lambda _: 401
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.STARTED, EventType.COMPLETED)
        assert (await bench.settled()).state == "parked"
        assert len(bench.warnings) == 1  # of the first; a run that has ended tells no more
    assert [number for number, _ in receiver.callbacks] == [1, 2]
    assert tokens_on_disk(tmp_path) == [None]
    receiver.answer = lambda _: 200
    async with open_bench(tmp_path) as bench:
        assert (await bench.settled()).state == "parked"  # a start alone changes nothing
        await bench.callbacks.expect(RUN, target(receiver, token="another"))
        assert await bench.settled() == CallbackStanding("ended", 2, None)
    assert [number for number, _ in receiver.callbacks] == [1, 2, 1, 2]
    assert receiver.requests[-1].headers["Authorization"] == "Bearer another"


async def test_a_parked_run_that_is_asked_for_again_is_told_what_was_refused_and_the_rest(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answer = statuses(200, 403)
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.STARTED, EventType.TODOS, EventType.TODOS)
        await bench.reaches(lambda standing: standing.state == "parked")
        await bench.callbacks.expect(RUN, target(receiver))
        assert (await bench.reaches(lambda standing: standing.acked == 3)).state == "active"
        tell(bench.log, RUN, EventType.COMPLETED)
        await bench.settled()
    assert [number for number, _ in receiver.callbacks] == [1, 2, 2, 3, 4]


async def test_a_run_that_is_asked_for_by_another_is_told_there_from_then_on(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answer = lambda request: 200 if request.body["sequence"] == 1 else 503
    async with open_receiver() as another, open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.STARTED, EventType.TODOS)
        await receiver.wait_for_count(2)
        await bench.callbacks.expect(RUN, target(another, token="another"))
        tell(bench.log, RUN, EventType.COMPLETED)
        assert await bench.settled() == CallbackStanding("ended", 3, None)
    assert another.callbacks == [(2, "todo_updated"), (3, "task_completed")]
    assert {request.headers["Authorization"] for request in another.requests} == {"Bearer another"}


async def test_a_receiver_that_is_gone_gets_nothing_more(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answer = lambda _: 410
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.STARTED, EventType.TODOS, EventType.COMPLETED)
        ended = await bench.settled()
        assert (ended.state, ended.acked) == ("ended", 0)
    assert [number for number, _ in receiver.callbacks] == [1]
    assert tokens_on_disk(tmp_path) == [None]


async def test_a_receiver_that_asks_for_time_gets_it(tmp_path: Path, receiver: Receiver) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    busy = [web.Response(status=503, headers={"Retry-After": "17"}), web.Response(status=429)]
    receiver.answer = lambda _: busy.pop(0) if busy else 200
    async with open_bench(tmp_path, sleep=sleep) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.COMPLETED)
        await bench.settled()
    assert slept == [17.0, 0.01]


async def test_one_receiver_that_hangs_delays_no_other_run(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with open_receiver() as dead, open_bench(tmp_path, timeout_s=60) as bench:
        dead.answer = dead.hang
        for number in range(150):  # more than a client's usual number of connections
            run = RunRef(100 + number, 100 + number)
            await bench.begin(dead, run)
            tell(bench.log, run, EventType.COMPLETED)
        await dead.wait_for_count(150)
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.COMPLETED)
        assert (await bench.settled()).acked == 1


async def test_what_nobody_has_taken_for_a_day_is_given_up(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    awake = 1000.0
    monkeypatch.setattr(StateStore, "now", lambda _: awake)
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        receiver.answer = lambda _: 500
        tell(bench.log, RUN, EventType.STARTED)
        await receiver.wait_for_count(2)
        await bench.begin(receiver, OTHER)
        awake += 24 * 3600.0
        tell(bench.log, RUN, EventType.COMPLETED)
        receiver.answer = lambda request: 200 if request.body["sequence"] == 2 else 500
        ended = await bench.settled()  # the verdict is young
        assert (ended.state, ended.acked) == ("ended", 2)
        tell(bench.log, OTHER, EventType.COMPLETED)
        await receiver.wait_for(lambda: receiver.requests[-1].body["run_id"] == "10")
        awake += 24 * 3600.0
        given_up = await bench.settled(OTHER)
    assert (given_up.state, given_up.acked) == ("ended", 0)
    assert given_up.error is not None


async def test_a_redirect_elsewhere_is_not_followed(tmp_path: Path, receiver: Receiver) -> None:
    async with open_receiver() as elsewhere, open_bench(tmp_path) as bench:
        moved = {"Location": f"{elsewhere.url}/callback"}
        receiver.answer = lambda _: web.Response(status=307, headers=moved)
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.COMPLETED)
        assert (await bench.settled()).state == "parked"
        assert elsewhere.requests == []


async def test_a_redirect_within_the_receiver_is_followed(
    tmp_path: Path, receiver: Receiver
) -> None:
    moved = {"Location": "/moved"}
    receiver.answer = lambda request: (
        200 if request.path == "/moved" else web.Response(status=308, headers=moved)
    )
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.COMPLETED)
        assert await bench.settled() == CallbackStanding("ended", 1, None)
    assert [(request.method, request.path) for request in receiver.requests] == [
        ("POST", "/callback"),
        ("POST", "/moved"),
    ]
    assert receiver.requests[-1].body["event"] == "task_completed"


async def test_a_redirect_without_end_is_no_answer(tmp_path: Path, receiver: Receiver) -> None:
    loop = web.Response(status=302, headers={"Location": "/callback"})
    answers = [loop] * 8
    receiver.answer = lambda _: (
        web.Response(status=302, headers={"Location": "/callback"})
        if answers and answers.pop()
        else 200
    )
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.COMPLETED)
        assert (await bench.settled()).acked == 1
    assert len(receiver.requests) == 9


async def test_redirects_do_not_prolong_an_exchange(tmp_path: Path, receiver: Receiver) -> None:
    async def slow(request: Request) -> web.Response:
        await asyncio.sleep(0.3)
        if request.path == "/moved":
            return web.Response()
        return web.Response(status=307, headers={"Location": "/moved"})

    receiver.answer = slow
    client = ReceiverClient(NetworkAccess({}), timeout_s=0.5)
    with pytest.raises(Unanswered):
        await client.send("POST", f"{receiver.url}/callback", token=None, headers={}, body={})
    await client.close()


async def test_after_a_restart_it_goes_on_where_it_was(tmp_path: Path, receiver: Receiver) -> None:
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.STARTED)
        arguments = {"command": "ls"}
        tell(
            bench.log, RUN, EventType.TOOL_CALL, tool_id="t", tool_name="Bash", arguments=arguments
        )
        tell(bench.log, RUN, EventType.TODOS, todos=[])
        await bench.reaches(lambda standing: standing.acked == 3)
    async with open_bench(tmp_path) as bench:
        tell(bench.log, RUN, EventType.TOOL_RESULT, tool_id="t", tool_name="Bash", result="x")
        tell(bench.log, RUN, EventType.COMPLETED)
        await bench.settled()
    assert [number for number, _ in receiver.callbacks] == [1, 3, 4, 5]
    tool = receiver.requests[2].body["data"]
    assert tool == {"turn": 1, "tool_name": "Bash", "tool_input": arguments, "tool_output": "x"}


async def test_a_stop_lets_a_receiver_take_what_there_is(
    tmp_path: Path, receiver: Receiver
) -> None:
    go_on = held(receiver)
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.STARTED, EventType.COMPLETED)
        closing_down = asyncio.create_task(bench.callbacks.close(10))
        await receiver.wait_for_count(1)
        go_on.set()
        await closing_down
        assert (await bench.standing()).state == "ended"
    assert len(receiver.callbacks) == 2


async def test_a_stop_does_not_wait_for_a_receiver_that_is_away(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        await receiver.stop()
        tell(bench.log, RUN, EventType.COMPLETED)
        async with asyncio.timeout(30):
            await bench.callbacks.close(3600)


async def test_an_attempt_that_begins_while_the_verdict_before_it_is_told_is_told_too(
    tmp_path: Path, receiver: Receiver
) -> None:
    answered = held(receiver)
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.FAILED)
        await receiver.wait_for_count(1)
        second = await bench.begin_second(receiver)
        answered.set()
        await bench.reaches(lambda standing: standing.acked == 1)
        tell(bench.log, second, EventType.COMPLETED)
        assert await bench.settled() == CallbackStanding("ended", 2, None)
    assert receiver.callbacks == [(1, "task_failed"), (2, "task_completed")]


async def test_events_that_are_gone_before_they_were_told_are_missed_in_the_log(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.TODOS, EventType.TODOS)
        await bench.reaches(lambda standing: standing.acked == 2)
        tell(bench.log, RUN, EventType.TRUNCATED, covers_from=3)
        tell(bench.log, RUN, EventType.TODOS)
        await bench.reaches(lambda standing: standing.acked == 4)
        assert "events 3 to 3 are gone" in caplog.text
    caplog.clear()
    async with open_bench(tmp_path) as bench:  # what came after it was told: it is old news
        tell(bench.log, RUN, EventType.COMPLETED)
        await bench.settled()
    assert "are gone" not in caplog.text


async def test_another_attempt_is_told_where_it_wants_and_goes_on_counting(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with open_receiver() as another, open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.STARTED, EventType.FAILED)
        await bench.settled()
        second = await bench.begin_second(another)
        tell(bench.log, second, EventType.STARTED, EventType.COMPLETED)
        assert await bench.settled() == CallbackStanding("ended", 4, None)
        assert another.callbacks == [(3, "task_started"), (4, "task_completed")]
    assert receiver.callbacks == [(1, "task_started"), (2, "task_failed")]


async def test_a_run_that_is_asked_for_again_and_again_is_told_once(
    tmp_path: Path, receiver: Receiver
) -> None:
    answered = held(receiver)
    async with open_bench(tmp_path) as bench:
        await bench.begin(receiver)
        tell(bench.log, RUN, EventType.STARTED)
        await receiver.wait_for_count(1)
        for number in range(5):
            await bench.callbacks.expect(RUN, target(receiver, trace_id=f"t-{number}"))
        answered.set()
        tell(bench.log, RUN, EventType.COMPLETED)
        await bench.settled()
    assert [number for number, _ in receiver.callbacks] == [1, 2]


async def test_a_proxy_leads_to_the_receiver(tmp_path: Path, receiver: Receiver) -> None:
    async with open_proxy() as proxy:
        environ = {"HTTP_PROXY": f"http://127.0.0.1:{proxy.port}"}
        async with open_bench(tmp_path, environ=environ) as bench:
            await bench.begin(receiver)
            tell(bench.log, RUN, EventType.COMPLETED)
            assert (await bench.settled()).acked == 1


async def test_the_logs_show_neither_token_nor_path(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answer = statuses(500, 400)
    with caplog.at_level(logging.DEBUG):
        async with open_bench(tmp_path) as bench:
            await bench.begin(receiver)
            tell(bench.log, RUN, EventType.COMPLETED)
            await bench.settled()
    assert "HTTP 400" in caplog.text
    assert TOKEN not in caplog.text
    assert "/callback" not in caplog.text


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_goes_wrong_every_run_is_told_everything_in_order(
    tmp_path: Path, receiver: Receiver, seed: int
) -> None:
    rng = random.Random(seed)
    acknowledged: list[tuple[str, int, str]] = []

    async def moody(request: Request) -> Answer:
        mood = rng.choice(["takes", "takes", "busy", "broken", "takes and breaks", "late"])
        if mood == "late":
            await asyncio.sleep(0.02)
        if mood in ("takes", "takes and breaks", "late"):
            body = request.body
            acknowledged.append((body["run_id"], body["sequence"], body["event"]))
        return {"busy": 503, "broken": 500, "takes and breaks": 502}.get(mood, 200)

    receiver.answer = moody
    runs = [RunRef(number, number) for number in range(4)]
    left = {run: rng.randrange(3, 12) for run in runs}
    begun: set[RunRef] = set()
    while left:
        async with open_bench(tmp_path) as bench:
            for _ in range(rng.randrange(1, 12)):
                if not left:
                    break
                run = rng.choice(list(left))
                if run not in begun:
                    await bench.begin(receiver, run)
                    begun.add(run)
                left[run] -= 1
                if left[run]:
                    tell(bench.log, run, rng.choice([EventType.TODOS, EventType.REASONING]))
                else:
                    tell(bench.log, run, EventType.COMPLETED)
                    del left[run]
                if rng.random() < 0.5:
                    await bench.standing(run)
    async with open_bench(tmp_path) as bench:
        for run in runs:
            assert (await bench.settled(run)).state == "ended"
        logged = {run: await bench.log.after(run.key[0], 0) for run in runs}
    for run in runs:
        told = [(at, name) for run_id, at, name in acknowledged if run_id == run.key[0]]
        first = list(dict.fromkeys(told))  # what was acknowledged may come again, after a failure
        expected = [event.sequence for event in logged[run] if event.type != EventType.REASONING]
        assert [at for at, _ in first] == expected
        assert first[-1][1] == "task_completed"


PROCESS = """
import asyncio, sys
from pathlib import Path
from tests.integration.test_docker_mode_callbacks import first_life

asyncio.run(first_life(Path(sys.argv[1]), sys.argv[2]))
"""


async def first_life(home: Path, url: str) -> None:
    """A run ends, and its last callback is under way when this process is killed."""
    async with open_bench(home) as bench:
        await bench.log.accept(RUN)
        await bench.callbacks.expect(RUN, CallbackTarget(f"{url}/callback", SecretStr(TOKEN)))
        tell(bench.log, RUN, EventType.STARTED, EventType.COMPLETED)
        await asyncio.Event().wait()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
async def test_a_verdict_is_told_although_the_executor_was_killed_before(
    tmp_path: Path, receiver: Receiver, repository_root: Path
) -> None:
    receiver.answer = lambda request: (
        200 if request.body["sequence"] == 1 else receiver.hang(request)
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, str(tmp_path), receiver.url, cwd=repository_root
    )
    try:
        await receiver.wait_for(lambda: len(receiver.callbacks) == 2, timeout_s=30)
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    receiver.answer = lambda _: 200
    async with open_bench(tmp_path) as bench:
        assert await bench.settled() == CallbackStanding("ended", 2, None)
    assert [number for number, _ in receiver.callbacks][-1] == 2
    assert receiver.requests[-1].headers["Authorization"] == f"Bearer {TOKEN}"
