"""The HTTP API of docker mode, asked over real HTTP; only the agent is scripted."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from executor.modes.docker.app import MAX_BODY_BYTES
from tests.fakes.docker_mode import SEED_000_TASK, SEED_002_TASK, DockerProcess, docker_process
from tests.fakes.scripted_cli import QUESTION, script

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASKS = script("blue it is", asks=True)
"""A task that goes on until it is answered or cancelled."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DockerProcess]:
    """One for all tests here, which use sessions and runs of their own."""
    place = tmp_path_factory.mktemp("executor")
    names = {"EXECUTOR_NAME": "box", "EXECUTOR_NAMESPACE": "prod"}
    # Nothing is kept warm: a process that outlives its test would count as left behind.
    limits = {"LOCAL_MAX_CONCURRENT_TASKS": "20", "CLAUDE_MAX_WARM_SESSIONS": "0"}
    async with docker_process(place, **limits, **names) as executor:
        yield executor


# --- Taking tasks -------------------------------------------------------------------------------


async def test_a_task_runs_to_its_verdict(executor: DockerProcess) -> None:
    client = executor.client

    accepted = await client.execute(task_id=7, subtask_id=70, prompt=script("Hello."))
    run = await client.finished("70")

    assert accepted == {
        "status": "accepted",
        "session_id": "7",
        "run_id": "70",
        "task_id": 7,
        "subtask_id": 70,
        "attempt": 1,
    }
    assert (run["state"], run["result"], run["progress"]) == ("completed", "Hello.", 100)
    assert run["statistics"]["num_turns"] == 1
    assert (executor.workspace / "7").is_dir()


async def test_the_sample_of_the_docker_mode_document_is_taken(executor: DockerProcess) -> None:
    accepted = await executor.client.ask("POST", "/api/tasks/execute", json=SEED_002_TASK)

    assert accepted["status"] == "accepted"
    assert (accepted["task_id"], accepted["subtask_id"]) == (1, 1)
    await executor.client.ask("POST", "/api/tasks/cancel?task_id=1")  # its repository is not here
    assert (await executor.client.finished("1"))["session_id"] == "1"


async def test_the_sample_of_the_executor_manager_is_taken(executor: DockerProcess) -> None:
    accepted = await executor.client.ask("POST", "/v1/tasks/execute", json=SEED_000_TASK)

    assert (accepted["status"], accepted["session_id"]) == ("accepted", "session_uuid")
    run_id = accepted["run_id"]
    cancelled = await executor.client.ask("POST", f"/v1/tasks/{run_id}/cancel")
    assert cancelled["state"] in ("cancelling", "finished")
    run = await executor.client.finished(run_id)
    assert run["callback"]["state"] in ("active", "parked")


async def test_a_task_of_a_session_is_read_with_its_config(executor: DockerProcess) -> None:
    task = {
        "session_id": "config",
        "run_id": "config-1",
        "prompt": script("Read."),
        "config": {"model": "a-model", "custom_instructions": "Be brief.", "max_turns": 3},
    }

    accepted = await executor.client.ask("POST", "/v1/tasks/execute", json=task)
    await executor.client.finished(accepted["run_id"])
    events = await executor.client.events("config-1")

    assert events[0].data["data"]["model"] == "a-model"
    assert events[0].data["run_id"] == "config-1"


async def test_a_repeated_request_starts_nothing(executor: DockerProcess) -> None:
    client = executor.client
    task = {"session_id": "twice", "run_id": "twice-1", "prompt": ASKS}
    first = await client.ask("POST", "/v1/tasks/execute", json=task)

    again = await client.ask("POST", "/v1/tasks/execute", json=task)

    assert "duplicate" not in first
    assert again == {**first, "duplicate": True}
    await client.ask("POST", "/v1/tasks/twice-1/cancel", json={"reason": "enough"})
    assert (await client.finished("twice-1"))["state"] == "cancelled"
    over = await client.ask("POST", "/v1/tasks/execute", json=task)
    assert over["duplicate"] is True
    types = [event.name for event in await client.events("twice-1")]
    assert types.count("lifecycle.started") == 1


async def test_a_run_of_another_session_is_no_repeat(executor: DockerProcess) -> None:
    await executor.client.execute(task_id="mine", subtask_id="shared-id", prompt=script("Mine."))

    body = {"task_id": "yours", "subtask_id": "shared-id", "prompt": "x"}
    error = await executor.client.error("POST", "/api/tasks/execute", status=409, json=body)

    assert error["code"] == "conflict"
    await executor.client.finished("shared-id")
    error = await executor.client.error("POST", "/api/tasks/execute", status=409, json=body)
    assert error["code"] == "conflict"


