"""Stopping local mode: runs finish, are parked or fail, and the backend hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from executor.delivery.state import StateStore
from executor.modes.local import websocket_client
from executor.modes.local.heartbeat import HeartbeatService, Rhythm
from executor.modes.local.websocket_client import Link, WebSocketClient
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.execution import read_execution_request
from shared.protocol.local import Feature, LocalEvent
from tests.fakes.backend import FakeBackend, open_backend
from tests.fakes.local_mode import DISPATCH, Harness, result
from tests.fakes.run_handler import ScriptedRunHandler, completed, text, tool_call
from tests.fakes.wire import open_wire


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[StateStore]:
    store = await StateStore.open(tmp_path / "state.db")
    yield store
    await store.close()


async def test_an_idle_stop_says_goodbye_and_disconnects(store: StateStore) -> None:
    async with asyncio.timeout(30), open_backend() as backend:
        harness = Harness(store, backend.port)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
        goodbye = await backend.expect(LocalEvent.UNREGISTER)
        await backend.disconnected.wait()
        assert (goodbye["executor_id"], goodbye["runs"]) == ("e-1", [])
        assert harness.agent.closed
        assert len(backend.payloads(LocalEvent.REGISTER)) == 1


async def test_a_stop_lets_a_run_finish_while_heartbeats_say_draining(store: StateStore) -> None:
    gate = asyncio.Event()
    agent = ScriptedRunHandler([gate, completed("in time")])
    backend = FakeBackend(heartbeat_interval=0.01, heartbeat_timeout=5)
    async with asyncio.timeout(30), open_backend(backend):
        harness = Harness(store, backend.port, agent)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
            await backend.send(LocalEvent.DISPATCH, DISPATCH)
            harness.stop.set()
            while (await backend.expect(LocalEvent.HEARTBEAT))["status"] != "draining":
                pass
            refused = await backend.send(LocalEvent.DISPATCH, DISPATCH | {"subtask_id": 3})
            assert (refused["accepted"], refused["code"]) == (False, "draining")
            gate.set()
            assert (await result(backend))["result"]["value"] == "in time"
            await backend.expect(LocalEvent.UNREGISTER)
    names = [name for name, _ in backend.log if name != LocalEvent.HEARTBEAT]
    assert names[-2:] == [LocalEvent.RESULT, LocalEvent.UNREGISTER]


async def test_a_stop_while_a_lost_connection_is_cleared_away_ends_too(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = HeartbeatService.run

    async def lingering(self: HeartbeatService, link: Link, rhythm: Rhythm) -> None:
        """As it is, but it ends only after the whole connection was told to end."""
        serving = next(task for task in asyncio.all_tasks() if task.get_name() == "link")
        try:
            await beat(self, link, rhythm)
        except asyncio.CancelledError:
            by_the_loss = serving.cancelling()
            harness.stop.set()
            while serving.cancelling() == by_the_loss:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)
            raise

    monkeypatch.setattr(HeartbeatService, "run", lingering)
    async with asyncio.timeout(30), open_backend() as backend:
        harness = Harness(store, backend.port)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
            await backend.kick()
            await harness.stop.wait()
    assert len(backend.payloads(LocalEvent.REGISTER)) == 1


async def test_a_stop_whose_cancel_is_swallowed_ends_too(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = WebSocketClient._open

    async with asyncio.timeout(30), open_backend() as backend, open_wire(backend.port) as wire:

        async def swallowing(self: WebSocketClient, *given: Any) -> None:
            """As asyncio.wait_for of Python 3.11 does when it is done in the same moment."""
            opening = asyncio.ensure_future(opened(self, *given))
            try:
                await asyncio.shield(opening)
            except asyncio.CancelledError:
                wire.thaw()
                await opening

        monkeypatch.setattr(WebSocketClient, "_open", swallowing)
        wire.freeze()
        async with Harness(store, wire.port).running():
            await wire.taken.wait()


async def test_a_stop_that_is_cancelled_while_it_disconnects_still_ends_the_agents(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    disconnecting = asyncio.Event()
    close = websocket_client._close

    async def noted(sio: Any) -> None:
        disconnecting.set()
        await close(sio)

    monkeypatch.setattr(websocket_client, "_close", noted)
    async with asyncio.timeout(30), open_backend() as backend:
        harness = Harness(store, backend.port)
        task = asyncio.create_task(harness.runner.run(harness.stop))
        await backend.expect(LocalEvent.HEARTBEAT)
        harness.stop.set()
        await disconnecting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert harness.agent.closed


def runs_of(payload: dict[str, Any]) -> dict[str, tuple[str, int]]:
    """State and last number of the runs that a register or a goodbye tells of."""
    return {str(run["subtask_id"]): (run["state"], run["last_seq"]) for run in payload["runs"]}


async def test_what_does_not_finish_is_told_in_the_goodbye_and_goes_on_after_the_next_start(
    store: StateStore,
) -> None:
    said = [AgentEvent(EventType.SESSION, {"sdk_session_id": "sid-1"}), *text("m", "half")[:2]]
    agent = ScriptedRunHandler([*said, asyncio.Event()])
    async with asyncio.timeout(30), open_backend() as backend:
        async with Harness(store, backend.port, agent, drain_grace_s=0).running():
            await backend.expect(LocalEvent.HEARTBEAT)
            await backend.send(LocalEvent.DISPATCH, DISPATCH)
            await backend.send(LocalEvent.DISPATCH, DISPATCH | {"subtask_id": "next"})
            await backend.expect(LocalEvent.CHAT_CHUNK)
        goodbye = await backend.expect(LocalEvent.UNREGISTER)
        assert runs_of(goodbye) == {"2": ("interrupted", 3), "next": ("queued", 0)}
        assert goodbye["runs"][0]["sdk_session_id"] == "sid-1"
        assert agent.ended.get_nowait() == "2"
        assert not backend.payloads(LocalEvent.RESULT)

        later = await Harness.again(store, backend.port)
        async with later.running():
            assert runs_of(await backend.expect(LocalEvent.REGISTER)) == runs_of(goodbye)
            await backend.expect(LocalEvent.HEARTBEAT)
            again = await backend.send(LocalEvent.DISPATCH, DISPATCH)
            assert (again["accepted"], again["resumed"]) == (True, True)
            assert (await backend.expect(LocalEvent.CHAT_ERROR))["message_id"] == "m"
            assert (await result(backend))["subtask_id"] == 2
            await backend.send(LocalEvent.DISPATCH, DISPATCH | {"subtask_id": "next"})
            assert (await result(backend))["subtask_id"] == "next"
        assert backend.seqs(2) == list(range(1, len(backend.seqs(2)) + 1))
        assert [request.sdk_session_id for request in later.agent.requests] == ["sid-1", None]


async def test_a_base_backend_hears_that_what_does_not_finish_has_failed(
    store: StateStore,
) -> None:
    agent = ScriptedRunHandler([asyncio.Event()])
    async with asyncio.timeout(30), open_backend(FakeBackend.base()) as backend:
        async with Harness(store, backend.port, agent, drain_grace_s=0).running():
            await backend.expect(LocalEvent.HEARTBEAT)
            await backend.send(LocalEvent.DISPATCH, DISPATCH)
            await backend.send(LocalEvent.DISPATCH, DISPATCH | {"subtask_id": "next"})
            await agent.started.get()
        verdicts = {r["subtask_id"]: r for r in backend.payloads(LocalEvent.RESULT)}
        goodbye = await backend.expect(LocalEvent.UNREGISTER)
    assert {r["result"]["error_code"] for r in verdicts.values()} == {"executor_restarted"}
    assert set(verdicts) == {2, "next"}
    assert {state for state, _ in runs_of(goodbye).values()} <= {"finished"}
    assert backend.log[-1][0] == LocalEvent.UNREGISTER


@pytest.mark.parametrize(
    ("backend", "states"),
    [(FakeBackend(), ["running"]), (FakeBackend.base(), ["finished"])],
    ids=["redispatch", "base"],
)
async def test_a_stop_in_an_outage_does_what_the_backend_needs_that_was_there_last(
    store: StateStore, backend: FakeBackend, states: list[str]
) -> None:
    agent = ScriptedRunHandler([tool_call(1), asyncio.Event()])
    async with asyncio.timeout(30), open_backend(backend), open_wire(backend.port) as wire:
        harness = Harness(store, wire.port, agent, drain_grace_s=0)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
            await backend.send(LocalEvent.DISPATCH, DISPATCH)
            await backend.expect(LocalEvent.PROGRESS)
            await wire.refuse()
            wire.cut()
            await harness.tried.wait()
        assert [record.state for record in await store.runs()] == states
        assert not backend.payloads(LocalEvent.UNREGISTER)


async def test_a_stop_before_a_backend_was_reached_goes_by_what_it_offered_before(
    store: StateStore,
) -> None:
    async with asyncio.timeout(30), open_wire(0) as wire:
        await wire.refuse()
        agent = ScriptedRunHandler([tool_call(1), asyncio.Event()])
        known = frozenset({Feature.REDISPATCH.value})
        harness = Harness(store, wire.port, agent, drain_grace_s=0, known=known)
        async with harness.running():
            harness.supervisor.submit(read_execution_request(DISPATCH))
            await agent.started.get()
            await harness.tried.wait()
        assert [record.state for record in await store.runs()] == ["running"]


async def test_a_cancel_counts_while_runs_may_finish(store: StateStore) -> None:
    agent = ScriptedRunHandler([asyncio.Event()])
    async with asyncio.timeout(30), open_backend() as backend:
        harness = Harness(store, backend.port, agent, drain_grace_s=3600)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
            await backend.send(LocalEvent.DISPATCH, DISPATCH)
            harness.stop.set()
            while not harness.supervisor.draining:  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0)
            ack = await backend.send(LocalEvent.CANCEL, {"task_id": 1, "subtask_id": 2})
            assert ack["state"] == "cancelling"
            assert (await result(backend))["status"] == "cancelled"
            assert (await backend.expect(LocalEvent.UNREGISTER))["runs"] == []


async def test_a_parked_run_can_be_cancelled_until_the_goodbye(store: StateStore) -> None:
    agent = ScriptedRunHandler([tool_call(1), asyncio.Event()])
    backend = FakeBackend(heartbeat_interval=0.01, heartbeat_timeout=5)
    async with asyncio.timeout(30), open_backend(backend):
        harness = Harness(store, backend.port, agent, drain_grace_s=0)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
            backend.acks_flow.clear()  # there is something left to wait for
            await backend.send(LocalEvent.DISPATCH, DISPATCH)
            await backend.expect(LocalEvent.PROGRESS)
            harness.stop.set()
            await agent.ended.get()
            ack = await backend.send(LocalEvent.CANCEL, {"task_id": 1, "subtask_id": 2})
            assert ack["state"] == "cancelling"
            assert (await result(backend))["status"] == "cancelled"
            backend.acks_flow.set()
            assert (await backend.expect(LocalEvent.UNREGISTER))["runs"] == []
        assert [record.state for record in await store.runs()] == ["finished"]


async def test_a_dispatch_refused_while_draining_leaves_no_trace(store: StateStore) -> None:
    gate = asyncio.Event()
    agent = ScriptedRunHandler([gate, completed()])
    async with asyncio.timeout(30), open_backend() as backend:
        harness = Harness(store, backend.port, agent)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
            await backend.send(LocalEvent.DISPATCH, DISPATCH)
            harness.stop.set()
            while not harness.supervisor.draining:  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0)
            for other in ({"subtask_id": 3}, {"task_id": 9, "subtask_id": 4}, {"attempt": 2}):
                ack = await backend.send(LocalEvent.DISPATCH, DISPATCH | other)
                assert (ack["accepted"], ack["code"]) == (False, "draining")
            gate.set()
        assert len(backend.payloads(LocalEvent.RESULT)) == 1
        assert [record.run.key for record in await store.runs()] == [("2", 1)]
        assert list(backend.committed) == [("2", 1)]


async def test_a_stop_stays_connected_until_the_last_event_is_acknowledged(
    store: StateStore,
) -> None:
    backend = FakeBackend(heartbeat_interval=0.01, heartbeat_timeout=5)
    backend.acks_flow.clear()
    async with asyncio.timeout(30), open_backend(backend):
        harness = Harness(store, backend.port)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
            await backend.send(LocalEvent.DISPATCH, DISPATCH)
            await result(backend)
            harness.stop.set()
            for _ in range(3):
                while (await backend.expect(LocalEvent.HEARTBEAT))["status"] != "draining":
                    pass
            assert not backend.payloads(LocalEvent.UNREGISTER)
            backend.acks_flow.set()
            goodbye = await backend.expect(LocalEvent.UNREGISTER)
        assert (goodbye["runs"], harness.outbox.depth) == ([], 0)


async def test_a_stop_without_a_connection_works_at_once(store: StateStore) -> None:
    async with asyncio.timeout(30), open_wire(0) as wire:
        await wire.refuse()
        harness = Harness(store, wire.port)
        async with harness.running():
            await harness.tried.wait()
        assert harness.agent.closed


async def test_a_stop_while_connecting_works_at_once(store: StateStore) -> None:
    async with asyncio.timeout(4), open_backend() as backend, open_wire(backend.port) as wire:
        wire.freeze()
        harness = Harness(store, wire.port)
        async with harness.running():
            await wire.taken.wait()
        assert harness.agent.closed


async def test_a_run_that_ends_during_a_drain_in_an_outage_is_delivered_by_the_next_link(
    store: StateStore,
) -> None:
    gate = asyncio.Event()
    agent = ScriptedRunHandler([gate, completed("late")])
    async with asyncio.timeout(30), open_backend() as backend, open_wire(backend.port) as wire:
        harness = Harness(store, wire.port, agent)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
            await backend.send(LocalEvent.DISPATCH, DISPATCH)
            await wire.refuse()
            wire.cut()
            await harness.tried.wait()
            harness.stop.set()
            await wire.listen()
            await backend.expect(LocalEvent.REGISTER)
            await backend.expect(LocalEvent.HEARTBEAT)
            gate.set()
            assert (await result(backend))["result"]["value"] == "late"


async def test_cancelling_the_runner_parks_every_run_and_ends_the_connection(
    store: StateStore,
) -> None:
    agent = ScriptedRunHandler([tool_call(1), asyncio.Event()])
    async with asyncio.timeout(30), open_backend() as backend:
        harness = Harness(store, backend.port, agent)
        task = asyncio.create_task(harness.runner.run(harness.stop))
        await backend.expect(LocalEvent.HEARTBEAT)
        await backend.send(LocalEvent.DISPATCH, DISPATCH)
        await backend.expect(LocalEvent.PROGRESS)
        harness.stop.set()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert agent.ended.get_nowait() == "2"
        assert agent.closed
        assert [record.state for record in await store.runs()] == ["running"]
        await backend.disconnected.wait()
