"""The order in which messages of one executor take effect across its connections."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from executor_manager.nodes.connections import Connection, Connections
from executor_manager.nodes.messages import Messages
from shared.protocol.local import LocalEvent
from tests.fakes.executor_client import run_fields
from tests.fakes.store_bench import Bench

GOODBYE = {"reason": "stop", "timestamp": "t"}


class Wire:
    """The connections of executor ``n``, named by their ids, and what it tells on them."""

    def __init__(self, bench: Bench) -> None:
        self.connections = Connections()
        self.hung_up = asyncio.Event()
        self._messages = Messages(bench.store, self.connections)

    def connect(self, sid: str) -> Connection:
        self.connections.open(sid)
        connection = self.connections.get(sid)
        assert connection is not None
        return connection

    async def tell(
        self, connection: Connection, name: LocalEvent, /, **fields: object
    ) -> dict[str, Any]:
        """Send a message and return its acknowledgement."""
        raw = {"executor_id": "n", **fields}
        return await self._messages.handle(connection, name, raw, hang_up=self._hang_up)

    async def _hang_up(self, _: Connection) -> None:
        self.hung_up.set()


@pytest.fixture
def wire(bench: Bench) -> Wire:
    return Wire(bench)


async def dispatched(bench: Bench, **fields: Any) -> dict[str, Any]:
    """A run that the executor has; its names."""
    await bench.queued(**fields)
    run = await bench.claim()
    return {"task_id": run.session_id, "subtask_id": run.run_id, "attempt": 1}


@pytest.mark.parametrize("older", ["still there", "gone"])
async def test_a_register_waits_for_what_came_on_the_older_connection(
    bench: Bench, wire: Wire, older: str
) -> None:
    old, new = wire.connect("old"), wire.connect("new")
    await wire.tell(old, LocalEvent.REGISTER)
    request = await dispatched(bench)
    told = {"progress": 0, "event": {"category": "llm", "action": "reasoning"}}

    async with bench.store.events._database.write():  # commits have to wait
        events = []
        for seq in (1, 2, 3):
            event = wire.tell(old, LocalEvent.PROGRESS, **run_fields(request, seq), **told)
            events.append(asyncio.create_task(event))
            # The event log takes the first event alone, the others wait behind it.
            await asyncio.sleep(0)
        if older == "gone":
            wire.connections.close("old")
        report = {**request, "state": "running", "last_seq": 3}
        register = asyncio.create_task(wire.tell(new, LocalEvent.REGISTER, runs=[report]))
        if older == "still there":
            await wire.hung_up.wait()
    ack = await register
    key = {"subtask_id": request["subtask_id"], "attempt": 1}
    assert ack["acked"] == [{**key, "seq": 3, "unknown": False, "superseded": False}]
    assert [(await event)["acked"] for event in events] == [1, 2, 3]


async def test_a_register_on_a_connection_that_is_replaced_meanwhile_changes_nothing(
    bench: Bench, wire: Wire
) -> None:
    committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    wire.connections.watch("n", committed)
    older, newer = (
        asyncio.create_task(wire.tell(wire.connect(sid), LocalEvent.REGISTER, name=sid))
        for sid in ("older", "newer")
    )
    await asyncio.sleep(0)  # both wait for what was sent before
    committed.set_result(None)
    assert (await older)["code"] == "not_registered"
    assert (await newer)["success"] is True
    [node] = await bench.store.nodes.all()
    assert (node.name, node.incarnation) == ("newer", 1)


async def test_an_executor_that_said_goodbye_is_not_called_until_it_is_back(wire: Wire) -> None:
    connection = wire.connect("sid")
    await wire.tell(connection, LocalEvent.REGISTER)
    wire.connections.ready(connection)
    assert wire.connections.node_ids() == ["n"]
    await wire.tell(connection, LocalEvent.UNREGISTER, **GOODBYE)
    assert wire.connections.node_ids() == []
    assert wire.connections.of_node("n") is None


@pytest.mark.parametrize("back", [False, True])
async def test_a_goodbye_counts_after_what_was_sent_before_and_not_after_the_return(
    bench: Bench, wire: Wire, back: bool
) -> None:
    old = wire.connect("old")
    await wire.tell(old, LocalEvent.REGISTER)
    request = await dispatched(bench, on_node_loss="fail")
    left = {**request, "state": "running", "last_seq": 1}
    verdict = {**run_fields(request, 1), "status": "completed", "result": {"value": "ok"}}
    async with bench.store.events._database.write():  # commits have to wait
        result = asyncio.create_task(wire.tell(old, LocalEvent.RESULT, **verdict))
        await asyncio.sleep(0)
        goodbye = wire.tell(old, LocalEvent.UNREGISTER, **GOODBYE, runs=[left])
        leaving = asyncio.create_task(goodbye)
        await asyncio.sleep(0)
        if back:
            returning = asyncio.create_task(wire.tell(wire.connect("new"), LocalEvent.REGISTER))
            await asyncio.sleep(0)
    assert (await result)["acked"] == 1
    assert await leaving == {"success": True}
    if back:
        assert (await returning)["success"] is True
    assert (await bench.run(request["subtask_id"])).state == "completed"
    [node] = await bench.store.nodes.all()
    assert node.status == ("online" if back else "offline")


async def test_a_heartbeat_that_comes_after_a_goodbye_does_not_bring_the_node_back(
    bench: Bench, wire: Wire
) -> None:
    connection = wire.connect("sid")
    await wire.tell(connection, LocalEvent.REGISTER)
    wire.connections.ready(connection)
    assert (await wire.tell(connection, LocalEvent.HEARTBEAT))["success"] is True
    await wire.tell(connection, LocalEvent.UNREGISTER, **GOODBYE)
    assert (await wire.tell(connection, LocalEvent.HEARTBEAT))["code"] == "not_registered"
    [node] = await bench.store.nodes.all()
    assert node.status == "offline"