async def test_of_two_sessions_that_name_one_run_at_once_one_gets_it(
    executor: DockerProcess,
) -> None:
    async def ask(run_id: str, session_id: str) -> int:
        body = {"task_id": session_id, "subtask_id": run_id, "prompt": script("Mine.")}
        async with executor.client.http.post("/api/tasks/execute", json=body) as response:
            return response.status

    for run_id in ("race-1", "race-2", "race-3"):
        statuses = await asyncio.gather(*(ask(run_id, f"{run_id}-{name}") for name in "abcd"))
        assert sorted(statuses) == [200, 409, 409, 409]


async def test_a_later_attempt_takes_the_place_of_the_one_before(executor: DockerProcess) -> None:
    client = executor.client
    await client.execute(task_id="again", subtask_id="again-1", prompt=ASKS)
    await client.execute(task_id="again", subtask_id="again-1", attempt=2, prompt=script("Two."))

    run = await client.finished("again-1")
    assert (run["attempt"], run["result"]) == (2, "Two.")

    body = {"task_id": "again", "subtask_id": "again-1", "prompt": "x"}
    error = await client.error("POST", "/api/tasks/execute", status=409, json=body)
    assert error["code"] == "superseded"


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/api/tasks/execute", {"task_id": 1, "prompt": "hunter2"}, "subtask_id: "),
        ("/api/tasks/execute", {"task_id": "../x", "subtask_id": 1, "prompt": "x"}, "task_id: "),
        ("/api/tasks/execute", ["hunter2"], "the request must be an object"),
        ("/v1/tasks/execute", {"prompt": "hunter2"}, "session_id: "),
        ("/v1/tasks/execute", {"session_id": "s"}, "prompt: "),
        ("/v1/tasks/execute", {"session_id": "s", "prompt": "x", "config": 1}, "config: "),
        (
            "/v1/tasks/execute",
            {"session_id": "s", "prompt": "x", "config": {"repo_url": "ext::hunter2"}},
            "config.repo_url: ",
        ),
        (
            "/v1/tasks/execute",
            {"session_id": "s", "prompt": "x", "callback_url": "ftp://hunter2"},
            "callback_url: ",
        ),
        (
            "/v1/tasks/execute",
            {"session_id": "s", "prompt": "x", "callback_url": "http://a:hunter2@b/"},
            "callback_url: ",
        ),
    ],
)
async def test_what_cannot_be_used_is_named_without_its_value(
    executor: DockerProcess, path: str, body: Any, place: str
) -> None:
    error = await executor.client.error("POST", path, status=422, json=body)

    assert error["code"] == "invalid_request"
    assert error["message"].startswith(place)
    assert "hunter2" not in json.dumps(error)
    await executor.program.says(f"refused: invalid_request: {error['message']}")


async def test_a_refusal_is_told_by_its_own_code(executor: DockerProcess) -> None:
    task = {"task_id": "refused", "subtask_id": "refused", "prompt": "x", "agent_type": "nobody"}

    error = await executor.client.error("POST", "/api/tasks/execute", status=422, json=task)

    assert error["code"] == "unsupported_agent"
    await executor.client.error("GET", "/v1/tasks/refused", status=404)


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("repo_url", {"repo_url": "https://u:hunter2%0A!@a.example/r.git"}),
        ("git_url", {"git_url": "https://u:hunter2%0A!@a.example/r.git"}),
        ("git_password", {"repo_url": "https://a.example/r.git", "git_password": "hunter2\n!"}),
    ],
)
async def test_a_refusal_names_the_field_as_the_body_does(
    executor: DockerProcess, name: str, repository: dict[str, str]
) -> None:
    ways: list[tuple[str, dict[str, Any], str]] = [
        ("/api/tasks/execute", {"task_id": "odd", "subtask_id": "odd", **repository}, name),
        ("/v1/tasks/execute", {"session_id": "odd", "config": repository}, f"config.{name}"),
    ]
    for path, body, place in ways:
        task = {**body, "prompt": "x"}
        error = await executor.client.error("POST", path, status=422, json=task)
        assert error["message"] == f"{place}: must not contain control characters"
    assert "hunter2" not in executor.log


