"""The order in which messages of one executor take effect across its connections."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from executor_manager.nodes.connections import Connection, Connections
from executor_manager.nodes.messages import Messages
from executor_manager.streams.hub import Hub
from shared.protocol.local import LocalEvent
from tests.fakes.executor_client import run_fields
from tests.fakes.store_bench import Bench, open_store


@pytest.mark.parametrize("older", ["still there", "gone"])
async def test_a_register_waits_for_what_came_on_the_older_connection(
    tmp_path: Path, older: str
) -> None:
    async with asyncio.timeout(30), open_store(tmp_path) as store:
        bench = Bench(store, Hub(), tmp_path)
        connections = Connections()
        messages = Messages(store, connections)
        older_ended = asyncio.Event()

        async def hang_up(connection: Connection) -> None:
            assert connection is old
            older_ended.set()

        async def handle(sid: str, name: LocalEvent, raw: object) -> dict[str, object]:
            connection = connections.get(sid)
            assert connection is not None
            return await messages.handle(connection, name, raw, hang_up=hang_up)

        connections.open("old")
        connections.open("new")
        old = connections.get("old")
        hello = {"executor_id": "n"}
        await handle("old", LocalEvent.REGISTER, hello)
        await bench.queued()
        errand = await bench.claim()
        request = {"task_id": errand.session_id, "subtask_id": errand.run_id, "attempt": 1}
        told = {"progress": 0, "event": {"category": "llm", "action": "reasoning"}}

        async with store.events._database.write():  # commits have to wait
            events = []
            for seq in (1, 2, 3):
                raw = {**run_fields(request, seq), **told}
                events.append(asyncio.create_task(handle("old", LocalEvent.PROGRESS, raw)))
                # The event log takes the first event alone, the others wait behind it.
                await asyncio.sleep(0)
            if older == "gone":
                connections.close("old")
                older_ended.set()
            report = {**request, "state": "running", "last_seq": 3}
            register = asyncio.create_task(
                handle("new", LocalEvent.REGISTER, {**hello, "runs": [report]})
            )
            await older_ended.wait()
        ack = await register
        assert ack["acked"] == [{**_key(request), "seq": 3, "unknown": False, "superseded": False}]
        assert [(await event)["acked"] for event in events] == [1, 2, 3]


async def test_a_register_on_a_connection_that_is_replaced_meanwhile_changes_nothing(
    tmp_path: Path,
) -> None:
    async with asyncio.timeout(30), open_store(tmp_path) as store:
        connections = Connections()
        messages = Messages(store, connections)

        async def register(sid: str) -> dict[str, object]:
            connections.open(sid)
            connection = connections.get(sid)
            assert connection is not None
            hello = {"executor_id": "n", "name": sid}
            return await messages.handle(connection, LocalEvent.REGISTER, hello, hang_up=hang_up)

        async def hang_up(_: Connection) -> None:
            pass

        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connections.watch("n", committed)
        older = asyncio.create_task(register("older"))
        newer = asyncio.create_task(register("newer"))
        await asyncio.sleep(0)  # both wait for what was sent before
        committed.set_result(None)
        assert (await older)["code"] == "not_registered"
        assert (await newer)["success"] is True
        [node] = await store.nodes.all()
        assert (node.name, node.incarnation) == ("newer", 1)


async def test_an_executor_that_said_goodbye_is_not_called_until_it_is_back(
    tmp_path: Path,
) -> None:
    async with asyncio.timeout(30), open_store(tmp_path) as store:
        connections = Connections()
        messages = Messages(store, connections)

        async def hang_up(_: Connection) -> None:
            raise AssertionError("there is only one connection")

        connections.open("sid")
        connection = connections.get("sid")
        assert connection is not None
        hello = {"executor_id": "n"}
        goodbye = {"executor_id": "n", "reason": "shutdown", "timestamp": "t"}
        await messages.handle(connection, LocalEvent.REGISTER, hello, hang_up=hang_up)
        connections.ready(connection)
        assert connections.node_ids() == ["n"]
        await messages.handle(connection, LocalEvent.UNREGISTER, goodbye, hang_up=hang_up)
        assert connections.node_ids() == []
        assert connections.of_node("n") is None


@pytest.mark.parametrize("back", [False, True])
async def test_a_goodbye_counts_after_what_was_sent_before_and_not_after_the_return(
    tmp_path: Path, back: bool
) -> None:
    async with asyncio.timeout(30), open_store(tmp_path) as store:
        bench = Bench(store, Hub(), tmp_path)
        connections = Connections()
        messages = Messages(store, connections)

        async def hang_up(_: Connection) -> None:
            pass

        async def handle(sid: str, name: LocalEvent, raw: object) -> dict[str, object]:
            connection = connections.get(sid)
            assert connection is not None
            return await messages.handle(connection, name, raw, hang_up=hang_up)

        hello = {"executor_id": "n"}
        connections.open("old")
        await handle("old", LocalEvent.REGISTER, hello)
        await bench.queued(on_node_loss="fail")
        run = await bench.claim()
        request = {"task_id": run.session_id, "subtask_id": run.run_id, "attempt": 1}
        left = {**request, "state": "running", "last_seq": 1}
        goodbye = {"executor_id": "n", "reason": "stop", "timestamp": "t", "runs": [left]}
        async with store.events._database.write():  # commits have to wait
            result = asyncio.create_task(
                handle(
                    "old",
                    LocalEvent.RESULT,
                    {**run_fields(request, 1), "status": "completed", "result": {"value": "ok"}},
                )
            )
            await asyncio.sleep(0)
            leaving = asyncio.create_task(handle("old", LocalEvent.UNREGISTER, goodbye))
            await asyncio.sleep(0)
            if back:
                connections.open("new")
                connection = connections.get("new")
                assert connection is not None
                returning = asyncio.create_task(handle("new", LocalEvent.REGISTER, hello))
                await asyncio.sleep(0)
        assert (await result)["acked"] == 1
        assert await leaving == {"success": True}
        if back:
            assert (await returning)["success"] is True
        assert (await bench.run(run.run_id)).state == "completed"
        [node] = await store.nodes.all()
        assert node.status == ("online" if back else "offline")


async def test_a_heartbeat_that_comes_after_a_goodbye_does_not_bring_the_node_back(
    tmp_path: Path,
) -> None:
    async with asyncio.timeout(30), open_store(tmp_path) as store:
        connections = Connections()
        messages = Messages(store, connections)
        connections.open("sid")
        connection = connections.get("sid")
        assert connection is not None

        async def hang_up(_: Connection) -> None:
            raise AssertionError("there is only one connection")

        async def handle(name: LocalEvent, **fields: object) -> dict[str, object]:
            raw = {"executor_id": "n", **fields}
            return await messages.handle(connection, name, raw, hang_up=hang_up)

        await handle(LocalEvent.REGISTER)
        connections.ready(connection)
        assert (await handle(LocalEvent.HEARTBEAT))["success"] is True
        await handle(LocalEvent.UNREGISTER, reason="stop", timestamp="t")
        assert (await handle(LocalEvent.HEARTBEAT))["code"] == "not_registered"
        [node] = await store.nodes.all()
        assert node.status == "offline"


def _key(request: dict[str, object]) -> dict[str, object]:
    return {"subtask_id": request["subtask_id"], "attempt": request["attempt"]}
