"""The client of an executor in docker mode, at an HTTP server that answers as a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from executor.tasks.containers.client import ContainerClient, Standing, Unreachable
from shared.errors import ProtocolError, Refusal, RunError
from shared.protocol.events import AgentEvent
from shared.protocol.local import Input
from shared.status import ErrorCode

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

TOKEN = "container-token"


class Server:
    """Answers with :attr:`answer`."""

    def __init__(self) -> None:
        self.answer: Answer = json_answer({})
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.json() if request.can_read_body else None)
        return await self.answer(request)


def json_answer(body: Any, status: int = 200) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status)

    return answer


def error(code: str, status: int, message: str = "no") -> Answer:
    return json_answer({"error": {"code": code, "message": message, "hint": "do this"}}, status)


def told(sequence: int, kind: str = "llm.tool_call", **data: Any) -> bytes:
    category, _, action = kind.partition(".")
    event = {
        "run_id": "7",
        "sequence": sequence,
        "timestamp": "2026-01-01T12:00:00.123Z",
        "source": None,
        "event": {"category": category, "action": action},
        "data": data,
    }
    return f"id: {sequence}\nevent: {kind}\ndata: {json.dumps(event)}\n\n".encode()


def stream(*pieces: bytes, then: asyncio.Event | None = None) -> Answer:
    """Sends *pieces* as they are; ends after them, or only when *then* is set."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        if then is not None:
            await then.wait()
        return response

    return answer


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield server, f"http://127.0.0.1:{port}"
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def client(server: tuple[Server, str], http: aiohttp.ClientSession) -> ContainerClient:
    return ContainerClient(http, server[1], TOKEN, silence_s=5)


async def all_of(client: ContainerClient, after: int = 0) -> list[AgentEvent]:
    async with asyncio.timeout(30):
        return [event async for event in client.follow("7", after)]


async def test_a_run_is_handed_over_with_the_token(
    client: ContainerClient, server: tuple[Server, str]
) -> None:
    await client.execute({"prompt": "go"})
    (request,) = server[0].requests
    assert (request.method, request.path) == ("POST", "/api/tasks/execute")
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert server[0].bodies == [{"prompt": "go"}]


@pytest.mark.parametrize("code", ["busy", "draining"])
async def test_what_may_go_later_is_a_refusal(
    client: ContainerClient, server: tuple[Server, str], code: str
) -> None:
    server[0].answer = error(code, 503)
    with pytest.raises(Refusal) as refused:
        await client.execute({})
    assert refused.value.error_code == code


@pytest.mark.parametrize("status", [401, 404, 422])
async def test_what_will_not_go_later_either_fails_the_run_in_the_words_of_the_executor_inside(
    client: ContainerClient, server: tuple[Server, str], status: int
) -> None:
    server[0].answer = error("some_code", status, "this does not go")
    with pytest.raises(RunError, match="this does not go") as failed:
        await client.execute({})
    assert failed.value.hint == "do this"


async def test_a_refusal_for_good_keeps_its_code(
    client: ContainerClient, server: tuple[Server, str]
) -> None:
    server[0].answer = error("unsupported_agent", 422)
    with pytest.raises(RunError) as failed:
        await client.execute({})
    assert failed.value.error_code is ErrorCode.UNSUPPORTED_AGENT


async def test_an_answer_without_our_envelope_is_told_by_its_status(
    client: ContainerClient, server: tuple[Server, str]
) -> None:
    server[0].answer = json_answer("<html>", 403)
    with pytest.raises(RunError, match="403"):
        await client.execute({})
    server[0].answer = json_answer("<html>", 502)
    with pytest.raises(Unreachable, match="502"):
        await client.execute({})


async def test_nobody_there_may_be_there_later(http: aiohttp.ClientSession) -> None:
    client = ContainerClient(http, "http://127.0.0.1:1", TOKEN)
    with pytest.raises(Unreachable) as unreachable:
        await client.standing("7")
    assert "127.0.0.1" not in str(unreachable.value)


