"""Docker mode from end to end: a task over HTTP becomes work of the real CLI in a checkout."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from scripts.scripted_model import ScriptedModel
from tests.fakes.docker_mode import DockerProcess, docker_process
from tests.fakes.git_server import GitServer, git, make_repository, serving
from tests.fakes.model import KEY, reaching, scenario, text_step, tool_step
from tests.fakes.receiver import Receiver

LOGIN = ("user", "password-of-the-repository")

EDIT = scenario(
    tool_step("Read", {"file_path": "{cwd}/greeting.txt"}),
    tool_step(
        "Edit",
        {"file_path": "{cwd}/greeting.txt", "old_string": "hello", "new_string": "good morning"},
    ),
    text_step("It is friendlier now."),
    prompt="Be friendlier",
)
AGAIN = scenario(
    text_step("You asked me to be friendlier."), prompt="What did I ask", history="Be friendlier"
)


@pytest.fixture
async def git_server(tmp_path: Path) -> AsyncIterator[GitServer]:
    """A server with one repository, for those who have the password."""
    work = make_repository(tmp_path / "work", {"greeting.txt": "hello\n"})
    root = tmp_path / "served"
    root.mkdir()
    await asyncio.to_thread(git, tmp_path, "clone", "--bare", str(work), str(root / "greeter.git"))
    async with serving(root) as server:
        server.login = LOGIN
        yield server


def only_session(tmp_path: Path) -> dict[str, str]:
    """As in a container: everything of the session is in one folder, the executor's home too."""
    workspace = tmp_path / "session"
    return {
        "WORKSPACE_PATH": str(workspace),
        "WEGENT_EXECUTOR_HOME": str(workspace / ".wegent"),
        "WEGENT_CLAUDE_PATH": "",  # the one that comes with the SDK
        "CLAUDE_MAX_WARM_SESSIONS": "0",
    }


def task(model: ScriptedModel, **fields: Any) -> dict[str, Any]:
    return {"session_id": "s", "config": {**reaching(model.url), "max_turns": 20}, **fields}


async def changed_files(executor: DockerProcess, run_id: str) -> list[str]:
    run = await executor.client.run(run_id)
    return [file["path"] for file in run["workspace"]["files"]]


async def test_a_task_with_a_repository_and_its_password_is_done_and_told(
    tmp_path: Path, git_server: GitServer
) -> None:
    receiver = Receiver()
    await receiver.start()
    try:
        async with (
            ScriptedModel([EDIT]) as model,
            docker_process(tmp_path, WEGENT_CLAUDE_PATH="", CLAUDE_MAX_WARM_SESSIONS="0") as it,
        ):
            body = {
                "task_id": 1,
                "subtask_id": 1,
                "agent_type": "claude_code",
                "task_title": "Task Title",
                "subtask_title": "Subtask Title",
                "content": "Be friendlier",
                "repo_url": git_server.url("greeter"),
                "branch": "main",
                "git_username": LOGIN[0],
                "git_password": LOGIN[1],
                "bot": [{"agent_config": reaching(model.url)}],
                "callback_url": f"{receiver.url}/callback",
            }
            await it.client.ask("POST", "/api/tasks/execute", json=body)
            run = await it.client.finished("1")

            assert (run["state"], run["result"]) == ("completed", "It is friendlier now.")
            assert await changed_files(it, "1") == ["greeting.txt"]
            checkout = it.workspace / "1" / "greeter"
            assert (checkout / "greeting.txt").read_text() == "good morning\n"
            await receiver.wait_for(lambda: receiver.callbacks[-1:] != [])
            await receiver.wait_for(lambda: receiver.callbacks[-1][1] == "task_completed")
            names = [name for _, name in receiver.callbacks]
            assert names[0] == "task_started"
            assert names.count("tool_call") == 2
            for secret in (LOGIN[1], KEY):
                assert secret not in it.log + it.program.output
                assert secret not in (checkout / ".git" / "config").read_text()
    finally:
        await receiver.stop()


async def test_a_conversation_outlives_its_executor_in_the_folder_of_its_session(
    tmp_path: Path,
) -> None:
    settings = only_session(tmp_path)
    async with ScriptedModel([EDIT, AGAIN]) as model:
        async with docker_process(tmp_path, **settings) as executor:
            (tmp_path / "session" / "greeting.txt").write_text("hello\n")
            first = task(model, run_id="r-1", prompt="Be friendlier")
            await executor.client.ask("POST", "/v1/tasks/execute", json=first)
            assert (await executor.client.finished("r-1"))["state"] == "completed"
        # Another container would have the same folder, and nothing else of the first.
        place = tmp_path / "other"
        async with docker_process(place, **settings) as executor:
            second = task(model, run_id="r-2", prompt="What did I ask you?")
            await executor.client.ask("POST", "/v1/tasks/execute", json=second)
            run = await executor.client.finished("r-2")
            events = await executor.client.events("r-2")

        assert run["result"] == "You asked me to be friendlier."
        assert events[0].data["data"]["resumed"] is True


async def test_a_conversation_id_that_nobody_knows_begins_a_new_one(tmp_path: Path) -> None:
    async with (
        ScriptedModel([scenario(text_step("New."))]) as model,
        docker_process(tmp_path, **only_session(tmp_path)) as executor,
    ):
        body = task(model, run_id="r-1", prompt="hello", sdk_session_id="claude_sdk_id")
        await executor.client.ask("POST", "/v1/tasks/execute", json=body)
        run = await executor.client.finished("r-1")

    assert (run["state"], run["result"]) == ("completed", "New.")


async def test_a_run_of_a_killed_executor_goes_on_in_the_next_one(tmp_path: Path) -> None:
    settings = only_session(tmp_path)
    slow = scenario(tool_step("Bash", {"command": "sleep 600"}), prompt="Take your time")
    after = scenario(text_step("Done after all."), prompt="was restarted")
    async with ScriptedModel([after, slow]) as model:
        body = task(model, run_id="r-1", prompt="Take your time")
        async with docker_process(tmp_path, **settings) as executor:
            await executor.client.ask("POST", "/v1/tasks/execute", json=body)
            told = await executor.client.events("r-1", until="llm.tool_call")
            executor.program.signal(signal.SIGKILL)
            await executor.program.ended()
        async with docker_process(tmp_path, **settings) as executor:
            again = await executor.client.ask("POST", "/v1/tasks/execute", json=body)
            assert again["resumed"] is True
            run = await executor.client.finished("r-1")
            events = await executor.client.events("r-1")

    assert (run["state"], run["result"]) == ("completed", "Done after all.")
    assert [event.id for event in events[: len(told)]] == [event.id for event in told]
    assert [event.id for event in events[:-1]] == [str(n + 1) for n in range(len(events) - 1)]
