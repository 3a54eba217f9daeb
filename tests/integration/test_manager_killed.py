"""What a manager still knows after SIGKILL, and what its home never contains."""

from __future__ import annotations

import asyncio
import base64
import re
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp

from shared.protocol.local import LocalEvent
from tests.fakes.executor_client import ExecutorClient, run_fields, stay_silent
from tests.fakes.processes import ManagerProcess, manager_process
from tests.fakes.sse import read_stream

LIMIT_SECONDS = 100.0


def api(manager: ManagerProcess) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {manager.api_token}"}
    return aiohttp.ClientSession(manager.url, headers=headers)


async def connected(manager: ManagerProcess) -> ExecutorClient:
    executor = ExecutorClient()
    await executor.connect(manager.url, manager.executor_token)
    return executor


async def post(http: aiohttp.ClientSession, path: str, body: object) -> dict[str, Any]:
    async with http.post(path, json=body) as response:
        answer: dict[str, Any] = await response.json()
        return answer


async def start(
    http: aiohttp.ClientSession, executor: ExecutorClient, **config: Any
) -> dict[str, Any]:
    """Make a task; its dispatch."""
    await post(http, "/api/v1/tasks", {"user_id": "u", "prompt": "p", "config": config})
    return await executor.expect(LocalEvent.DISPATCH)


async def ask(executor: ExecutorClient, request: dict[str, Any], seq: int) -> None:
    payload = {
        **run_fields(request, seq),
        "request_id": "q",
        "kind": "permission",
        "tool_name": "Bash",
        "tool_input": {"command": "ls"},
    }
    assert (await executor.call(LocalEvent.INPUT_REQUIRED, payload))["acked"] == seq


def state(request: dict[str, Any], last_seq: int) -> dict[str, Any]:
    return {
        "task_id": request["task_id"],
        "subtask_id": request["subtask_id"],
        "state": "running",
        "last_seq": last_seq,
    }


async def kill(manager: ManagerProcess) -> None:
    manager.program.process.kill()
    await manager.program.ended()


async def test_a_killed_manager_goes_on_with_all_that_was_under_way(tmp_path: Path) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        async with manager_process(tmp_path) as manager, api(manager) as http:
            executor = await connected(manager)
            await executor.register(max_concurrent_tasks=10)

            told = await start(http, executor)
            stream = f"/api/v1/tasks/{told['subtask_id']}/events"
            for seq in (1, 2, 3):
                await executor.progress(told, seq, "llm.reasoning", {"n": seq})
            async with http.get(stream) as response, aclosing(read_stream(response)) as events:
                seen = [(await anext(events)).id for _ in range(2)]

            asking = await start(http, executor)
            await ask(executor, asking, 1)
            executor.answers[LocalEvent.INPUT] = stay_silent
            answer = {"request_id": "q", "decision": "deny", "message": "no"}
            answering = asyncio.create_task(
                post(http, f"/api/v1/tasks/{asking['subtask_id']}/input", answer)
            )
            answered = await executor.expect(LocalEvent.INPUT)

            cancelled = await start(http, executor)
            await executor.progress(cancelled, 1, "lifecycle.started", {})
            executor.answers[LocalEvent.CANCEL] = stay_silent
            await post(http, f"/api/v1/tasks/{cancelled['subtask_id']}/cancel", {"reason": "typo"})
            cancel = await executor.expect(LocalEvent.CANCEL)

            executor.answers[LocalEvent.DISPATCH] = stay_silent
            arriving = await start(http, executor, git_token="Zq8-token")

            await kill(manager)
            await asyncio.wait({answering})
            answering.exception()
            await executor.close()

        async with manager_process(tmp_path) as manager, api(manager) as http:
            executor = await connected(manager)
            ack = await executor.register(
                max_concurrent_tasks=10,
                runs=[state(told, 4), state(asking, 1), state(cancelled, 1)],
            )
            assert [run["seq"] for run in ack["acked"]] == [3, 1, 1]
            again = dict([await executor.asked.get() for _ in range(3)])
            assert again == {
                LocalEvent.INPUT: answered,
                LocalEvent.CANCEL: cancel,
                LocalEvent.DISPATCH: arriving,
            }
            assert arriving["git_token"] == "Zq8-token"

            # The acknowledgement of the third was lost with the manager, as far as we know.
            assert (await executor.progress(told, 3, "llm.reasoning", {"n": 3}))["acked"] == 3
            assert (await executor.progress(told, 4, "llm.reasoning", {"n": 4}))["acked"] == 4
            await executor.result(told, 5, value="ok")
            async with http.get(stream, headers={"Last-Event-ID": str(seen[-1])}) as response:
                rest = [event.id async for event in read_stream(response)]
            assert seen + rest == ["1", "2", "3", "4", "5", None]
            await executor.result(cancelled, 2, "cancelled", reason="typo")
            await executor.close()