async def test_the_standing_of_a_run_is_read_and_none_when_it_is_not_known(
    client: ContainerClient, server: tuple[Server, str]
) -> None:
    server[0].answer = json_answer({"attempt": 2, "state": "running", "sequence": 17})
    standing = await client.standing("a b")
    assert standing is not None
    assert (standing.attempt, standing.state, standing.sequence) == (2, "running", 17)
    assert server[0].requests[0].path == "/v1/tasks/a b"
    server[0].answer = error("not_found", 404)
    assert await client.standing("7") is None


async def test_a_cancel_of_an_unknown_run_is_no_error(
    client: ContainerClient, server: tuple[Server, str]
) -> None:
    server[0].answer = error("not_found", 404)
    await client.cancel("7", "why")
    assert server[0].bodies == [{"reason": "why"}]


def answer(**fields: Any) -> Input:
    raw = {"task_id": 1, "subtask_id": 7, "request_id": "q", "decision": "allow", **fields}
    return Input.model_validate(raw)


async def test_an_answer_is_passed_on_without_the_ids_of_the_backend(
    client: ContainerClient, server: tuple[Server, str]
) -> None:
    assert await client.answer("7", answer(decision="deny", message="not here")) == "accepted"
    assert server[0].bodies == [{"request_id": "q", "decision": "deny", "message": "not here"}]


@pytest.mark.parametrize(
    ("code", "status", "standing"),
    [
        ("unknown_request", 409, "unknown_request"),
        ("expired", 409, "expired"),
        ("not_found", 404, "unknown_request"),
    ],
)
async def test_what_becomes_of_an_answer_is_told(
    client: ContainerClient, server: tuple[Server, str], code: str, status: int, standing: str
) -> None:
    server[0].answer = error(code, status)
    assert await client.answer("7", answer()) == standing


async def test_an_answer_that_does_not_fit_is_the_askers_mistake(
    client: ContainerClient, server: tuple[Server, str]
) -> None:
    server[0].answer = error("invalid_request", 422, "a question takes answer or deny")
    with pytest.raises(ProtocolError, match="takes answer or deny"):
        await client.answer("7", answer())


async def test_events_come_with_their_place_in_the_other_log_up_to_the_verdict(
    client: ContainerClient, server: tuple[Server, str]
) -> None:
    verdict = told(3, "lifecycle.completed", result="done")
    server[0].answer = stream(b": hello\n\n", told(2, tool_id="x"), verdict, told(4))
    events = await all_of(client, after=1)
    assert [(event.type, event.origin) for event in events] == [
        ("llm.tool_call", 2),
        ("lifecycle.completed", 3),
    ]
    assert events[0].timestamp == "2026-01-01T12:00:00.123Z"
    assert server[0].requests[0].headers["Last-Event-ID"] == "1"


async def test_events_are_read_however_the_network_cuts_them(
    client: ContainerClient, server: tuple[Server, str]
) -> None:
    whole = told(1, content="x" * 300_000) + told(2, "lifecycle.completed")
    pieces = [whole[at : at + 70_001] for at in range(0, len(whole), 70_001)]
    server[0].answer = stream(*pieces[:1], pieces[1][:-1], pieces[1][-1:], *pieces[2:])
    events = await all_of(client)
    assert [event.origin for event in events] == [1, 2]
    assert len(events[0].data["content"]) == 300_000


async def test_a_stream_that_ends_before_the_verdict_is_lost_after_what_it_has_told(
    client: ContainerClient, server: tuple[Server, str]
) -> None:
    goodbye = b'event: close\ndata: {"message": "Stream closed"}\n\n'
    server[0].answer = stream(told(1), goodbye)
    got: list[AgentEvent] = []
    with pytest.raises(Unreachable):
        async for event in client.follow("7", 0):
            got.append(event)  # noqa: PERF401 - what came before the error counts
    assert [event.origin for event in got] == [1]


