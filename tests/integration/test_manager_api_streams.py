"""Live streams of a real manager, read over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.protocol.local import LocalEvent
from shared.web.streams import PAGE_EVENTS
from tests.fakes.executor_client import ExecutorClient
from tests.fakes.manager import RunningManager, running_manager
from tests.fakes.sse import Received, read_stream
from tests.fakes.store_bench import append_own


async def append(manager: RunningManager, task_id: str, *texts: str) -> None:
    for text in texts:
        data = {"message_id": "m", "content": text, "offset": 0}
        assert await append_own(manager.store, task_id, "llm.stream", data)


async def complete(manager: RunningManager, task_id: str) -> None:
    data: dict[str, Any] = {"result": "done", "workspace": None, "statistics": {}}
    assert await append_own(manager.store, task_id, "lifecycle.completed", data)


async def read_all(
    manager: RunningManager,
    path: str,
    first: asyncio.Event | None = None,
    headers: dict[str, str] | None = None,
) -> list[Received]:
    """A whole stream; sets *first* when its first event is there."""
    received = []
    async with manager.client.get(path, headers=headers) as response:
        assert response.status == 200, await response.text()
        async for event in read_stream(response):
            received.append(event)
            if first is not None:
                first.set()
    return received


def ids(events: list[Received]) -> list[int]:
    return [int(event.id) for event in events if event.id is not None]


async def test_an_event_has_its_sequence_its_name_and_the_whole_event(
    manager: RunningManager,
) -> None:
    task_id = (await manager.create_task())["task_id"]
    await append(manager, task_id, "zwei\nZeilen \u2028 ü")
    await complete(manager, task_id)
    path = f"/api/v1/tasks/{task_id}/events"
    async with manager.client.get(path) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["Cache-Control"] == "no-store"
        first, second, last = [event async for event in read_stream(response)]
    assert first == Received(
        id="1",
        name="llm.stream",
        data={
            "run_id": task_id,
            "sequence": 1,
            "timestamp": first.data["timestamp"],
            "source": None,
            "event": {"category": "llm", "action": "stream"},
            "data": {"message_id": "m", "content": "zwei\nZeilen \u2028 ü", "offset": 0},
        },
    )
    assert (second.id, second.name) == ("2", "lifecycle.completed")
    assert last == Received(name="close", data={"message": "Stream closed"})


async def test_two_subscribers_both_get_every_event(manager: RunningManager) -> None:
    task_id = (await manager.create_task())["task_id"]
    path = f"/api/v1/tasks/{task_id}/events"
    await append(manager, task_id, "before")
    started = [asyncio.Event(), asyncio.Event()]
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read_all(manager, path, event)) for event in started]
        for event in started:
            await event.wait()
        await append(manager, task_id, *(f"text {n}" for n in range(20)))
        await complete(manager, task_id)
    for reader in readers:
        assert ids(reader.result()) == list(range(1, 23))
        assert reader.result()[-1].name == "close"


async def test_events_of_another_task_do_not_appear(manager: RunningManager) -> None:
    one = (await manager.create_task())["task_id"]
    other = (await manager.create_task())["task_id"]
    for task_id, text in [(one, "a"), (other, "b"), (one, "c")]:
        await append(manager, task_id, text)
    await complete(manager, one)
    events = await read_all(manager, f"/api/v1/tasks/{one}/events")
    assert [event.data["run_id"] for event in events if event.id] == [one] * 3
    assert ids(events) == [1, 2, 3]


@pytest.mark.parametrize("how", ["header", "query"])
async def test_a_stream_resumes_without_gap_or_repeat(manager: RunningManager, how: str) -> None:
    task_id = (await manager.create_task())["task_id"]
    path = f"/api/v1/tasks/{task_id}/events"
    await append(manager, task_id, *"abcde")
    async with manager.client.get(path) as response, aclosing(read_stream(response)) as stream:
        seen = [await anext(stream) for _ in range(3)]
    await append(manager, task_id, *"fg")
    await complete(manager, task_id)
    last = str(seen[-1].id)
    if how == "header":
        rest = await read_all(manager, path, headers={"Last-Event-ID": last})
    else:
        rest = await read_all(manager, f"{path}?after={last}")
    assert ids(seen) + ids(rest) == list(range(1, 9))


async def test_a_finished_task_longer_than_a_page_is_replayed_and_closed(
    manager: RunningManager,
) -> None:
    task_id = (await manager.create_task())["task_id"]
    await append(manager, task_id, *(["x"] * (PAGE_EVENTS + 1)))
    await complete(manager, task_id)
    for _ in range(2):
        events = await read_all(manager, f"/api/v1/tasks/{task_id}/events")
        assert ids(events) == list(range(1, PAGE_EVENTS + 3))
        assert events[-1].name == "close"


async def test_resuming_behind_the_verdict_closes_at_once(manager: RunningManager) -> None:
    task_id = (await manager.create_task())["task_id"]
    await complete(manager, task_id)
    events = await read_all(manager, f"/api/v1/tasks/{task_id}/events?after=1")
    assert [event.name for event in events] == ["close"]


async def test_a_last_event_id_that_is_none_of_the_task_is_a_bad_request(
    manager: RunningManager,
) -> None:
    task_id = (await manager.create_task())["task_id"]
    await append(manager, task_id, "only one")
    path = f"/api/v1/tasks/{task_id}/events"
    for last in ["x", "-1", "1.5", "2", "9" * 40, "٣", "1 2"]:
        async with manager.client.get(path, params={"after": last}) as response:
            assert response.status == 400, last
            assert (await response.json())["error"]["code"] == "bad_request"


async def test_the_end_of_a_task_reaches_an_open_stream(manager: RunningManager) -> None:
    task_id = (await manager.create_task())["task_id"]
    await append(manager, task_id, "a")
    first = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(read_all(manager, f"/api/v1/tasks/{task_id}/events", first))
        await first.wait()
        async with manager.client.post(f"/api/v1/tasks/{task_id}/cancel") as response:
            assert response.status == 200
    assert [event.name for event in reader.result()] == [
        "llm.stream", "lifecycle.cancelled", "close",
    ]  # fmt: skip


async def test_comments_keep_a_silent_stream_open(tmp_path: Path) -> None:
    async with asyncio.timeout(30), running_manager(tmp_path, keepalive_seconds=0.05) as manager:
        task_id = (await manager.create_task())["task_id"]
        path = f"/api/v1/tasks/{task_id}/events"
        async with manager.client.get(path) as response, aclosing(read_stream(response)) as stream:
            for _ in range(2):
                assert (await anext(stream)).comment == "keep-alive"
            await append(manager, task_id, "after the silence")
            events = [event async for event in _until_event(stream)]
    assert events[-1].id == "1"


async def _until_event(stream: AsyncIterator[Received]) -> AsyncIterator[Received]:
    async for event in stream:
        yield event
        if event.comment is None:
            return


async def test_a_reader_that_leaves_is_forgotten(manager: RunningManager) -> None:
    task_id = (await manager.create_task())["task_id"]
    await append(manager, task_id, "a")
    async with aiohttp.ClientSession(manager.url, headers=manager.client.headers) as client:
        response = await client.get(f"/api/v1/tasks/{task_id}/events")
        async with aclosing(read_stream(response)) as stream:
            await anext(stream)
        response.close()
    while answering := set(manager.server.server_state.tasks):
        await asyncio.wait(answering)
    assert not manager.manager.streams._open


async def test_a_stop_ends_open_streams_without_the_closing_event(tmp_path: Path) -> None:
    events: list[Received] = []
    first = asyncio.Event()

    async def read(client: aiohttp.ClientSession, path: str) -> None:
        async with client.get(path) as response:
            async for event in read_stream(response):
                events.append(event)
                first.set()

    async with asyncio.timeout(30), running_manager(tmp_path) as manager:
        task_id = (await manager.create_task())["task_id"]
        await append(manager, task_id, "a")
        reading = asyncio.create_task(read(manager.client, f"/api/v1/tasks/{task_id}/events"))
        await first.wait()
        manager.server.stop()
        await reading  # ends although the task has not ended and the client has not left
    assert [event.name for event in events] == ["llm.stream"]


async def test_a_reader_that_does_not_read_holds_no_more_than_a_page(
    manager: RunningManager,
) -> None:
    task_id = (await manager.create_task())["task_id"]
    text = "x" * 200_000
    await append(manager, task_id, *([text] * 60))  # 12 MB, beyond what the sockets buffer
    log = _CountingLog(manager.store.events)
    stream = manager.manager.streams.follow(log, task_id, after=0, finished_at=None)
    async with aclosing(stream):
        await anext(stream)
        await append(manager, task_id, *([text] * 60))
        await anext(stream)
    assert log.reads == 1


class _CountingLog:
    def __init__(self, log: Any) -> None:
        self._log = log
        self.reads = 0

    async def after(self, run_id: str, sequence: int, limit: int = 1) -> Any:
        self.reads += 1
        assert limit == PAGE_EVENTS
        return await self._log.after(run_id, sequence, limit)


async def test_what_an_executor_tells_over_its_socket_reaches_the_stream(
    manager: RunningManager,
) -> None:
    prompt = "große Aufgabe " * 20_000  # several frames, through both doors
    executor = ExecutorClient()
    await executor.connect(manager.url, manager.executor_token)
    try:
        await executor.register()
        task_id = (await manager.create_task(prompt))["task_id"]
        request = await executor.expect(LocalEvent.DISPATCH)
        assert (request["subtask_id"], request["prompt"]) == (task_id, prompt)
        first = asyncio.Event()
        path = f"/api/v1/tasks/{task_id}/events"
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(read_all(manager, path, first))
            await executor.progress(request, 1, "lifecycle.started", {"task": "t"})
            await first.wait()
            await executor.result(request, 2, value="done ✓")
    finally:
        await executor.close()
    names = [event.name for event in reader.result()]
    assert names == ["lifecycle.started", "lifecycle.completed", "close"]
    task = await manager.get(f"/api/v1/tasks/{task_id}")
    assert (task["status"], task["result"], task["progress"]) == ("completed", "done ✓", 100)
