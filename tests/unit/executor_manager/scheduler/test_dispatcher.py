"""The dispatcher with executors that answer, fail or stay silent as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from executor_manager.scheduler.dispatcher import Dispatcher
from executor_manager.store.records import Errand
from executor_manager.store.store import Store
from executor_manager.streams.hub import Hub
from shared.errors import LinkLost
from shared.protocol.local import LocalEvent
from shared.redaction import MASK, Redactor
from tests.fakes.store_bench import Bench, open_store


class Executors:
    """Node ``n``; each call takes the next answer."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.answer: Callable[[], Awaitable[object]] | None = None

    def node_ids(self) -> list[str]:
        return ["n"]

    async def call(
        self, node_id: str, event: LocalEvent, payload: dict[str, Any], *, timeout_s: float
    ) -> object:
        assert (node_id, timeout_s) == ("n", 10)
        self.asked.put_nowait(payload)
        if self.answer is not None:
            return await self.answer()
        return {"accepted": True}


@asynccontextmanager
async def dispatching(
    store: Store, hub: Hub, executors: Executors, redactor: Redactor | None = None
) -> AsyncIterator[None]:
    dispatcher = Dispatcher(store, executors, hub.queue, redactor or Redactor(), poll_s=0.01)
    task = asyncio.create_task(dispatcher.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_an_unanswered_dispatch_is_under_way_once_at_a_time(tmp_path: Path) -> None:
    hub, executors = Hub(), Executors()
    async with asyncio.timeout(30), open_store(tmp_path, hub) as store:
        bench = Bench(store, hub, tmp_path)
        await bench.node()
        silence = asyncio.Event()

        async def stay_silent() -> None:
            await silence.wait()
            raise LinkLost("no answer")

        executors.answer = stay_silent
        async with dispatching(store, hub, executors):
            first, second = await bench.queued(), await bench.queued()
            asked = [(await executors.asked.get())["subtask_id"] for _ in range(2)]
            assert asked == [first.id, second.id]
            # A third run arrives by the same loop that would have repeated the others.
            third = await bench.queued()
            assert (await executors.asked.get())["subtask_id"] == third.id
            executors.answer = None
            silence.set()
            repeated = {(await executors.asked.get())["subtask_id"] for _ in range(3)}
            assert repeated == {first.id, second.id, third.id}


async def test_a_dispatch_that_is_answered_while_the_queue_is_read_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, executors = Hub(), Executors()
    async with asyncio.timeout(30), open_store(tmp_path, hub) as store:
        bench = Bench(store, hub, tmp_path)
        await bench.node()
        answered, read = asyncio.Event(), asyncio.Event()
        errands, accepted = store.queue.errands, store.queue.accepted

        async def read_slowly(node_ids: Collection[str]) -> list[Errand]:
            due: list[Errand] = await errands(node_ids)
            if due and not read.is_set():
                read.set()
                await answered.wait()
            return due

        async def accept_between(errand: Errand) -> None:
            hub.queue_changed()
            await read.wait()
            await accepted(errand)
            answered.set()

        monkeypatch.setattr(store.queue, "errands", read_slowly)
        monkeypatch.setattr(store.queue, "accepted", accept_between)
        async with dispatching(store, hub, executors):
            first = await bench.queued()
            assert (await executors.asked.get())["subtask_id"] == first.id
            await answered.wait()
            second = await bench.queued()
            assert (await executors.asked.get())["subtask_id"] == second.id


async def test_a_call_that_breaks_does_not_stop_other_runs(tmp_path: Path) -> None:
    hub, executors = Hub(), Executors()
    async with asyncio.timeout(30), open_store(tmp_path, hub) as store:
        bench = Bench(store, hub, tmp_path)
        await bench.node()

        async def break_() -> None:
            executors.answer = None
            raise ZeroDivisionError

        executors.answer = break_
        async with dispatching(store, hub, executors):
            first, second = await bench.queued(), await bench.queued()
            asked = [(await executors.asked.get())["subtask_id"] for _ in range(3)]
            assert set(asked) == {first.id, second.id}


async def test_secrets_that_cannot_be_opened_fail_the_run_and_say_why(tmp_path: Path) -> None:
    hub, executors = Hub(), Executors()
    url = f"sqlite+aiosqlite:///{tmp_path / 'manager.db'}"
    async with asyncio.timeout(30):
        async with Store.open(url, Fernet.generate_key(), hub) as store:
            run = await store.runs.create(user_id="u", request={}, secrets={"/git_token": "T"})
        async with open_store(tmp_path, hub) as store, dispatching(store, hub, executors):
            bench = Bench(store, hub, tmp_path)
            await bench.node()
            with hub.follow(run.id) as wake_up:
                while (failed := await bench.run(run.id)).state != "failed":
                    await wake_up.wait()
            assert failed.verdict is not None
            assert "key" in failed.verdict["error"]


@pytest.mark.parametrize(
    "answer", [{"success": False, "code": "internal", "error": "it broke"}, {}, "ok"]
)
async def test_an_executor_that_cannot_answer_fails_the_run_instead_of_being_asked_for_ever(
    tmp_path: Path, answer: object
) -> None:
    hub, executors = Hub(), Executors()

    async def answers() -> object:
        return answer

    executors.answer = answers
    async with asyncio.timeout(30), open_store(tmp_path, hub) as store:
        bench = Bench(store, hub, tmp_path)
        await bench.node()
        run = await bench.queued()
        with hub.follow(run.id) as wake_up:
            async with dispatching(store, hub, executors):
                while (now := await store.runs.get(run.id)) is None or not now.state.terminal:
                    await wake_up.wait()
        assert (now.state, now.error_code) == ("failed", "internal")
        assert executors.asked.qsize() == 1


async def test_the_logs_know_the_secrets_of_a_request_before_anything_is_said_about_it(
    tmp_path: Path,
) -> None:
    hub, executors, redactor = Hub(), Executors(), Redactor()
    async with asyncio.timeout(30), open_store(tmp_path, hub) as store:
        await Bench(store, hub, tmp_path).node()
        secrets = {"/git_token": "the-token-of-git"}
        run = await Bench(store, hub, tmp_path).queued(secrets=secrets)
        async with dispatching(store, hub, executors, redactor):
            assert (await executors.asked.get())["subtask_id"] == run.id
    assert redactor.redact("refused: the-token-of-git") == f"refused: {MASK}"


@pytest.mark.parametrize(
    "answer",
    [
        {"accepted": False, "code": "invalid_request", "error": "no the-token-of-git here"},
        {"success": False, "code": "internal", "error": "no the-token-of-git here"},
    ],
)
async def test_what_an_executor_says_of_a_refusal_is_kept_without_secrets(
    tmp_path: Path, answer: object
) -> None:
    hub, executors = Hub(), Executors()

    async def answers() -> object:
        return answer

    executors.answer = answers
    async with asyncio.timeout(30), open_store(tmp_path, hub) as store:
        bench = Bench(store, hub, tmp_path)
        await bench.node()
        run = await bench.queued(secrets={"/git_token": "the-token-of-git"})
        with hub.follow(run.id) as wake_up:
            async with dispatching(store, hub, executors):
                while not (now := await bench.run(run.id)).state.terminal:
                    await wake_up.wait()
    assert now.verdict is not None
    assert f"no {MASK} here" in now.verdict["error"]