@pytest.mark.parametrize("body", [b'{"task_id": 1,', b"\xff\xfe", b"[" * 100_000, b""])
async def test_malformed_json_is_a_bad_request(executor: DockerProcess, body: bytes) -> None:
    for path in ("/api/tasks/execute", "/v1/tasks/execute"):
        error = await executor.client.error("POST", path, status=400, data=body)
        assert error["code"] == "invalid_json"


async def test_a_body_of_50_megabytes_is_refused_and_the_executor_goes_on(
    executor: DockerProcess,
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b" " * 1_000_000

    declared = io.BytesIO(b" " * (MAX_BODY_BYTES + 1))
    error = await executor.client.error("POST", "/api/tasks/execute", status=413, data=declared)
    assert error["code"] == "too_large"
    try:
        error = await executor.client.error("POST", "/v1/tasks/execute", status=413, data=chunks())
        assert error["code"] == "too_large"
    except aiohttp.ClientConnectionError:
        pass  # the answer came, and the connection ended, while the rest was still being sent
    assert (await executor.client.ask("GET", "/health"))["status"] == "ok"


# --- Looking at runs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/tasks/nobody"),
        ("GET", "/v1/tasks/nobody/events"),
        ("POST", "/v1/tasks/nobody/cancel"),
        ("GET", "/v1/tasks/%00"),
        ("GET", "/v1/tasks/%2e%2e"),
        ("DELETE", "/api/tasks/session?task_id=nobody"),
        ("POST", "/api/tasks/cancel?task_id=nobody"),
        ("GET", "/nothing/here"),
    ],
)
async def test_what_is_unknown_is_not_found(
    executor: DockerProcess, method: str, path: str
) -> None:
    error = await executor.client.error(method, path, status=404)
    assert error["code"] == "not_found"


async def test_a_run_that_goes_on_tells_where_it_stands(executor: DockerProcess) -> None:
    client = executor.client
    await client.execute(task_id="stands", subtask_id="stands-1", prompt=ASKS)
    await client.execute(task_id="stands", subtask_id="stands-2", prompt=script("Then this."))
    async with asyncio.timeout(30):
        told = await client.events("stands-1", until="agent.input_required")

    first, second = await client.run("stands-1"), await client.run("stands-2")

    assert (first["state"], first["waits_for"]) == ("running", "user")
    assert first["sequence"] >= told[-1].data["sequence"]
    assert (second["state"], second["waits_for"]) == ("queued", "session")
    await client.ask("POST", "/api/tasks/cancel?task_id=stands")
    assert (await client.finished("stands-2"))["state"] == "cancelled"


async def test_a_stream_resumes_behind_the_event_it_is_told(executor: DockerProcess) -> None:
    client = executor.client
    await client.execute(task_id="sse", subtask_id="sse-1", prompt=script("One two.", pieces=3))
    await client.finished("sse-1")

    whole = await client.events("sse-1")
    rest = await client.events("sse-1", after=3)

    assert [event.id for event in whole[:-1]] == [str(n + 1) for n in range(len(whole) - 1)]
    assert rest == whole[3:]
    assert (whole[-2].name, whole[-1].name) == ("lifecycle.completed", "close")
    assert whole[-1].data == {"message": "Stream closed"}
    assert whole[0].data["event"] == {"category": "lifecycle", "action": "started"}
    headers = {"Last-Event-ID": "99"}
    error = await client.error("GET", "/v1/tasks/sse-1/events", status=400, headers=headers)
    assert error["code"] == "bad_request"
    assert error["message"].startswith("Last-Event-ID ")
    error = await client.error("GET", "/v1/tasks/sse-1/events?after=99", status=400)
    assert error["message"].startswith("after ")


async def test_two_followers_see_every_event(executor: DockerProcess) -> None:
    client = executor.client
    await client.execute(task_id="two", subtask_id="two-1", prompt=ASKS)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        followers = [group.create_task(client.events("two-1")) for _ in range(2)]
        await client.events("two-1", until="agent.input_required")
        await client.ask("POST", "/v1/tasks/two-1/cancel")

    one, other = (follower.result() for follower in followers)
    assert [e.id for e in one if e.id] == [e.id for e in other if e.id]
    assert one[-1].name == "close"


# --- Cancel and answers -------------------------------------------------------------------------


