"""Local mode from end to end of the wire: real server, real supervisor, scripted agent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from executor.delivery.state import StateStore
from shared.errors import LinkRejected
from shared.protocol.local import LocalEvent
from tests.fakes.backend import ALL_FEATURES, TOKEN, FakeBackend, open_backend
from tests.fakes.local_mode import DISPATCH, Harness, result
from tests.fakes.run_handler import ScriptedRunHandler, completed, text, tool_call
from tests.fakes.wire import open_wire


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[StateStore]:
    store = await StateStore.open(tmp_path / "state.db")
    yield store
    await store.close()


# --- Connecting ---------------------------------------------------------------------------------


async def test_the_first_connect_is_tried_until_the_backend_is_there(
    caplog: pytest.LogCaptureFixture,
    store: StateStore,
) -> None:
    caplog.set_level(logging.INFO)
    async with asyncio.timeout(30), open_backend() as backend, open_wire(backend.port) as wire:
        await wire.refuse()
        harness = Harness(store, wire.port)
        async with harness.running():
            await harness.tried.wait()
            await wire.listen()
            hello = await backend.expect(LocalEvent.REGISTER)
            await backend.expect(LocalEvent.HEARTBEAT)
    assert (hello["executor_id"], hello["runs"]) == ("e-1", [])
    lines = [r.getMessage() for r in caplog.records if r.name == "local_runner"]
    assert any(
        line.startswith("Failed to connect to Backend WebSocket: http://127.0.0.1:")
        and "cannot be reached" in line
        for line in lines
    )
    assert lines[0] == "Starting Local Executor Runner..."
    assert f"registered at http://127.0.0.1:{wire.port} as e-1; agents: claude_code" in str(lines)


async def test_a_wrong_token_ends_the_runner_with_the_refusal(store: StateStore) -> None:
    async with asyncio.timeout(30), open_backend() as backend:
        with pytest.raises(LinkRejected):
            await Harness(store, backend.port, token="wrong").runner.run(asyncio.Event())
        assert backend.refused.qsize() == 1


async def test_a_register_refused_as_unauthorized_ends_the_runner(store: StateStore) -> None:
    refusal = {"success": False, "code": "unauthorized", "error": "unknown executor"}
    backend = FakeBackend(register_ack=lambda _: refusal)
    async with asyncio.timeout(30), open_backend(backend):
        with pytest.raises(LinkRejected, match="unknown executor"):
            await Harness(store, backend.port).runner.run(asyncio.Event())


async def test_a_register_that_fails_otherwise_is_tried_again(store: StateStore) -> None:
    backend = FakeBackend(register_ack=lambda _: {"success": False, "error": "database is busy"})
    async with asyncio.timeout(30), open_backend(backend), Harness(store, backend.port).running():
        await backend.expect(LocalEvent.REGISTER)
        await backend.expect(LocalEvent.REGISTER)
        backend.register_ack = None
        await backend.expect(LocalEvent.HEARTBEAT)
    assert backend.most_connections == 1


async def test_a_refusal_later_on_keeps_the_outbox_and_is_tried_again(store: StateStore) -> None:
    gate = asyncio.Event()
    agent = ScriptedRunHandler([gate, completed("kept")])
    async with (
        asyncio.timeout(30),
        open_backend() as backend,
        Harness(store, backend.port, agent).running(),
    ):
        await backend.expect(LocalEvent.HEARTBEAT)
        await backend.send(LocalEvent.DISPATCH, DISPATCH)
        backend.token = "another"
        await backend.kick()
        await backend.refused.get()
        await backend.refused.get()
        gate.set()
        backend.token = TOKEN
        assert (await result(backend))["result"]["value"] == "kept"


# --- Losing the connection ----------------------------------------------------------------------


async def test_a_cut_leads_to_exactly_one_new_registration(store: StateStore) -> None:
    async with (
        asyncio.timeout(30),
        open_backend() as backend,
        open_wire(backend.port) as wire,
        Harness(store, wire.port).running(),
    ):
        await backend.expect(LocalEvent.HEARTBEAT)
        wire.cut()
        await backend.expect(LocalEvent.HEARTBEAT)
        assert len(backend.payloads(LocalEvent.REGISTER)) == 2
        assert wire.accepted == 2
    assert backend.most_connections <= 2  # the server may notice the cut after the new one


async def test_every_outage_begins_with_the_shortest_pauses(store: StateStore) -> None:
    async with asyncio.timeout(30), open_backend() as backend, open_wire(backend.port) as wire:
        harness = Harness(store, wire.port)
        async with harness.running():
            for _ in range(2):
                await backend.expect(LocalEvent.HEARTBEAT)
                wire.cut()
            await backend.expect(LocalEvent.HEARTBEAT)
            assert harness.outages == 2


async def test_what_was_told_during_an_outage_arrives_in_order_and_once(store: StateStore) -> None:
    gate = asyncio.Event()
    agent = ScriptedRunHandler([tool_call(0), gate, *map(tool_call, range(1, 200)), completed()])
    async with asyncio.timeout(30), open_backend() as backend, open_wire(backend.port) as wire:
        harness = Harness(store, wire.port, agent)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
            await backend.send(LocalEvent.DISPATCH, DISPATCH)
            await backend.expect(LocalEvent.PROGRESS)
            await wire.refuse()
            wire.cut()
            await harness.tried.wait()
            gate.set()
            await agent.ended.get()
            assert harness.outbox.depth >= 200
            await wire.listen()
            await result(backend)
            await harness.outbox.wait_empty()
    assert backend.seqs(2) == list(range(1, 202))
    assert backend.payloads(LocalEvent.REGISTER)[1]["runs"] == [
        {"task_id": 1, "subtask_id": 2, "attempt": 1, "state": "finished", "last_seq": 201}
    ]


async def test_a_cut_in_the_middle_of_a_stream_loses_nothing(store: StateStore) -> None:
    agent = ScriptedRunHandler([*map(tool_call, range(500)), completed()])
    async with (
        asyncio.timeout(50),
        open_backend() as backend,
        open_wire(backend.port) as wire,
        Harness(store, wire.port, agent).running(),
    ):
        await backend.expect(LocalEvent.HEARTBEAT)
        await backend.send(LocalEvent.DISPATCH, DISPATCH)
        await backend.expect(LocalEvent.PROGRESS)
        wire.cut()
        await result(backend)
    assert backend.seqs(2) == list(range(1, 502))


async def test_a_half_open_connection_is_noticed_by_its_heartbeats(store: StateStore) -> None:
    backend = FakeBackend(heartbeat_interval=0.02, heartbeat_timeout=0.2)
    async with asyncio.timeout(30), open_backend(backend), open_wire(backend.port) as wire:
        harness = Harness(store, wire.port)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
            wire.freeze()
            await harness.tried.wait()
            wire.thaw()
            await backend.expect(LocalEvent.REGISTER)
            await backend.expect(LocalEvent.HEARTBEAT)
    assert len(backend.payloads(LocalEvent.REGISTER)) >= 2


async def test_a_backend_that_stops_acknowledging_is_connected_to_anew(store: StateStore) -> None:
    agent = ScriptedRunHandler([tool_call(1), completed()])
    backend = FakeBackend()
    backend.answer_events = False
    async with (
        asyncio.timeout(30),
        open_backend(backend),
        Harness(store, backend.port, agent, stuck_after_s=0.05).running(),
    ):
        await backend.expect(LocalEvent.HEARTBEAT)
        await backend.send(LocalEvent.DISPATCH, DISPATCH)
        await backend.expect(LocalEvent.PROGRESS)
        await backend.expect(LocalEvent.REGISTER)
        backend.answer_events = True
        await result(backend)
    assert backend.seqs(2) == [1, 2]


async def test_runs_that_the_backend_does_not_know_any_more_stop(store: StateStore) -> None:
    agent = ScriptedRunHandler([tool_call(1), asyncio.Event()])
    backend = FakeBackend()
    async with asyncio.timeout(30), open_backend(backend), open_wire(backend.port) as wire:
        harness = Harness(store, wire.port, agent)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
            await backend.send(LocalEvent.DISPATCH, DISPATCH)
            await backend.expect(LocalEvent.PROGRESS)
            backend.register_ack = lambda _: {
                "success": True,
                "features": list(ALL_FEATURES),
                "acked": [{"subtask_id": 2, "attempt": 1, "unknown": True}],
            }
            wire.cut()
            beat = await backend.expect(LocalEvent.HEARTBEAT)
            while beat["runs"]:
                beat = await backend.expect(LocalEvent.HEARTBEAT)
            assert not harness.supervisor.unfinished()
    assert not backend.payloads(LocalEvent.RESULT)


async def test_heartbeats_list_an_ended_run_until_its_verdict_is_acknowledged(
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
            assert not harness.supervisor.unfinished()
            for _ in range(3):
                beat = await backend.expect(LocalEvent.HEARTBEAT)
                assert (beat["runs"], beat["status"]) == (
                    [{"subtask_id": 2, "attempt": 1}],
                    "alive",
                )
            backend.acks_flow.set()
            while beat["runs"]:
                beat = await backend.expect(LocalEvent.HEARTBEAT)


# --- Dispatches ---------------------------------------------------------------------------------


async def test_a_run_streams_to_its_result(store: StateStore) -> None:
    agent = ScriptedRunHandler([*text("m", "hel", "lo"), completed("hello")])
    async with (
        asyncio.timeout(30),
        open_backend() as backend,
        Harness(store, backend.port, agent).running(),
    ):
        await backend.expect(LocalEvent.HEARTBEAT)
        assert await backend.send(LocalEvent.DISPATCH, DISPATCH) == {"accepted": True}
        verdict = await result(backend)
        again = await backend.send(LocalEvent.DISPATCH, DISPATCH)
        assert again == {"accepted": True, "duplicate": True}
        await result(backend)
    assert verdict["result"]["value"] == "hello"
    chunks = [payload["chunk"] for payload in backend.payloads(LocalEvent.CHAT_CHUNK)]
    assert "".join(chunks) == "hello"
    assert len(agent.requests) == 1


async def test_a_cancel_right_behind_its_dispatch_finds_the_run(store: StateStore) -> None:
    agent = ScriptedRunHandler([asyncio.Event()])
    async with (
        asyncio.timeout(30),
        open_backend() as backend,
        Harness(store, backend.port, agent).running(),
    ):
        await backend.expect(LocalEvent.HEARTBEAT)
        for number in range(5):
            ids = {"task_id": number, "subtask_id": number}
            accepted, cancelled = await asyncio.gather(
                backend.send(LocalEvent.DISPATCH, ids | {"prompt": "go"}),
                backend.send(LocalEvent.CANCEL, ids),
            )
            assert accepted == {"accepted": True}
            assert cancelled == {"success": True, "state": "cancelling"}
            assert (await result(backend))["status"] == "cancelled"


async def test_a_dispatch_that_comes_before_the_register_ack_is_not_lost(store: StateStore) -> None:
    backend = FakeBackend()
    sends: list[asyncio.Task[Any]] = []

    def eager(payload: dict[str, Any]) -> object:
        sends.append(asyncio.ensure_future(backend.send(LocalEvent.DISPATCH, DISPATCH)))
        return {"success": True, "features": list(ALL_FEATURES), "acked": []}

    backend.register_ack = eager
    async with asyncio.timeout(30), open_backend(backend), Harness(store, backend.port).running():
        assert (await result(backend))["status"] == "completed"
        assert await sends[0] == {"accepted": True}


async def test_a_dispatch_behind_a_register_ack_that_forgets_its_run_starts_it_anew(
    store: StateStore,
) -> None:
    agent = ScriptedRunHandler([tool_call(1), asyncio.Event()])
    backend = FakeBackend()
    async with (
        asyncio.timeout(30),
        open_backend(backend),
        open_wire(backend.port) as wire,
        Harness(store, wire.port, agent).running(),
    ):
        await backend.expect(LocalEvent.HEARTBEAT)
        await backend.send(LocalEvent.DISPATCH, DISPATCH)
        await backend.expect(LocalEvent.PROGRESS)
        sends: list[asyncio.Task[Any]] = []

        def forget(_payload: dict[str, Any]) -> object:
            backend.committed.clear()
            sends.append(asyncio.ensure_future(backend.send(LocalEvent.DISPATCH, DISPATCH)))
            standing = {"subtask_id": 2, "attempt": 1, "unknown": True}
            return {"success": True, "features": list(ALL_FEATURES), "acked": [standing]}

        agent.script = [completed("second")]
        backend.register_ack = forget
        wire.cut()
        assert (await result(backend))["result"]["value"] == "second"
        assert await sends[0] == {"accepted": True}


async def test_a_prompt_of_ten_megabytes_is_refused_and_costs_nothing(store: StateStore) -> None:
    async with (
        asyncio.timeout(50),
        open_backend() as backend,
        Harness(store, backend.port).running(),
    ):
        await backend.expect(LocalEvent.HEARTBEAT)
        huge = DISPATCH | {"prompt": "x" * 10_000_000}
        answer = await backend.send(LocalEvent.DISPATCH, huge)
        assert (answer["accepted"], answer["code"]) == (False, "invalid_request")
        assert len(str(answer)) < 500
        assert await backend.send(LocalEvent.DISPATCH, DISPATCH) == {"accepted": True}
        await result(backend)
    assert len(backend.payloads(LocalEvent.REGISTER)) == 1


# --- Base backends ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FakeBackend.base, FakeBackend.garbage])
async def test_a_base_backend_gets_runs_done(kind: Any, store: StateStore) -> None:
    backend = kind()
    async with asyncio.timeout(30), open_backend(backend):
        harness = Harness(store, backend.port)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
            await backend.emit(LocalEvent.DISPATCH, DISPATCH)
            assert (await result(backend))["status"] == "completed"
            await harness.outbox.wait_empty()
        assert harness.registered == [frozenset()]


async def test_a_backend_that_never_acknowledges_gets_runs_done_too(store: StateStore) -> None:
    backend = FakeBackend.silent()
    async with asyncio.timeout(30), open_backend(backend):
        harness = Harness(
            store, backend.port, register_timeout_s=0.05, assume_delivered_after_s=0.05
        )
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
            await backend.emit(LocalEvent.DISPATCH, DISPATCH)
            assert (await result(backend))["status"] == "completed"
            await harness.outbox.wait_empty()


async def test_silence_of_a_backend_that_once_had_features_is_a_loss(store: StateStore) -> None:
    backend = FakeBackend.silent()
    known = frozenset(ALL_FEATURES)
    async with asyncio.timeout(30), open_backend(backend):
        harness = Harness(store, backend.port, register_timeout_s=0.05, known=known)
        async with harness.running():
            await backend.expect(LocalEvent.REGISTER)
            await harness.tried.wait()
            backend.acknowledges, backend.features = True, ALL_FEATURES
            await backend.expect(LocalEvent.HEARTBEAT)
        assert harness.registered == [known]


async def test_what_a_backend_offers_is_remembered(store: StateStore) -> None:
    async with asyncio.timeout(30), open_backend() as backend:
        harness = Harness(store, backend.port)
        async with harness.running():
            await backend.expect(LocalEvent.HEARTBEAT)
        assert harness.memory.known == frozenset(ALL_FEATURES)


async def test_a_base_backend_learns_of_a_refusal_by_a_failed_result(store: StateStore) -> None:
    backend = FakeBackend.base()
    async with asyncio.timeout(30), open_backend(backend), Harness(store, backend.port).running():
        await backend.expect(LocalEvent.HEARTBEAT)
        await backend.emit(LocalEvent.DISPATCH, DISPATCH | {"agent_type": "cobol"})
        verdict = await result(backend)
    assert (verdict["status"], verdict["seq"]) == ("failed", 1)
    assert verdict["result"]["error_code"] == "unsupported_agent"


async def test_nothing_secret_is_logged(
    caplog: pytest.LogCaptureFixture, store: StateStore
) -> None:
    caplog.set_level(logging.DEBUG)
    async with (
        asyncio.timeout(30),
        open_backend() as backend,
        Harness(store, backend.port).running(),
    ):
        await backend.expect(LocalEvent.HEARTBEAT)
        secret = {"prompt": "sesame-prompt", "git_token": "sesame-token", "max_turns": "sesame"}
        await backend.send(LocalEvent.DISPATCH, DISPATCH | secret)
        await backend.send(LocalEvent.DISPATCH, DISPATCH | secret | {"max_turns": 1})
        await result(backend)
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith("uvicorn")]
    assert not [line for line in ours if "sesame" in line or TOKEN in line]
