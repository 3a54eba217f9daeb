"""Questions over the wire: they wait through outages, and base backends are asked nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from executor.agents.protocol import TurnEnd
from executor.delivery.state import StateStore
from executor.tasks.questions import UserInput
from shared.protocol.local import Feature, LocalEvent
from tests.fakes.agent import Asks, ScriptedAgent, in_process
from tests.fakes.backend import FakeBackend, open_backend
from tests.fakes.local_mode import DISPATCH, Harness, result
from tests.fakes.wire import open_wire

ASKS = Asks("permission", "Bash", {"command": "ls"})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[StateStore]:
    store = await StateStore.open(tmp_path / "state.db")
    yield store
    await store.close()


@asynccontextmanager
async def asking(store: StateStore, port: int, home: Path) -> AsyncIterator[Harness]:
    """An executor whose agent asks for a permission and then completes."""
    rules = UserInput(600, 600, lambda: Feature.INPUT in harness.registered[-1])
    agent = ScriptedAgent([ASKS, TurnEnd("done")])
    home.mkdir()
    async with in_process(agent, home, user_input=rules) as handler:
        harness = Harness(store, port, handler=handler)
        async with harness.running():
            yield harness


def reply(asked: dict[str, Any], decision: str = "allow") -> dict[str, Any]:
    ids = {"task_id": 1, "subtask_id": 2, "request_id": asked["request_id"]}
    return ids | {"decision": decision}


def told(backend: FakeBackend) -> list[tuple[str, Any]]:
    """What was told of questions, and the results of the tool that asked."""
    return [
        (f"{p['event']['category']}.{p['event']['action']}", p["data"])
        for p in backend.payloads(LocalEvent.PROGRESS)
        if p["event"]["action"] in ("input_resolved", "tool_result")
    ]


async def test_a_question_asked_during_a_disconnect_is_answered_after_the_reconnect(
    store: StateStore, tmp_path: Path
) -> None:
    async with (
        asyncio.timeout(50),
        open_backend() as backend,
        open_wire(backend.port) as wire,
        asking(store, wire.port, tmp_path / "a") as harness,
    ):
        await backend.expect(LocalEvent.HEARTBEAT)
        await backend.send(LocalEvent.DISPATCH, DISPATCH)
        asked = await backend.expect(LocalEvent.INPUT_REQUIRED)
        assert (asked["kind"], asked["tool_name"]) == ("permission", "Bash")
        assert asked["tool_input"] == {"command": "ls"}
        harness.tried.clear()
        await wire.refuse()
        wire.cut()
        await harness.tried.wait()
        await wire.listen()
        await backend.expect(LocalEvent.REGISTER)
        await backend.expect(LocalEvent.HEARTBEAT)
        assert await backend.send(LocalEvent.INPUT, reply(asked)) == {"success": True}
        assert await backend.send(LocalEvent.INPUT, reply(asked)) == {"success": True}
        assert (await result(backend))["status"] == "completed"
        assert await backend.send(LocalEvent.INPUT, reply(asked)) == {"success": True}
    (kind, resolved), (_, used) = told(backend)
    assert kind == "agent.input_resolved"
    assert resolved == {"request_id": asked["request_id"], "outcome": "answered"}
    assert used["result"] == "go on"


async def test_a_question_told_while_nobody_is_there_arrives_with_the_reconnect(
    store: StateStore, tmp_path: Path
) -> None:
    async with (
        asyncio.timeout(50),
        open_backend() as backend,
        open_wire(backend.port) as wire,
        asking(store, wire.port, tmp_path / "a") as harness,
    ):
        await backend.expect(LocalEvent.HEARTBEAT)
        backend.answer_events = False  # nothing of the run is committed before the cut
        await backend.send(LocalEvent.DISPATCH, DISPATCH)
        first = await backend.expect(LocalEvent.INPUT_REQUIRED)
        harness.tried.clear()
        await wire.refuse()
        wire.cut()
        await harness.tried.wait()
        backend.answer_events = True
        await wire.listen()
        again = await backend.expect(LocalEvent.INPUT_REQUIRED)
        assert again["request_id"] == first["request_id"]
        assert await backend.send(LocalEvent.INPUT, reply(again, "deny")) == {"success": True}
        assert (await result(backend))["status"] == "completed"
    assert [data["outcome"] for kind, data in told(backend) if "resolved" in kind] == ["denied"]


@pytest.mark.parametrize("features", [(), ("seq_ack", "redispatch")])
async def test_a_backend_that_cannot_answer_is_asked_nothing_and_the_policy_decides(
    store: StateStore, tmp_path: Path, features: tuple[str, ...]
) -> None:
    backend = FakeBackend(features=features) if features else FakeBackend.base()
    async with (
        asyncio.timeout(50),
        open_backend(backend),
        asking(store, backend.port, tmp_path / "a"),
    ):
        await backend.expect(LocalEvent.HEARTBEAT)
        await backend.send(LocalEvent.DISPATCH, DISPATCH)
        assert (await result(backend))["status"] == "completed"
    assert backend.payloads(LocalEvent.INPUT_REQUIRED) == []
    ((_, used),) = told(backend)
    assert used["result"] == "policy"


async def test_what_a_dead_process_asked_has_expired_and_the_run_asks_anew(
    store: StateStore, tmp_path: Path
) -> None:
    async with asyncio.timeout(50), open_backend() as backend:
        async with asking(store, backend.port, tmp_path / "a") as harness:
            await backend.expect(LocalEvent.HEARTBEAT)
            await backend.send(LocalEvent.DISPATCH, DISPATCH)
            old = await backend.expect(LocalEvent.INPUT_REQUIRED)
            await harness.supervisor.drain(0)  # parked, as a restart finds it
        rules = UserInput(600, 600)
        agent = ScriptedAgent([ASKS, TurnEnd("done")])
        (tmp_path / "b").mkdir()
        async with in_process(agent, tmp_path / "b", user_input=rules) as handler:
            later = await Harness.again(store, backend.port, handler=handler)
            async with later.running():
                await backend.expect(LocalEvent.REGISTER)
                await backend.expect(LocalEvent.HEARTBEAT)
                await backend.send(LocalEvent.DISPATCH, DISPATCH)
                new = await backend.expect(LocalEvent.INPUT_REQUIRED)
                assert new["request_id"] != old["request_id"]
                late = await backend.send(LocalEvent.INPUT, reply(old))
                assert late["success"] is False
                assert await backend.send(LocalEvent.INPUT, reply(new)) == {"success": True}
                assert (await result(backend))["status"] == "completed"
    resolved = [data for kind, data in told(backend) if "resolved" in kind]
    assert resolved == [
        {"request_id": old["request_id"], "outcome": "expired"},
        {"request_id": new["request_id"], "outcome": "answered"},
    ]