async def test_a_cancelled_run_ends_and_a_finished_one_stays(executor: DockerProcess) -> None:
    client = executor.client
    await client.execute(task_id="c", subtask_id="c-1", prompt=script("x", tool_s=600))
    await client.events("c-1", until="llm.tool_call")

    reason = b'{"reason": "not needed"}'  # and no Content-Type that says what it is
    answer = await client.ask("POST", "/v1/tasks/c-1/cancel", data=reason)

    assert answer == {"state": "cancelling"}
    over = await client.finished("c-1")
    assert (over["state"], over["reason"], over["error"]) == ("cancelled", "not needed", None)
    assert await client.ask("POST", "/v1/tasks/c-1/cancel") == {"state": "finished"}
    over = await client.ask("POST", "/api/tasks/cancel?task_id=c")
    assert over == {"status": "finished", "task_id": "c"}


async def test_a_question_is_answered_once_and_may_be_repeated(executor: DockerProcess) -> None:
    client = executor.client
    await client.execute(task_id="q", subtask_id="q-1", prompt=ASKS)
    asked = (await client.events("q-1", until="agent.input_required"))[-1].data["data"]
    path = "/v1/tasks/q-1/input"

    unknown = {"request_id": "nobody", "decision": "deny"}
    assert (await client.error("POST", path, status=409, json=unknown))["code"] == "unknown_request"
    wrong = {"request_id": asked["request_id"], "decision": "allow"}
    assert (await client.error("POST", path, status=422, json=wrong))["code"] == "invalid_request"
    answer = {
        "request_id": asked["request_id"],
        "decision": "answer",
        "answers": {QUESTION: "blue"},
    }
    assert await client.ask("POST", path, json=answer) == {"success": True}

    assert (await client.finished("q-1"))["state"] == "completed"


# --- Sessions -----------------------------------------------------------------------------------


async def sessions(executor: DockerProcess) -> dict[str, dict[str, Any]]:
    listed = await executor.client.ask("GET", "/api/tasks/sessions")
    return {session["session_id"]: session for session in listed["sessions"]}


async def test_sessions_are_listed_with_their_standing(executor: DockerProcess) -> None:
    client = executor.client
    await client.execute(task_id=81, subtask_id=810, prompt=script("Done."))
    await client.finished("810")
    await client.execute(task_id=82, subtask_id=820, prompt=ASKS)
    await client.events("820", until="agent.input_required")

    there = await sessions(executor)

    assert there["81"]["state"] == "parked"
    assert there["81"]["agent_type"] == "claude_code"
    assert there["81"]["cwd"] == str(executor.workspace / "81")
    assert there["82"]["state"] == "running"
    assert there["82"]["task_id"] == 82
    assert there["82"]["runs"] == ["820"]
    ended = await client.ask("DELETE", "/api/tasks/session?task_id=82")
    assert ended == {"status": "success", "sessions": ["82"], "cancelled": ["820"]}
    assert (await client.finished("820"))["state"] == "cancelled"
    ended = await client.ask("DELETE", "/api/tasks/session?task_id=81")
    assert ended == {"status": "success", "sessions": ["81"], "cancelled": []}


async def test_a_session_that_was_deleted_is_listed_again_with_its_next_run(
    executor: DockerProcess,
) -> None:
    client = executor.client
    await client.execute(task_id=86, subtask_id=860, prompt=script("Done."))
    await client.finished("860")
    await client.execute(task_id=86, subtask_id=861, prompt=ASKS)
    await client.events("861", until="agent.input_required")

    ended = await client.ask("DELETE", "/api/tasks/session?task_id=86")

    assert ended == {"status": "success", "sessions": ["86"], "cancelled": ["861"]}
    await client.finished("861")
    assert "86" not in await sessions(executor)
    await client.execute(task_id=86, subtask_id=861, prompt=ASKS)  # a repeat is no new run
    assert "86" not in await sessions(executor)
    assert (await client.ask("DELETE", "/api/tasks/session?task_id=86"))["cancelled"] == []
    assert (await client.ask("POST", "/api/tasks/cancel?task_id=86"))["status"] == "finished"
    await client.execute(task_id=86, subtask_id=862, prompt=script("Again."))
    assert (await client.finished("862"))["state"] == "completed"
    assert (await sessions(executor))["86"]["state"] == "parked"


