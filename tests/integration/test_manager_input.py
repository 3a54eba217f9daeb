"""Answers of users on their way from the HTTP API to an executor."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from shared.protocol.local import LocalEvent
from tests.fakes.executor_client import ExecutorClient, run_fields, stay_silent
from tests.fakes.manager import RunningManager, running_manager

QUESTION = {"question": "Which library?", "options": [{"label": "httpx"}, {"label": "aiohttp"}]}
ANSWER = {"request_id": "q", "decision": "answer", "answers": {"Which library?": "httpx"}}


async def asked(manager: RunningManager, executor: ExecutorClient) -> dict[str, Any]:
    """A run whose agent has asked; its dispatch."""
    await manager.submit()
    request = await executor.expect(LocalEvent.DISPATCH)
    await ask(executor, request, 1)
    return request


async def ask(executor: ExecutorClient, request: dict[str, Any], seq: int) -> None:
    ack = await executor.call(
        LocalEvent.INPUT_REQUIRED,
        {
            **run_fields(request, seq),
            "request_id": "q",
            "kind": "question",
            "tool_name": "AskUserQuestion",
            "tool_input": {"questions": [QUESTION]},
            "expires_at": "2026-01-01T00:10:00.000Z",
        },
    )
    assert ack["acked"] == seq


async def post(manager: RunningManager, run_id: str, body: object) -> tuple[int, dict[str, Any]]:
    """Status and body, or error, of an answer."""
    async with manager.client.post(f"/api/v1/tasks/{run_id}/input", json=body) as response:
        answer: dict[str, Any] = await response.json()
        return response.status, answer.get("error", answer)


async def waiting_for(manager: RunningManager, run_id: str) -> list[dict[str, Any]]:
    """What the task shows; the list shows the same."""
    task = await manager.get(f"/api/v1/tasks/{run_id}")
    [listed] = (await manager.get("/api/v1/tasks"))["tasks"]
    assert listed["waiting_for"] == task["waiting_for"]
    waits: list[dict[str, Any]] = task["waiting_for"]
    return waits


async def test_an_answer_reaches_the_executor_and_the_question_goes_away(
    manager: RunningManager,
) -> None:
    async with manager.executor() as executor:
        request = await asked(manager, executor)
        run_id = request["subtask_id"]
        [question] = await waiting_for(manager, run_id)
        assert question == {
            "request_id": "q",
            "kind": "question",
            "tool_name": "AskUserQuestion",
            "tool_input": {"questions": [QUESTION]},
            "asked_at": question["asked_at"],
            "expires_at": "2026-01-01T00:10:00.000Z",
            "answered": False,
        }
        taken = {"task_id": run_id, "request_id": "q", "status": "accepted"}
        assert await post(manager, run_id, ANSWER) == (200, taken)
        told = await executor.expect(LocalEvent.INPUT)
        assert told == {"task_id": request["task_id"], "subtask_id": run_id, **ANSWER}
        [question] = await waiting_for(manager, run_id)
        assert question["answered"] is True
        resolved = {"request_id": "q", "outcome": "answered"}
        await executor.progress(request, 2, "agent.input_resolved", resolved)
        assert await waiting_for(manager, run_id) == []
        # A client that did not hear of its success.
        assert await post(manager, run_id, ANSWER) == (200, taken)
        assert executor.asked.empty()


async def test_an_answer_during_an_outage_is_kept_and_told_after_the_next_register(
    tmp_path: Path,
) -> None:
    async with asyncio.timeout(30):
        async with running_manager(tmp_path) as manager:
            async with manager.executor() as executor:
                request = await asked(manager, executor)
            run_id = request["subtask_id"]
            assert await post(manager, run_id, ANSWER) == (
                202,
                {"task_id": run_id, "request_id": "q", "status": "pending"},
            )
            status, error = await post(manager, run_id, ANSWER | {"answers": {"1": "aiohttp"}})
            assert (status, error["code"]) == (409, "already_answered")
        # The manager's restart is part of the outage.
        async with (
            running_manager(tmp_path) as manager,
            manager.executor(register=False) as executor,
        ):
            await executor.register(runs=[{**request, "state": "running", "last_seq": 1}])
            told = await executor.expect(LocalEvent.INPUT)
            assert (told["request_id"], told["answers"]) == ("q", ANSWER["answers"])
            assert (await post(manager, run_id, ANSWER))[0] == 200


async def test_an_answer_that_is_not_acknowledged_is_repeated(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(30),
        running_manager(tmp_path, call_timeout_s=0.5, poll_s=0.05) as manager,
        manager.executor() as executor,
    ):
        executor.answers[LocalEvent.INPUT] = stay_silent
        request = await asked(manager, executor)
        posted = asyncio.create_task(post(manager, request["subtask_id"], ANSWER))
        first = await executor.expect(LocalEvent.INPUT)
        executor.answers[LocalEvent.INPUT] = {"success": True}
        assert await executor.expect(LocalEvent.INPUT) == first
        assert (await posted)[0] in (200, 202)
        assert (await post(manager, request["subtask_id"], ANSWER))[0] == 200


@pytest.mark.parametrize(
    ("told", "status", "code", "open_"),
    [
        ({"success": False, "code": "expired"}, 409, "expired", 0),
        ({"success": False, "code": "unknown_request"}, 409, "expired", 0),
        ({"success": False, "code": "invalid_request"}, 422, "invalid_request", 1),
        ({"success": False, "code": "internal", "error": "x"}, 409, "expired", 0),
        ("nonsense", 409, "expired", 0),
    ],
)
async def test_the_caller_learns_that_the_executor_did_not_take_the_answer(
    manager: RunningManager, told: Any, status: int, code: str, open_: int
) -> None:
    async with manager.executor() as executor:
        executor.answers[LocalEvent.INPUT] = told
        run_id = (await asked(manager, executor))["subtask_id"]
        answered, error = await post(manager, run_id, ANSWER)
        assert (answered, error["code"]) == (status, code)
        assert error["hint"]
        assert len(await waiting_for(manager, run_id)) == open_


async def test_after_an_answer_that_the_executor_cannot_use_a_good_one_counts(
    manager: RunningManager,
) -> None:
    async with manager.executor() as executor:
        request = await asked(manager, executor)
        run_id = request["subtask_id"]
        executor.answers[LocalEvent.INPUT] = {
            "success": False,
            "code": "invalid_request",
            "error": "answers: no such question",
        }
        assert (await post(manager, run_id, ANSWER))[0] == 422
        assert (await executor.expect(LocalEvent.INPUT))["answers"] == ANSWER["answers"]
        [question] = await waiting_for(manager, run_id)
        assert question["answered"] is False

        executor.answers[LocalEvent.INPUT] = {"success": True}
        good = ANSWER | {"answers": {"1": "aiohttp"}}
        assert (await post(manager, run_id, good))[0] == 200
        assert (await executor.expect(LocalEvent.INPUT))["answers"] == good["answers"]
        resolved = {"request_id": "q", "outcome": "answered"}
        await executor.progress(request, 2, "agent.input_resolved", resolved)
        assert await waiting_for(manager, run_id) == []
        # It is resolved by the executor's word alone, which came once.
        log = await manager.store.events.after(run_id, 0)
        assert [event.type for event in log] == ["agent.input_required", "agent.input_resolved"]


async def test_what_cannot_be_answered_says_why(manager: RunningManager) -> None:
    status, error = await post(manager, "no-such-task", ANSWER)
    assert (status, error["code"]) == (404, "not_found")
    async with manager.executor() as executor:
        request = await asked(manager, executor)
        run_id = request["subtask_id"]
        status, error = await post(manager, run_id, ANSWER | {"request_id": "other"})
        assert (status, error["code"]) == (409, "unknown_request")
        await executor.result(request, 2, value="went on")
        status, error = await post(manager, run_id, ANSWER)
        assert (status, error["code"]) == (409, "not_waiting")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"decision": "maybe"}, "decision"),
        ({"decision": "allow", "answers": None}, "decision"),  # a question takes no allow
        ({"request_id": ""}, "request_id"),
        ({"answers": []}, "answers"),
        ({"answers": {"Zq8-no-such-question": "x"}}, "answers"),
        ({"answers": {"1": "x" * 300_000}}, "answers"),
        ({"message": "x" * 30_000}, "message"),
        ({"answer": {}}, "answer"),
    ],
)
async def test_a_malformed_answer_names_its_field_and_leaves_the_question_open(
    manager: RunningManager, change: dict[str, Any], field: str
) -> None:
    async with manager.executor() as executor:
        run_id = (await asked(manager, executor))["subtask_id"]
        status, error = await post(manager, run_id, ANSWER | change)
        assert (status, error["code"]) == (422, "invalid_request")
        assert error["message"].startswith(field)
        assert "Zq8" not in error["message"]
        [question] = await waiting_for(manager, run_id)
        assert question["answered"] is False


async def test_a_cancel_while_it_waits_ends_the_waiting(manager: RunningManager) -> None:
    async with manager.executor() as executor:
        request = await asked(manager, executor)
        run_id = request["subtask_id"]
        async with manager.client.post(f"/api/v1/tasks/{run_id}/cancel") as response:
            assert (await response.json())["waiting_for"] == []
        await executor.expect(LocalEvent.CANCEL)
        status, error = await post(manager, run_id, ANSWER)
        assert (status, error["code"]) == (409, "not_waiting")