async def test_a_stream_that_stands_half_open_is_noticed_by_its_silence(
    server: tuple[Server, str], http: aiohttp.ClientSession
) -> None:
    over = asyncio.Event()
    server[0].answer = stream(told(1), then=over)
    client = ContainerClient(http, server[1], TOKEN, silence_s=0.05)
    with pytest.raises(Unreachable, match="in time"):
        await all_of(client)
    over.set()


async def test_an_event_that_cannot_be_read_costs_none_of_the_others(
    client: ContainerClient, server: tuple[Server, str]
) -> None:
    odd = b'data: {"event": {"category": "llm"}}\n\ndata: no json\n\ndata: []\n\n'
    deep = b"data: " + b"[" * 200_000 + b"\n\n"
    server[0].answer = stream(odd, deep, told(4, "llm.start"), told(5, "lifecycle.completed"))
    assert [event.origin for event in await all_of(client)] == [5]


async def test_numbers_that_json_does_not_know_are_none(
    client: ContainerClient, server: tuple[Server, str]
) -> None:
    verdict = told(1, "lifecycle.completed", statistics={"cost": float("nan"), "turns": 2})
    server[0].answer = stream(verdict)
    (event,) = await all_of(client)
    assert event.data == {"statistics": {"cost": None, "turns": 2}}


async def test_an_event_that_comes_again_in_one_stream_is_told_once(
    client: ContainerClient, server: tuple[Server, str]
) -> None:
    again = [told(2), told(3), told(3), told(1), told(4, "lifecycle.completed")]
    server[0].answer = stream(*again)
    assert [event.origin for event in await all_of(client, after=2)] == [3, 4]


async def test_a_stream_for_an_unknown_run_fails_it(
    client: ContainerClient, server: tuple[Server, str]
) -> None:
    server[0].answer = error("not_found", 404, "unknown run")
    with pytest.raises(RunError, match="unknown run"):
        await all_of(client)


@pytest.mark.parametrize("said", ["many", [], {}, -1, 2**80, 1.5, None])
async def test_a_standing_without_usable_numbers_is_one_of_a_run_that_has_told_nothing(
    client: ContainerClient, server: tuple[Server, str], said: Any
) -> None:
    server[0].answer = json_answer({"attempt": said, "state": "running", "sequence": said})
    assert await client.standing("7") == Standing(attempt=1, state="running", sequence=0)


@pytest.mark.parametrize("call", ["execute", "standing", "follow"])
async def test_nobody_is_led_elsewhere(
    client: ContainerClient, server: tuple[Server, str], call: str
) -> None:
    async def lead(request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("/elsewhere")

    server[0].answer = lead
    with pytest.raises(RunError, match="status 307"):
        match call:
            case "execute":
                await client.execute({"prompt": "go"})
            case "standing":
                await client.standing("7")
            case _:
                await all_of(client)
    assert [request.path for request in server[0].requests if "elsewhere" in request.path] == []


@pytest.mark.parametrize("status", [200, 422])
async def test_an_answer_without_an_end_is_given_up_early(
    client: ContainerClient, server: tuple[Server, str], status: int
) -> None:
    sent = 0

    async def pour(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        for _ in range(64):
            await response.write(b" " * 2**20)
            sent += 1
        return response

    server[0].answer = pour
    with pytest.raises((Unreachable, RunError)):
        await client.standing("7")
    assert sent < 64


@pytest.mark.parametrize("status", [200, 422])
async def test_an_answer_that_is_nested_without_an_end_breaks_nothing(
    client: ContainerClient, server: tuple[Server, str], status: int
) -> None:
    async def nest(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"[" * 200_000, status=status)

    server[0].answer = nest
    with pytest.raises((Unreachable, RunError)):
        await client.standing("7")
