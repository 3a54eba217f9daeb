"""Executors and the manager over a real Socket.IO connection and a real database."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import socketio

from shared.protocol.local import LocalEvent
from tests.fakes.executor_client import ExecutorClient, run_fields
from tests.fakes.manager import RunningManager

# --- Connecting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["wrong", "", "tokeñ"])
async def test_a_wrong_token_is_refused_with_an_object(manager: RunningManager, token: str) -> None:
    client = ExecutorClient()
    with pytest.raises(socketio.exceptions.ConnectionError):
        await client.connect(manager.url, token)
    assert isinstance(client.refusal, dict)
    assert client.refusal["data"] == {"code": "unauthorized"}


async def test_a_register_is_acknowledged_with_what_is_supported(manager: RunningManager) -> None:
    async with manager.executor(register=False) as executor:
        ack = await executor.register(hostname="box", capabilities=["claude_code"])
        assert ack == {
            "success": True,
            "features": ["seq_ack", "redispatch", "input"],
            "heartbeat_interval": 10.0,
            "heartbeat_timeout": 30.0,
            "acked": [],
        }
        [node] = await manager.store.nodes.all()
        assert (node.id, node.status, node.incarnation) == ("executor-1", "online", 1)
        assert (node.hostname, node.capabilities, node.capacity) == ("box", ["claude_code"], 2)


async def test_what_comes_before_a_register_is_not_taken(manager: RunningManager) -> None:
    async with manager.executor(register=False) as executor:
        assert (await executor.beat())["code"] == "not_registered"


@pytest.mark.parametrize("raw", [None, "text", [1], {"executor_id": ""}, {"runs": {}}])
async def test_a_malformed_register_is_refused_and_the_next_one_works(
    manager: RunningManager, raw: object
) -> None:
    async with manager.executor(register=False) as executor:
        ack = await executor.call(LocalEvent.REGISTER, raw)
        assert (ack["success"], ack["code"]) == (False, "invalid_request")
        assert (await executor.register())["success"] is True


async def test_a_message_beyond_the_librarys_own_limits_is_taken(manager: RunningManager) -> None:
    """Engine.IO ends a connection at 1 MB, uvicorn at 16 MiB, unless told otherwise."""
    async with manager.executor() as executor:
        for size in (2 * 2**20, 20 * 2**20):
            ack = await executor.beat(note="x" * size)
            assert ack["success"] is True
        assert not executor.disconnected.is_set()


async def test_a_newer_connection_of_an_executor_ends_the_older_one(
    manager: RunningManager,
) -> None:
    async with asyncio.timeout(30), manager.executor() as older, manager.executor() as newer:
        await older.disconnected.wait()
        await manager.dispatched(newer)
        [node] = await manager.store.nodes.all()
        assert node.incarnation == 2


# --- The way of a run ---------------------------------------------------------------------------


async def test_a_run_goes_to_the_executor_and_ends_with_its_verdict(
    manager: RunningManager,
) -> None:
    async with asyncio.timeout(30), manager.executor() as executor:
        run = await manager.submit(
            request={"prompt": "hi", "user": {"user_name": "ann"}},
            secrets={"/git_token": "T", "/user/git_token": "U"},
        )
        request = await executor.expect(LocalEvent.DISPATCH)
        assert request == {
            "task_id": run.session_id,
            "subtask_id": run.id,
            "attempt": 1,
            "prompt": "hi",
            "user": {"user_name": "ann", "git_token": "U"},
            "git_token": "T",
            "on_node_loss": "wait",
        }
        started = {"task": "hi"}
        assert await executor.progress(request, 1, "lifecycle.started", started) == {
            "success": True,
            "acked": 1,
        }
        await manager.wait_for(run.id, "running")
        await executor.progress(request, 2, "agent.session", {"sdk_session_id": "s-1"})
        chat = {"message_id": "m"}
        for seq, event, own in (
            (3, LocalEvent.CHAT_START, {"model": "claude"}),
            (4, LocalEvent.CHAT_CHUNK, {"chunk": "Hé", "offset": 0}),
            (5, LocalEvent.CHAT_DONE, {"content": "Hé", "usage": {"input_tokens": 1}}),
        ):
            ack = await executor.call(event, {**run_fields(request, seq), **chat, **own})
            assert ack == {"success": True, "acked": seq}
        assert (await executor.result(request, 6, value="done"))["acked"] == 6

        ended = await manager.wait_for(run.id, "completed")
        assert ended.progress == 100
        assert ended.verdict == {"result": "done", "workspace": {}, "statistics": {}}
        session = await manager.store.sessions.get(run.session_id)
        assert session is not None
        assert (session.sdk_session_id, session.node_id) == ("s-1", "executor-1")
        log = await manager.store.events.after(run.id, 0)
        assert [(event.sequence, event.type) for event in log] == [
            (1, "lifecycle.started"),
            (2, "agent.session"),
            (3, "llm.start"),
            (4, "llm.stream"),
            (5, "llm.done"),
            (6, "lifecycle.completed"),
        ]
        assert log[3].data == {"message_id": "m", "content": "Hé", "offset": 0}


async def test_messages_sent_at_once_are_stored_in_their_order(manager: RunningManager) -> None:
    async with asyncio.timeout(50), manager.executor() as executor:
        request = await manager.dispatched(executor)
        async with asyncio.TaskGroup() as group:
            calls = [
                group.create_task(executor.progress(request, seq, "llm.reasoning", {"n": seq}))
                for seq in range(1, 201)
            ]
        assert [call.result()["success"] for call in calls] == [True] * 200
        log = await manager.store.events.after(request["subtask_id"], 0)
        assert [event.data["n"] for event in log] == list(range(1, 201))


async def test_an_unusable_event_counts_as_committed_and_shows_in_the_log(
    manager: RunningManager,
) -> None:
    async with asyncio.timeout(30), manager.executor() as executor:
        request = await manager.dispatched(executor)
        ack = await executor.call(
            LocalEvent.CHAT_CHUNK, {**run_fields(request, 1), "message_id": 5, "chunk": "x"}
        )
        assert (ack["success"], ack["code"], ack["acked"]) == (False, "invalid", 1)
        assert (await executor.progress(request, 2, "llm.reasoning", {}))["acked"] == 2
        log = await manager.store.events.after(request["subtask_id"], 0)
        assert [event.type for event in log] == ["system.warning", "llm.reasoning"]


async def test_an_unusable_result_fails_the_run(manager: RunningManager) -> None:
    async with asyncio.timeout(30), manager.executor() as executor:
        request = await manager.dispatched(executor)
        ack = await executor.call(
            LocalEvent.RESULT, {**run_fields(request, 1), "status": "splendid", "result": {}}
        )
        assert (ack["code"], ack["acked"]) == ("invalid", 1)
        run = await manager.wait_for(request["subtask_id"], "failed")
        assert run.error_code == "internal"


async def test_text_that_no_database_can_store_does_not_stop_a_run(manager: RunningManager) -> None:
    async with asyncio.timeout(30), manager.executor() as executor:
        request = await manager.dispatched(executor)
        half = "\ud83d"
        ack = await executor.progress(request, 1, "llm.reasoning", {"content": half, half: 1})
        assert ack["acked"] == 1
        await executor.result(request, 2, "failed", error=half, error_code=half)
        await manager.wait_for(request["subtask_id"], "failed")


async def test_a_result_that_nests_too_deep_to_be_shown_fails_the_run(
    manager: RunningManager,
) -> None:
    deep = json.loads("[" * 300 + "]" * 300)
    async with asyncio.timeout(30), manager.executor() as executor:
        request = await manager.dispatched(executor)
        told = await executor.progress(request, 1, "llm.tool_call", {"arguments": deep})
        assert (told["code"], told["acked"]) == ("invalid", 1)
        assert (await executor.result(request, 2, value=deep))["acked"] == 2
        [task] = (await manager.get("/api/v1/tasks"))["tasks"]
        assert (task["status"], task["error_code"]) == ("failed", "internal")


async def test_an_event_of_an_unknown_run_is_answered_superseded(manager: RunningManager) -> None:
    async with manager.executor() as executor:
        request = {"task_id": 0, "subtask_id": 0, "attempt": 1}
        ack = await executor.progress(request, 1, "llm.reasoning", {})
        assert ack == {"success": False, "code": "superseded"}


# --- Refusals -----------------------------------------------------------------------------------


async def test_a_refused_run_fails_with_the_code_of_the_refusal(manager: RunningManager) -> None:
    async with asyncio.timeout(30), manager.executor() as executor:
        executor.answers[LocalEvent.DISPATCH] = {
            "accepted": False,
            "code": "unsupported_agent",
            "error": "no agent of this name",
        }
        run = await manager.submit()
        failed = await manager.wait_for(run.id, "failed")
        assert failed.error_code == "unsupported_agent"
        assert failed.verdict is not None
        assert failed.verdict["error"] == "no agent of this name"


async def test_a_busy_executor_is_asked_again_once_it_tells_of_a_free_slot(
    manager: RunningManager,
) -> None:
    async with asyncio.timeout(30), manager.executor() as executor:
        executor.answers[LocalEvent.DISPATCH] = {"accepted": False, "code": "busy", "error": "no"}
        run = await manager.submit()
        await executor.expect(LocalEvent.DISPATCH)
        await manager.wait_for(run.id, "queued")
        await manager.store.nodes.all()
        assert executor.asked.empty()
        executor.answers[LocalEvent.DISPATCH] = {"accepted": True}
        await executor.beat(free_slots=1)
        assert (await executor.expect(LocalEvent.DISPATCH))["attempt"] == 1


async def test_a_draining_executor_gets_nothing_and_another_one_does(
    manager: RunningManager,
) -> None:
    async with asyncio.timeout(30), manager.executor("a") as draining:
        await draining.beat(status="draining", free_slots=2)
        run = await manager.submit()
        async with manager.executor("b") as other:
            assert (await other.expect(LocalEvent.DISPATCH))["subtask_id"] == run.id
        assert draining.asked.empty()


@pytest.mark.parametrize("code", ["busy", "draining"])
async def test_a_run_that_one_executor_cannot_take_goes_to_another_one_at_once(
    manager: RunningManager, code: str
) -> None:
    async with asyncio.timeout(30), manager.executor("a") as full:
        refusing, asked = asyncio.Event(), asyncio.Event()

        async def refuse(_: dict[str, Any]) -> dict[str, Any]:
            asked.set()
            await refusing.wait()
            return {"accepted": False, "code": code, "error": "no"}

        full.answers[LocalEvent.DISPATCH] = refuse
        run = await manager.submit()
        await asked.wait()
        async with manager.executor("b") as other:
            refusing.set()
            assert (await other.expect(LocalEvent.DISPATCH))["subtask_id"] == run.id


async def test_an_executor_gets_no_more_runs_than_it_takes_at_once(manager: RunningManager) -> None:
    async with asyncio.timeout(30), manager.executor(register=False) as executor:
        await executor.register(max_concurrent_tasks=1)
        first = await manager.submit()
        second = await manager.submit()
        request = await executor.expect(LocalEvent.DISPATCH)
        assert request["subtask_id"] == first.id
        await manager.store.nodes.all()
        assert executor.asked.empty()
        await executor.result(request, 1, value="")
        assert (await executor.expect(LocalEvent.DISPATCH))["subtask_id"] == second.id