async def test_a_session_is_known_whose_only_run_failed_before_its_agent_began(
    executor: DockerProcess,
) -> None:
    client = executor.client
    await client.execute(task_id=85, subtask_id=850, git_url="file:///nothing/here")
    assert (await client.finished("850"))["error_code"] == "clone_failed"

    there = (await sessions(executor))["85"]

    assert (there["state"], there["runs"], there["cwd"]) == ("parked", [], None)
    ended = await client.ask("DELETE", "/api/tasks/session?task_id=85")
    assert ended == {"status": "success", "sessions": ["85"], "cancelled": []}


@pytest.mark.parametrize("path", ["/api/tasks/claude/sessions", "/api/tasks/sessions/close"])
async def test_all_sessions_are_closed_and_go_on_with_the_next_task(
    executor: DockerProcess, path: str
) -> None:
    client = executor.client
    name = path.rpartition("/")[2]
    await client.execute(task_id=name, subtask_id=f"{name}-1", prompt=script("One."))
    first = await client.finished(f"{name}-1")
    await client.execute(task_id=f"{name}-r", subtask_id=f"{name}-2", prompt=ASKS)
    await client.events(f"{name}-2", until="agent.input_required")

    ended = await client.ask("DELETE", path)

    assert f"{name}-2" in ended["cancelled"]
    assert {name, f"{name}-r"} <= set(ended["sessions"])
    for run_id in ended["cancelled"]:
        assert (await client.finished(run_id))["state"] == "cancelled"
    assert await sessions(executor) == {}
    await client.execute(task_id=name, subtask_id=f"{name}-3", prompt=script("Three."))
    assert (await client.finished(f"{name}-3"))["state"] == "completed"
    assert first["state"] == "completed"
    started = (await client.events(f"{name}-3"))[0].data["data"]
    assert started["resumed"] is True


# --- The service --------------------------------------------------------------------------------


async def test_health_tells_who_and_how_many(executor: DockerProcess) -> None:
    health = await executor.client.ask("GET", "/health")

    assert (health["executor_name"], health["executor_namespace"]) == ("box", "prod")
    assert health["session_id"] is None
    assert isinstance(health["running"], int)
    assert health["free_slots"] + health["running"] == 20


async def test_the_names_of_a_request_are_taken_answered_and_logged(
    executor: DockerProcess,
) -> None:
    headers = {"X-Request-ID": "request-1", "X-Trace-ID": "trace-1"}
    body = {"task_id": "named", "subtask_id": "named-1", "prompt": script("x")}
    async with executor.client.http.post(
        "/api/tasks/execute", json=body, headers=headers
    ) as response:
        assert response.headers["X-Request-ID"] == "request-1"
        assert response.headers["X-Trace-ID"] == "trace-1"
    async with executor.client.http.get("/health", headers={"X-Trace-ID": "a b"}) as response:
        assert len(response.headers["X-Trace-ID"]) == 32
    await executor.client.finished("named-1")

    await executor.program.says("accepted task_id=named subtask_id=named-1")
    line = await executor.program.says("subtask_id=named-1")
    assert "request_id=request-1" in line
    assert "trace_id=trace-1" in line


async def test_the_api_describes_itself(executor: DockerProcess) -> None:
    async with executor.client.http.get("/docs") as response:
        assert response.status == 200
    paths = (await executor.client.ask("GET", "/openapi.json"))["paths"]
    assert set(paths) == {
        "/api/tasks/execute",
        "/api/tasks/sessions",
        "/api/tasks/session",
        "/api/tasks/claude/sessions",
        "/api/tasks/sessions/close",
        "/api/tasks/cancel",
        "/v1/tasks/execute",
        "/v1/tasks/{run_id}",
        "/v1/tasks/{run_id}/events",
        "/v1/tasks/{run_id}/cancel",
        "/v1/tasks/{run_id}/input",
        "/health",
    }


async def test_no_secret_of_a_request_is_in_the_log(executor: DockerProcess) -> None:
    await executor.client.execute(
        task_id="secret",
        subtask_id="secret-1",
        prompt=script("It is {KEY}."),
        bot=[{"agent_config": {"env": {"api_key": "sk-of-this-request"}}}],
        callback_url="http://127.0.0.1:1/callback",
        callback_token="token-of-this-request",
    )
    run = await executor.client.finished("secret-1")

    assert "sk-of-this-request" not in json.dumps(run)
    for secret in ("sk-of-this-request", "token-of-this-request", "sk-of-the-executor"):
        assert secret not in executor.log + executor.program.output
