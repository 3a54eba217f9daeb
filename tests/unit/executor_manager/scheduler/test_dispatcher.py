"""The dispatcher with executors that answer, fail or stay silent as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography.fernet import Fernet

from executor_manager.scheduler.dispatcher import Dispatcher
from executor_manager.store.records import Errand, RunRecord
from executor_manager.store.runs import SealedRun
from executor_manager.store.store import Store
from executor_manager.streams.hub import Hub
from shared.errors import LinkLost
from shared.protocol.local import LocalEvent
from shared.redaction import MASK, Redactor
from tests.fakes.store_bench import Bench


class Executors:
    """Node ``n``; each call is answered in the same way."""

    def __init__(self, answer: object = None) -> None:
        """*answer*: ``None``: accepts; otherwise what is answered, or a function that does so."""
        self.asked: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.answer = answer

    def node_ids(self) -> list[str]:
        return ["n"]

    async def call(
        self, node_id: str, event: LocalEvent, payload: dict[str, Any], *, timeout_s: float
    ) -> object:
        assert (node_id, timeout_s) == ("n", 10)
        self.asked.put_nowait(payload)
        if callable(self.answer):
            return await self.answer()
        return {"accepted": True} if self.answer is None else self.answer

    async def next(self) -> object:
        """The id of the next run that is dispatched."""
        return (await self.asked.get())["subtask_id"]


@asynccontextmanager
async def dispatching(
    bench: Bench, executors: Executors, redactor: Redactor | None = None
) -> AsyncIterator[None]:
    dispatcher = Dispatcher(
        bench.store, executors, bench.hub.queue, redactor or Redactor(), poll_s=0.01
    )
    task = asyncio.create_task(dispatcher.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def ended(bench: Bench, run_id: str) -> RunRecord:
    """The run once it has a verdict."""
    with bench.hub.follow(run_id) as wake_up:
        while not (run := await bench.run(run_id)).state.terminal:
            await wake_up.wait()
    return run


async def test_an_unanswered_dispatch_is_under_way_once_at_a_time(bench: Bench) -> None:
    await bench.node()
    silence = asyncio.Event()

    async def stay_silent() -> None:
        await silence.wait()
        raise LinkLost("no answer")

    executors = Executors(stay_silent)
    async with dispatching(bench, executors):
        first, second = await bench.queued(), await bench.queued()
        assert {await executors.next() for _ in range(2)} == {first.id, second.id}
        # A third run arrives by the same loop that would have repeated the others.
        third = await bench.queued()
        assert await executors.next() == third.id
        executors.answer = None
        silence.set()
        repeated = {await executors.next() for _ in range(3)}
        assert repeated == {first.id, second.id, third.id}


async def test_a_dispatch_that_is_answered_while_the_queue_is_read_is_not_repeated(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.node()
    executors = Executors()
    queue = bench.store.queue
    answered, read = asyncio.Event(), asyncio.Event()
    errands, accepted = queue.errands, queue.accepted

    async def read_slowly(node_ids: Collection[str]) -> list[Errand]:
        due: list[Errand] = await errands(node_ids)
        if due and not read.is_set():
            read.set()
            await answered.wait()
        return due

    async def accept_between(errand: Errand) -> None:
        bench.hub.queue_changed()
        await read.wait()
        await accepted(errand)
        answered.set()

    monkeypatch.setattr(queue, "errands", read_slowly)
    monkeypatch.setattr(queue, "accepted", accept_between)
    async with dispatching(bench, executors):
        first = await bench.queued()
        assert await executors.next() == first.id
        await answered.wait()
        second = await bench.queued()
        assert await executors.next() == second.id


async def test_a_run_that_is_cancelled_just_before_its_dispatch_is_not_sent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.node()
    with_request = bench.store.runs.with_request

    async def cancelled_before(run_id: str) -> SealedRun | None:
        await bench.store.runs.cancel(run_id, "typo")
        sealed: SealedRun | None = await with_request(run_id)
        return sealed

    monkeypatch.setattr(bench.store.runs, "with_request", cancelled_before)
    executors = Executors()
    async with dispatching(bench, executors):
        await bench.queued()
        assert (await executors.asked.get())["reason"] == "typo"


async def test_a_call_that_breaks_does_not_stop_other_runs(bench: Bench) -> None:
    await bench.node()

    async def break_() -> None:
        executors.answer = None
        raise ZeroDivisionError

    executors = Executors(break_)
    async with dispatching(bench, executors):
        first, second = await bench.queued(), await bench.queued()
        assert {await executors.next() for _ in range(3)} == {first.id, second.id}


async def test_secrets_that_cannot_be_opened_fail_the_run_and_say_why(bench: Bench) -> None:
    # Another manager with another key, on the same database.
    other = Store.open(f"sqlite+aiosqlite:///{bench.path}", Fernet.generate_key(), Hub())
    async with other as store:
        run = await store.runs.create(user_id="u", request={}, secrets={"/git_token": "T"})
    await bench.node()
    async with dispatching(bench, Executors()):
        verdict = (await ended(bench, run.id)).verdict
    assert verdict is not None
    assert "key" in verdict["error"]


@pytest.mark.parametrize(
    "answer", [{"success": False, "code": "internal", "error": "it broke"}, {}, "ok"]
)
async def test_an_executor_that_cannot_answer_fails_the_run_instead_of_being_asked_for_ever(
    bench: Bench, answer: object
) -> None:
    await bench.node()
    run = await bench.queued()
    executors = Executors(answer)
    async with dispatching(bench, executors):
        failed = await ended(bench, run.id)
    assert (failed.state, failed.error_code) == ("failed", "internal")
    assert executors.asked.qsize() == 1


async def test_the_logs_know_the_secrets_of_a_request_before_anything_is_said_about_it(
    bench: Bench,
) -> None:
    executors, redactor = Executors(), Redactor()
    await bench.node()
    run = await bench.queued(secrets={"/git_token": "the-token-of-git"})
    async with dispatching(bench, executors, redactor):
        assert await executors.next() == run.id
    assert redactor.redact("refused: the-token-of-git") == f"refused: {MASK}"


@pytest.mark.parametrize(
    "answer",
    [
        {"accepted": False, "code": "invalid_request", "error": "no the-token-of-git here"},
        {"success": False, "code": "internal", "error": "no the-token-of-git here"},
    ],
)
async def test_what_an_executor_says_of_a_refusal_is_kept_without_secrets(
    bench: Bench, answer: object
) -> None:
    await bench.node()
    run = await bench.queued(secrets={"/git_token": "the-token-of-git"})
    async with dispatching(bench, Executors(answer)):
        verdict = (await ended(bench, run.id)).verdict
    assert verdict is not None
    assert f"no {MASK} here" in verdict["error"]
