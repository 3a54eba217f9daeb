"""Docker mode as a process: tokens, ports, signals, restarts, and the task it is started with."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from executor.exit_status import ExitStatus
from shared.web.listening import bind
from tests.fakes.docker_mode import (
    LISTENING,
    DockerClient,
    docker_environ,
    docker_process,
)
from tests.fakes.processes import MODULE, running
from tests.fakes.receiver import Receiver
from tests.fakes.scripted_cli import script

ASKS = script("blue it is", asks=True)
"""A task that goes on until it is answered or cancelled."""

TOKEN = "the-token-of-the-service"


# --- Who is served ------------------------------------------------------------------------------


async def test_with_a_token_nobody_else_is_answered_but_by_health(tmp_path: Path) -> None:
    async with docker_process(tmp_path, token=TOKEN) as executor:
        async with DockerClient(executor.client.url, None) as anonymous:
            assert (await anonymous.ask("GET", "/health"))["status"] == "ok"
            for method, path in [
                ("POST", "/api/tasks/execute"),
                ("GET", "/api/tasks/sessions"),
                ("DELETE", "/api/tasks/sessions/close"),
                ("GET", "/v1/tasks/x"),
                ("POST", "/v1/tasks/execute"),
                ("GET", "/openapi.json"),
                ("GET", "/nothing/here"),
            ]:
                error = await anonymous.error(method, path, status=401)
                assert error["code"] == "unauthorized"
            for wrong in ["Bearer", "Bearer wrong", f"Bearer {TOKEN}x", TOKEN, "Basic !!"]:
                headers = {"Authorization": wrong}
                await anonymous.error("GET", "/api/tasks/sessions", status=401, headers=headers)
        assert await executor.client.ask("GET", "/api/tasks/sessions") == {"sessions": []}
        assert TOKEN not in executor.log + executor.program.output


async def test_without_a_token_only_programs_of_this_machine_are_answered(tmp_path: Path) -> None:
    async with docker_process(tmp_path) as executor:
        for headers in [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Host": "evil.example"},
            {"Host": "[localhost"},
        ]:
            error = await executor.client.error(
                "GET", "/api/tasks/sessions", status=403, headers=headers
            )
            assert error["code"] == "forbidden"
            assert "EXECUTOR_API_TOKEN" in error["hint"]
        own = {"Origin": executor.client.url}
        await executor.client.ask("GET", "/api/tasks/sessions", headers=own)


async def test_nobody_else_is_served_through_a_server_that_listens_everywhere(
    tmp_path: Path,
) -> None:
    command = ("-m", "uvicorn", "executor.main:app", "--host", "0.0.0.0", "--port", "0")
    env = docker_environ(tmp_path) | {"FORWARDED_ALLOW_IPS": "127.0.0.1"}
    async with running(*command, env=env) as program:
        port = await _port_of_uvicorn(program)
        async with DockerClient(f"http://127.0.0.1:{port}", None) as client:
            assert await client.ask("GET", "/api/tasks/sessions") == {"sessions": []}
            # As uvicorn tells it of somebody behind a proxy on this machine.
            headers = {"X-Forwarded-For": "192.0.2.7"}
            error = await client.error("GET", "/api/tasks/sessions", status=403, headers=headers)
            assert error["code"] == "forbidden"


async def test_a_host_without_a_token_ends_with_2_and_says_what_to_set(tmp_path: Path) -> None:
    async with running(*MODULE, env=docker_environ(tmp_path, HOST="0.0.0.0")) as program:
        assert await program.ended() == ExitStatus.USAGE
    assert "set EXECUTOR_API_TOKEN" in program.output


async def test_a_port_that_is_in_use_is_told_with_the_setting_to_change(tmp_path: Path) -> None:
    with await asyncio.to_thread(bind, "127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        async with running(*MODULE, env=docker_environ(tmp_path, PORT=str(port))) as program:
            assert await program.ended() == ExitStatus.FAILURE
    assert f"PORT: port {port} is in use by another program" in program.output
    assert "Traceback" not in program.output


async def test_a_workspace_that_cannot_be_made_is_told_with_the_setting_to_change(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    env = docker_environ(tmp_path, WORKSPACE_ROOT=str(tmp_path / "file" / "workspace"))
    del env["EXECUTOR_MODE"]
    async with running(*MODULE, env=env) as program:
        assert await program.ended() == ExitStatus.USAGE
    assert "export WORKSPACE_ROOT=" in program.output
    assert "to take tasks from a backend, set WEGENT_BACKEND_URL" in program.output


async def test_a_second_executor_of_a_home_is_refused(tmp_path: Path) -> None:
    async with (
        docker_process(tmp_path) as executor,
        running(*MODULE, env=docker_environ(tmp_path)) as other,
    ):
        assert await other.ended() == ExitStatus.USAGE
        assert "another executor is running" in other.output
        assert (await executor.client.ask("GET", "/health"))["status"] == "ok"


# --- Ways to start ------------------------------------------------------------------------------


async def test_without_any_settings_it_serves_this_machine(tmp_path: Path) -> None:
    env = docker_environ(tmp_path)
    del env["EXECUTOR_MODE"]
    async with running(*MODULE, env=env) as program:
        assert "http://127.0.0.1:" in await program.says(LISTENING)
        assert "docker mode: neither EXECUTOR_MODE nor WEGENT_BACKEND_URL is set" in program.output


async def test_the_user_of_the_machine_can_ask_it_and_cancel_a_run(tmp_path: Path) -> None:
    env = docker_environ(tmp_path)
    async with docker_process(tmp_path) as executor:
        await executor.client.execute(prompt=ASKS)
        await executor.client.events("1", until="agent.input_required")
        async with running(*MODULE, "status", "--json", env=env) as asking:
            assert await asking.ended() == ExitStatus.OK
        told = json.loads(asking.output)
        assert (told["state"], told["address"]) == ("serving", executor.client.url)
        assert told["runs"]["waiting_for_input"] == 1
        async with running(*MODULE, "status", env=env) as asking:
            assert await asking.ended() == ExitStatus.OK
        assert executor.client.url in asking.output
        assert not {"backend", "heartbeat", "outbox"} & set(asking.output.split())
        async with running(*MODULE, "doctor", env=env) as asking:
            await asking.ended()
        assert f"serving at {executor.client.url}" in asking.output
        async with running(*MODULE, "cancel", "1", env=env) as cancelling:
            assert await cancelling.ended() == ExitStatus.OK
        assert (await executor.client.events("1"))[-2].name == "lifecycle.cancelled"


async def test_uvicorn_serves_the_same_application(tmp_path: Path) -> None:
    command = ("-m", "uvicorn", "executor.main:app", "--port", "0")
    async with running(*command, env=docker_environ(tmp_path)) as program:
        port = await _port_of_uvicorn(program)
        async with DockerClient(f"http://127.0.0.1:{port}", None) as client:
            await client.execute(prompt=script("Hello."))
            assert (await client.finished("1"))["result"] == "Hello."
    assert program.process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in program.output


async def test_a_stop_of_uvicorn_ends_streams(tmp_path: Path) -> None:
    command = ("-m", "uvicorn", "executor.main:app", "--port", "0")
    env = docker_environ(tmp_path, LOCAL_SHUTDOWN_GRACE_SECONDS="0")
    async with running(*command, env=env) as program:
        port = await _port_of_uvicorn(program)
        async with DockerClient(f"http://127.0.0.1:{port}", None) as client:
            await client.execute(prompt=ASKS)
            await client.events("1", until="agent.input_required")
            follower = asyncio.create_task(client.events("1"))
            program.signal(signal.SIGTERM)
            async with asyncio.timeout(50):
                await asyncio.wait({follower})  # a stream may be cut off in its middle
                await program.ended()
    if not follower.exception():
        assert "close" not in [event.name for event in follower.result()]
    assert "Traceback" not in program.output


async def test_a_stop_of_uvicorn_lets_runs_finish(tmp_path: Path) -> None:
    command = ("-m", "uvicorn", "executor.main:app", "--port", "0")
    async with running(*command, env=docker_environ(tmp_path)) as program:
        port = await _port_of_uvicorn(program)
        async with DockerClient(f"http://127.0.0.1:{port}", None) as client:
            await client.execute(prompt=script("Finished.", pieces=2, pause_s=1))
            await client.events("1", until="llm.stream")
        program.signal(signal.SIGTERM)
        await program.ended()
    assert program.output.count("executor has stopped") == 1
    async with docker_process(tmp_path) as executor:
        assert (await executor.client.run("1"))["state"] == "completed"


async def test_uvicorn_is_told_what_is_wrong_with_the_settings(tmp_path: Path) -> None:
    command = ("-m", "uvicorn", "executor.main:app", "--port", "0")
    for wrong, message in [
        ({"EXECUTOR_MODE": "local", "WEGENT_AUTH_TOKEN": "x"}, "WEGENT_BACKEND_URL is not set"),
        (
            {"EXECUTOR_MODE": "", "WEGENT_AUTH_TOKEN": "x", "WEGENT_BACKEND_URL": "http://a"},
            "executor.main:app is docker mode",
        ),
        ({"TASK_INFO": "{}"}, "TASK_INFO: task_id: "),
    ]:
        async with running(*command, env=docker_environ(tmp_path, **wrong)) as program:
            assert await program.ended() == ExitStatus.USAGE
        assert message in program.output
        assert "Traceback" not in program.output


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("WEGENT_HOOKS", "nobody_has_this:Hook", "WEGENT_HOOKS: nobody_has_this:Hook cannot be"),
        ("WORKSPACE_ROOT", "{place}/file/workspace", "/file/workspace cannot be made"),
    ],
)
async def test_uvicorn_is_told_once_and_without_a_traceback_what_cannot_be_used(
    tmp_path: Path, variable: str, value: str, message: str
) -> None:
    (tmp_path / "file").touch()
    env = docker_environ(tmp_path) | {variable: value.format(place=tmp_path)}
    async with running("-m", "uvicorn", "executor.main:app", "--port", "0", env=env) as program:
        assert await program.ended() != ExitStatus.OK
    assert program.output.count(message) == 1
    assert "Traceback" not in program.output
    assert message in (tmp_path / "home" / "logs" / "executor.log").read_text()


async def test_the_console_has_the_format_of_the_document(tmp_path: Path) -> None:
    async with docker_process(tmp_path) as executor:
        line = await executor.program.says(" listening on http")
        line = next(line for line in executor.program.lines if "INFO" in line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - task_executor - INFO - .+", line)
    assert "[task_executor] - [in " in executor.log


async def test_debugging_tells_more(tmp_path: Path) -> None:
    async with docker_process(tmp_path, DEBUG_RUN="true") as executor:
        await executor.client.ask("GET", "/health")
        await executor.program.says(" - task_executor - DEBUG - GET /health: 200")


async def test_a_line_of_the_config_file_that_says_nothing_is_told_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "config.env").write_text('DEFAULT_MODEL="opus\n')

    async with docker_process(tmp_path) as executor:
        pass

    told = [line for line in executor.program.lines if "line 1" in line]
    assert len(told) == 1
    assert told[0].endswith(
        f"WARNING - line 1 of {home / 'config.env'} has no effect: it is no KEY=value, or a quote"
        " in it has no end"
    )


# --- One session only ---------------------------------------------------------------------------


async def test_with_a_workspace_path_one_session_is_served(tmp_path: Path) -> None:
    only = tmp_path / "only"
    async with docker_process(tmp_path, WORKSPACE_PATH=str(only)) as executor:
        client = executor.client
        assert (await client.ask("GET", "/health"))["session_id"] is None
        await client.execute(task_id="a", subtask_id="a-1", prompt=script("Hi."))
        assert (await client.finished("a-1"))["state"] == "completed"

        body = {"task_id": "b", "subtask_id": "b-1", "prompt": "x"}
        error = await client.error("POST", "/api/tasks/execute", status=422, json=body)

        assert error["code"] == "invalid_request"
        assert (await client.ask("GET", "/health"))["session_id"] == "a"
        events = await client.events("a-1")
        prepared = next(e for e in events if e.name == "workspace.prepared")
        assert prepared.data["data"]["path"] == str(only)


async def test_a_session_id_decides_which_one(tmp_path: Path) -> None:
    settings = {"WORKSPACE_PATH": str(tmp_path / "only"), "SESSION_ID": "mine"}
    async with docker_process(tmp_path, **settings) as executor:
        assert (await executor.client.ask("GET", "/health"))["session_id"] == "mine"
        body = {"session_id": "yours", "prompt": "x"}
        error = await executor.client.error("POST", "/v1/tasks/execute", status=422, json=body)
        assert "another than the only one" in error["message"]


async def test_the_only_session_stays_the_only_one_after_a_restart(tmp_path: Path) -> None:
    settings = {"WORKSPACE_PATH": str(tmp_path / "only")}
    async with docker_process(tmp_path, **settings) as executor:
        await executor.client.execute(task_id="a", subtask_id="a-1", prompt=script("Hi."))
        await executor.client.finished("a-1")
    async with docker_process(tmp_path, **settings) as executor:
        client = executor.client
        assert (await client.ask("GET", "/health"))["session_id"] == "a"
        body = {"session_id": "b", "prompt": "x"}
        await client.error("POST", "/v1/tasks/execute", status=422, json=body)
        await client.execute(task_id="a", subtask_id="a-2", prompt=script("Hi again."))
        assert (await client.finished("a-2"))["state"] == "completed"
    async with docker_process(tmp_path, **settings, SESSION_ID="b") as executor:
        assert (await executor.client.ask("GET", "/health"))["session_id"] == "b"


# --- Stopping and starting again ----------------------------------------------------------------


async def test_a_stop_lets_runs_finish_and_takes_nothing_new(tmp_path: Path) -> None:
    async with docker_process(tmp_path) as executor:
        client = executor.client
        await client.execute(prompt=ASKS)
        asked = (await client.events("1", until="agent.input_required"))[-1].data["data"]
        executor.program.signal(signal.SIGTERM)
        await executor.program.says("stopping: 1 running tasks")

        body = {"task_id": 2, "subtask_id": 2, "prompt": "x"}
        async with client.http.post("/api/tasks/execute", json=body) as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) > 0
            assert (await response.json())["error"]["code"] == "draining"
        answer = {"request_id": asked["request_id"], "decision": "deny", "message": "no"}
        events = asyncio.create_task(client.events("1"))
        await client.ask("POST", "/v1/tasks/1/input", json=answer)

        assert "lifecycle.completed" in [event.name for event in await events]
        assert await executor.program.ended() == ExitStatus.OK
        last = executor.log.splitlines()[-1]
        assert last.endswith("executor has stopped")
        assert "bootstrap/docker.py" in last  # where it is said, as of every line


async def test_a_run_that_a_stop_cut_off_goes_on_when_it_is_asked_for_again(
    tmp_path: Path,
) -> None:
    async with docker_process(tmp_path, LOCAL_SHUTDOWN_GRACE_SECONDS="0") as executor:
        await executor.client.execute(prompt=ASKS)
        told = await executor.client.events("1", until="agent.input_required")
    async with docker_process(tmp_path) as executor:
        run = await executor.client.run("1")
        assert (run["state"], run["waits_for"]) == ("interrupted", "backend")

        again = await executor.client.execute(prompt=script("Went on."))

        assert again["resumed"] is True
        assert (await executor.client.finished("1"))["state"] == "completed"
        events = await executor.client.events("1")
    assert [event.id for event in events[: len(told)]] == [event.id for event in told]
    assert [event.id for event in events[:-1]] == [str(n + 1) for n in range(len(events) - 1)]


async def test_a_run_that_waits_to_be_sent_again_can_be_ended_instead(tmp_path: Path) -> None:
    async with docker_process(tmp_path, LOCAL_SHUTDOWN_GRACE_SECONDS="0") as executor:
        await executor.client.execute(prompt=ASKS)
        await executor.client.events("1", until="agent.input_required")
    async with docker_process(tmp_path) as executor:
        ended = await executor.client.ask("DELETE", "/api/tasks/claude/sessions")
        assert ended == {"status": "success", "sessions": ["1"], "cancelled": ["1"]}
        assert (await executor.client.finished("1"))["state"] == "cancelled"


async def test_a_killed_executor_goes_on_with_its_run_and_its_callbacks(tmp_path: Path) -> None:
    receiver = Receiver()
    await receiver.start()
    try:
        task: dict[str, Any] = {
            "session_id": "s",
            "run_id": "r",
            "prompt": script("slowly", tool_s=600),
            "callback_url": f"{receiver.url}/callback",
            "callback_token": "token-of-the-run",
        }
        async with docker_process(tmp_path) as executor:
            await executor.client.ask("POST", "/v1/tasks/execute", json=task)
            await executor.client.events("r", until="llm.tool_call")
            await receiver.wait_for_count(1)
            executor.program.signal(signal.SIGKILL)
            await executor.program.ended()
        async with docker_process(tmp_path) as executor:
            task["prompt"] = script("Went on.")
            again = await executor.client.ask("POST", "/v1/tasks/execute", json=task)
            assert again["resumed"] is True
            run = await executor.client.finished("r")
            assert run["state"] == "completed"
            await receiver.wait_for(lambda: receiver.callbacks[-1][1] == "task_completed")
        told = receiver.callbacks
        assert told[0][1] == "task_started"
        assert [number for number, _ in told] == sorted(number for number, _ in told)
        headers = receiver.requests[-1].headers
        assert headers["Authorization"] == "Bearer token-of-the-run"
    finally:
        await receiver.stop()


async def test_a_second_signal_ends_at_once_and_leaves_no_process(tmp_path: Path) -> None:
    async with docker_process(tmp_path) as executor:
        await executor.client.execute(prompt=script("x", tool_s=600, stubborn=True))
        await executor.client.events("1", until="llm.tool_call")
        executor.program.signal(signal.SIGTERM)
        await executor.program.says("stopping: 1 running tasks")
        executor.program.signal(signal.SIGTERM)
        assert await executor.program.ended() == ExitStatus.INTERRUPTED
        assert "executor has stopped" in executor.log
    # That nothing is left behind is looked at after every test.


async def test_streams_end_with_the_executor_and_are_resumed_after_it(tmp_path: Path) -> None:
    async with docker_process(tmp_path, LOCAL_SHUTDOWN_GRACE_SECONDS="0") as executor:
        await executor.client.execute(prompt=ASKS)
        told = await executor.client.events("1", until="agent.input_required")
        follower = asyncio.create_task(executor.client.events("1"))
        executor.program.signal(signal.SIGTERM)
        async with asyncio.timeout(50):
            followed = await follower
        assert "close" not in [event.name for event in followed]
    async with docker_process(tmp_path) as executor:
        await executor.client.execute(prompt=script("x"))
        await executor.client.finished("1")
        rest = await executor.client.events("1", after=int(told[-1].id or 0))
    assert rest[0].id == str(int(told[-1].id or 0) + 1)
    assert rest[-1].name == "close"


# --- The task it is started with ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "status"),
    [
        ({"task_id": 1, "subtask_id": 1, "prompt": script("Hi.")}, ExitStatus.OK),
        ({"session_id": "s", "run_id": "r", "prompt": script("Hi.")}, ExitStatus.OK),
        (
            {
                "task_id": 1,
                "subtask_id": 1,
                "prompt": "x",
                "git_url": "file:///nothing/here",
            },
            ExitStatus.FAILURE,
        ),
        (
            {"task_id": 1, "subtask_id": 1, "prompt": "x", "agent_type": "nobody"},
            ExitStatus.FAILURE,
        ),
    ],
)
async def test_the_verdict_of_its_task_ends_the_executor(
    tmp_path: Path, task: dict[str, Any], status: int
) -> None:
    receiver = Receiver()
    await receiver.start()
    try:
        settings = {
            "TASK_INFO": json.dumps({**task, "exit_on_completion": True}),
            "CALLBACK_URL": f"{receiver.url}/callback",
        }
        async with running(*MODULE, env=docker_environ(tmp_path, **settings)) as program:
            assert await program.ended() == status
        if task.get("agent_type") != "nobody":
            last = "task_completed" if status == ExitStatus.OK else "task_failed"
            assert receiver.callbacks[-1][1] == last
    finally:
        await receiver.stop()


async def test_after_its_task_an_executor_goes_on_to_serve(tmp_path: Path) -> None:
    task = {"task_id": 5, "subtask_id": 50, "prompt": script("Hi.")}
    async with docker_process(tmp_path, TASK_INFO=json.dumps(task)) as executor:
        assert (await executor.client.finished("50"))["result"] == "Hi."
        assert (await executor.client.ask("GET", "/health"))["status"] == "ok"


async def test_callbacks_go_to_the_default_address_with_its_token_and_the_trace(
    tmp_path: Path,
) -> None:
    receiver = Receiver()
    await receiver.start()
    try:
        settings = {"CALLBACK_URL": f"{receiver.url}/callback", "CALLBACK_TOKEN": "of-the-default"}
        async with docker_process(tmp_path, **settings) as executor:
            body = {"task_id": 1, "subtask_id": 1, "prompt": script("Hi.")}
            headers = {"X-Trace-ID": "trace-9"}
            await executor.client.ask("POST", "/api/tasks/execute", json=body, headers=headers)
            await receiver.wait_for(lambda: "task_completed" in dict(receiver.callbacks).values())
            told = (await executor.client.run("1"))["callback"]
        assert {request.headers["X-Trace-ID"] for request in receiver.requests} == {"trace-9"}
        assert receiver.requests[0].headers["Authorization"] == "Bearer of-the-default"
        assert told["state"] in ("active", "ended")
        assert "of-the-default" not in executor.log
    finally:
        await receiver.stop()


async def test_variables_of_the_operator_reach_the_agent(tmp_path: Path) -> None:
    settings = {"EXECUTOR_ENV": json.dumps({"ANTHROPIC_API_KEY": "sk-given-to-all"})}
    async with docker_process(tmp_path, ANTHROPIC_API_KEY="", **settings) as executor:
        await executor.client.execute(prompt=script("It is {KEY}."))
        # The agent has it, and nobody is shown it.
        assert (await executor.client.finished("1"))["result"] == "It is ***."
        assert "sk-given-to-all" not in executor.log


async def _port_of_uvicorn(program: Any) -> int:
    line = await program.says("Uvicorn running on ")
    found = re.search(r"http://[\d.]+:(\d+)", line)
    assert found is not None
    return int(found[1])