SECRET = re.compile(rb"Zq8-(login|git-|api-|other|mcp-|signature|answer|number|[xy]\b)")
"""Not less of it: what is encrypted has any three letters somewhere."""


async def test_no_secret_that_enters_is_in_the_clear_anywhere_in_the_home(tmp_path: Path) -> None:
    config = {
        "repo_url": "https://ann:Zq8-login@127.0.0.1/p.git",
        "git_token": "Zq8-git-token",
        "git_password": "Zq8-git-password",
        "env": {"api_key": "Zq8-api-key", "OTHER": "Zq8-other"},
        "mcp_servers": {
            "m": {
                "type": "http",
                "url": "https://127.0.0.1/?key=Zq8-mcp-query",
                "headers": {"Authorization": "Bearer Zq8-mcp-header"},
            }
        },
        "attachments": [
            {"id": 1, "filename": "f", "url": "https://127.0.0.1/f?sig=Zq8-signature"},
        ],
    }
    words = "cannot use Zq8-git-token, Zq8-api-key and Bearer Zq8-mcp-header"
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        manager_process(tmp_path, MANAGER_LOG_LEVEL="DEBUG") as manager,
        api(manager) as http,
    ):
        executor = await connected(manager)
        await executor.register(max_concurrent_tasks=10)

        # Every way out of the manager: taken, refused, not understood, asked, malformed.
        asking = await start(http, executor, **config)
        assert "Zq8-git-token" in str(asking)
        await ask(executor, asking, 1)
        executor.answers[LocalEvent.INPUT] = {"success": False, "code": "internal", "error": words}
        path = f"/api/v1/tasks/{asking['subtask_id']}/input"
        answer = {"request_id": "q", "decision": "deny", "message": "Zq8-answer"}
        refused = await post(http, path, answer)
        assert (await executor.expect(LocalEvent.INPUT))["message"] == "Zq8-answer"
        assert refused["error"]["code"] == "expired"
        malformed = {"request_id": "q", "decision": "Zq8-x", "answers": {"Zq8-x": "Zq8-y"}}
        assert "Zq8" not in str(await post(http, path, malformed))
        for told in (
            {"accepted": False, "code": "invalid_request", "error": words},
            {"success": False, "code": "internal", "error": words},
            {"accepted": False, "code": words, "error": words},
        ):
            executor.answers[LocalEvent.DISPATCH] = told
            run = await start(http, executor, **config)
            async with http.get(f"/api/v1/tasks/{run['subtask_id']}/events") as response:
                events = await response.text()
            assert "lifecycle.failed" in events and "Zq8" not in events
        bad = {"user_id": "u", "prompt": "p", "config": config | {"max_turns": "Zq8-number"}}
        assert "Zq8" not in str(await post(http, "/api/v1/tasks", bad))

        # Two wait while the manager is killed: a request, and an answer.
        executor.answers[LocalEvent.DISPATCH] = {"accepted": True}
        executor.answers[LocalEvent.INPUT] = stay_silent
        waiting = await start(http, executor, **config)
        await ask(executor, waiting, 1)
        path = f"/api/v1/tasks/{waiting['subtask_id']}/input"
        answering = asyncio.create_task(post(http, path, answer))
        await executor.expect(LocalEvent.INPUT)
        async with http.get("/api/v1/tasks") as response:
            tasks = await response.json()
        assert "Zq8" not in str(tasks)
        await kill(manager)
        await asyncio.wait({answering})
        answering.exception()
        await executor.close()

    def files() -> dict[str, bytes]:
        return {
            str(file.relative_to(tmp_path)): file.read_bytes()
            for file in tmp_path.rglob("*")
            if file.is_file()
        }

    found = await asyncio.to_thread(files)
    assert {"manager.db", "logs/manager.log"} <= set(found)
    assert b"does not know the question" in found["logs/manager.log"]
    for name, content in found.items():
        assert not SECRET.search(content), name
        assert base64.b64encode(b"Zq8-git-token") not in content, name
    assert "Zq8" not in manager.program.output
