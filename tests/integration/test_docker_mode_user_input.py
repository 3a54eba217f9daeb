"""Questions of agents over real HTTP, to backends that lose, forget and refuse them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from executor.agents.protocol import ToolDecision
from executor.delivery.event_log import EventLog
from executor.modes.docker.receiver_client import ReceiverClient
from executor.modes.docker.user_input import UserInputRequests
from executor.network.access import NetworkAccess
from executor.tasks.questions import Questions, UserInput
from shared.errors import ProtocolError
from shared.protocol.events import AgentEvent, EventType, RunRef
from shared.protocol.http import CallbackTarget
from shared.protocol.local import Input, InputAck
from tests.fakes.event_log import open_log, tell
from tests.fakes.receiver import Answer, Receiver, Request, open_receiver

RUN = RunRef(7, 9)
PATH = "/api/v1/user-input-requests"
ASKED = {"questions": [{"question": "Which library?", "header": "Library", "options": []}]}


class Backend:
    """Keeps the questions that it is sent, in memory, and gives the answers that it has."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.created: dict[str, Any] = {}
        self.answers: dict[str, Any] = {}
        self.failures: list[Answer] = []
        """What it answers instead, one after the other."""
        receiver.answer = self._answer

    def _answer(self, request: Request) -> Answer:
        if self.failures:
            return self.failures.pop(0)
        if request.method == "POST":
            assert request.path == PATH
            request_id = f"r/{request.body['request_id']}"
            self.created[request_id] = request.body
            created = {
                "request_id": "of the call",
                "data": {"id": request_id, "status": "accepted"},
            }
            return web.json_response(created, status=201)
        request_id = request.path.removeprefix(f"{PATH}/").replace("%2F", "/")
        if request_id not in self.created:
            return 404
        return web.json_response(self.answers.get(request_id, {"status": "pending"}))

    async def asked(self) -> str:
        """Wait until a question has come; the id that it has here."""
        await self.receiver.wait_for(lambda: bool(self.created))
        return next(iter(self.created))

    async def looked_at(self, times: int = 1) -> None:
        """Wait until so many more looks for an answer have come."""
        wanted = len(self._looks()) + times
        await self.receiver.wait_for(lambda: len(self._looks()) >= wanted)

    def _looks(self) -> list[Request]:
        return [request for request in self.receiver.requests if request.method == "GET"]


@dataclass
class Bench:
    """A run that can ask, and everything that puts its questions to users."""

    log: EventLog
    questions: Questions
    requests: UserInputRequests
    warnings: list[str] = field(default_factory=list)
    given_answers: list[Input] = field(default_factory=list)

    def ask(
        self, kind: str = "question", tool_input: dict[str, Any] = ASKED
    ) -> asyncio.Task[ToolDecision | None]:
        return asyncio.create_task(self.questions.ask(kind, "Tool", dict(tool_input)))  # type: ignore[arg-type] # one of the kinds

    async def put(
        self,
        backend: Backend,
        kind: str = "question",
        tool_input: dict[str, Any] = ASKED,
        **fields: Any,
    ) -> tuple[asyncio.Task[ToolDecision | None], str]:
        """Have the run's user asked by *backend*: the agent's wait, and the question's id there."""
        self.requests.expect(RUN, target(backend, **fields))
        asking = self.ask(kind, tool_input)
        return asking, await backend.asked()

    async def begin_second(self, backend: Backend) -> RunRef:
        """Have a second attempt take the place of the first."""
        second = RunRef(7, 9, attempt=2)
        self.log.forget_run(RUN.key)
        await self.log.accept(second)
        self.requests.expect(second, target(backend))
        return second

    async def given(self, asking: asyncio.Task[ToolDecision | None]) -> ToolDecision:
        """What the agent is told in the end."""
        async with asyncio.timeout(30):
            decision = await asking
        assert decision is not None
        return decision

    async def nobody_is_asked(self) -> None:
        """Wait until no question is under way."""
        async with asyncio.timeout(30):
            while tasks := [
                task
                for task in asyncio.all_tasks()
                if task.get_name().startswith("user input question")
            ]:
                await asyncio.wait(tasks)


@asynccontextmanager
async def open_bench(
    home: Path,
    *,
    timeout_s: float = 60,
    through_a_container: bool = False,
    unforeseen: Sequence[Exception] = (),
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[Bench]:
    async with open_log(home) as (_, log):
        await log.accept(RUN)

        def say(event: AgentEvent) -> None:
            tell(log, RUN, event.type, **event.data)

        questions = Questions(UserInput(timeout_s=timeout_s, run_timeout_s=3600), say)

        given_answers: list[Input] = []
        errors = list(unforeseen)

        async def answer(given: Input) -> InputAck:
            given_answers.append(given)
            if errors:
                raise errors.pop()
            try:
                standing = questions.answer(given)
            except ProtocolError as exc:
                if through_a_container:
                    return InputAck(success=False, code="invalid_request", error=exc.message)
                raise
            if standing == "accepted":
                return InputAck(success=True)
            return InputAck(success=False, code=standing)

        warnings: list[str] = []
        client = ReceiverClient(NetworkAccess({}), timeout_s=5)
        requests = UserInputRequests(
            log,
            client,
            answer,
            warn=lambda _, message: warnings.append(message),
            poll_s=0.01,
            delays=lambda: itertools.repeat(0.01),
            sleep=sleep,
        )
        try:
            yield Bench(log, questions, requests, warnings, given_answers)
        finally:
            questions.close()
            await requests.close()
            await client.close()


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with open_receiver() as receiver:
        yield Backend(receiver)


def target(backend: Backend, **fields: Any) -> CallbackTarget:
    base_url = fields.pop("base_url", backend.receiver.url)
    return CallbackTarget(f"{backend.receiver.url}/cb", SecretStr("t-1"), base_url, **fields)


async def test_a_question_is_created_and_looked_at_until_it_is_answered(
    tmp_path: Path, backend: Backend
) -> None:
    async with open_bench(tmp_path) as bench:
        asking, request_id = await bench.put(backend, trace_id="trace")
        await backend.looked_at(2)
        backend.answers[request_id] = {"status": "answered", "answer": "httpx"}
        decision = await bench.given(asking)
        await bench.nobody_is_asked()
    assert decision.allowed
    assert decision.updated_input is not None
    assert decision.updated_input["answers"] == {"Which library?": "httpx"}
    body = backend.created[request_id]
    assert (body["session_id"], body["run_id"], body["kind"]) == ("7", "9", "question")
    assert (body["tool_name"], body["tool_input"]) == ("Tool", ASKED)
    assert body["expires_at"].endswith("Z")
    assert body["request_id"]
    for request in backend.receiver.requests:
        assert request.headers["Authorization"] == "Bearer t-1"
        assert request.headers["X-Trace-ID"] == "trace"
        assert request.headers["X-Request-ID"] == body["request_id"]
    assert bench.warnings == []


async def test_a_permission_is_given_in_words_only(tmp_path: Path, backend: Backend) -> None:
    async with open_bench(tmp_path) as bench:
        asking, request_id = await bench.put(backend, "permission", {"command": "make"})
        backend.answers[request_id] = {"status": "ok"}
        await backend.looked_at(2)
        assert not asking.done()
        backend.answers[request_id] = {"status": "answered", "approved": True}
        assert (await bench.given(asking)).allowed


async def test_the_first_answer_counts_wherever_it_is_given(
    tmp_path: Path, backend: Backend
) -> None:
    async with open_bench(tmp_path) as bench:
        asking, request_id = await bench.put(backend, "permission", {})
        own_id = backend.created[request_id]["request_id"]
        bench.questions.answer(
            Input(task_id=7, subtask_id=9, request_id=own_id, decision="deny", message="no")
        )
        backend.answers[request_id] = {"decision": "allow"}
        assert not (await bench.given(asking)).allowed
        await bench.nobody_is_asked()


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_backend_in_trouble_is_no_denial(
    tmp_path: Path, backend: Backend, status: int
) -> None:
    backend.failures = [status, status]
    async with open_bench(tmp_path) as bench:
        asking, request_id = await bench.put(backend, "permission", {})
        backend.failures = [status, status]
        await backend.looked_at(3)
        assert not asking.done()
        backend.answers[request_id] = {"decision": "allow"}
        assert (await bench.given(asking)).allowed
    posts = [request for request in backend.receiver.requests if request.method == "POST"]
    assert len({request.headers["Idempotency-Key"] for request in posts}) == 1
    assert len(posts) == 3


async def test_a_lost_request_is_no_denial(tmp_path: Path, backend: Backend) -> None:
    async with open_bench(tmp_path) as bench:
        await backend.receiver.stop()
        bench.requests.expect(RUN, target(backend))
        asking = bench.ask("permission", {})
        await backend.receiver.start()
        request_id = await backend.asked()
        await backend.receiver.stop()
        await backend.receiver.start()
        backend.answers[request_id] = {"decision": "allow"}
        assert (await bench.given(asking)).allowed


async def test_a_backend_that_has_forgotten_a_question_is_asked_again(
    tmp_path: Path, backend: Backend
) -> None:
    async with open_bench(tmp_path) as bench:
        asking, request_id = await bench.put(backend)
        await backend.looked_at()
        backend.created.clear()
        assert await backend.asked() == request_id
        backend.answers[request_id] = "httpx"
        assert (await bench.given(asking)).allowed


async def test_a_question_that_has_arrived_before_is_not_created_twice(
    tmp_path: Path, backend: Backend
) -> None:
    backend.failures = [409]
    async with open_bench(tmp_path) as bench:
        bench.requests.expect(RUN, target(backend))
        asking = bench.ask()
        await backend.receiver.wait_for_count(2)
        second = backend.receiver.requests[1]
        assert second.method == "GET"
        own_id = backend.receiver.requests[0].body["request_id"]
        backend.created[own_id] = {}
        backend.answers[own_id] = {"answer": "httpx"}
        assert (await bench.given(asking)).allowed


@pytest.mark.parametrize("status", [401, 403, 410, 422])
async def test_a_backend_that_refuses_questions_is_left_alone(
    tmp_path: Path, backend: Backend, status: int
) -> None:
    async with open_bench(tmp_path) as bench:
        bench.requests.expect(RUN, target(backend))
        backend.failures = [status]
        asking = bench.ask("permission", {})
        await backend.receiver.wait_for_count(1)
        await bench.nobody_is_asked()
        assert len(bench.warnings) == 1
        assert str(status) in bench.warnings[0]
        assert not asking.done()  # it may still be answered here
        own_id = backend.receiver.requests[0].body["request_id"]
        bench.questions.answer(Input(task_id=7, subtask_id=9, request_id=own_id, decision="allow"))
        assert (await bench.given(asking)).allowed


@pytest.mark.parametrize("through_a_container", [False, True])
async def test_what_is_no_answer_to_the_question_leaves_it_open(
    tmp_path: Path, backend: Backend, through_a_container: bool
) -> None:
    async with open_bench(tmp_path, through_a_container=through_a_container) as bench:
        asking, request_id = await bench.put(backend)
        backend.answers[request_id] = {"answers": {"1": "  "}}
        await backend.looked_at(4)
        assert not asking.done()
        assert len(bench.given_answers) == 1  # the same one need not be tried each time
        backend.answers[request_id] = {"answers": {"1": "httpx"}}
        assert (await bench.given(asking)).allowed


async def test_an_answer_that_leads_to_an_unforeseen_error_is_not_the_last_one(
    tmp_path: Path, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_bench(tmp_path, unforeseen=[RuntimeError("a mistake of ours")]) as bench:
        asking, request_id = await bench.put(backend, "permission", {})
        backend.answers[request_id] = {"decision": "allow"}
        assert (await bench.given(asking)).allowed
    assert "a question is tried again" in caplog.text
    assert len(bench.given_answers) == 2


async def test_a_question_whose_time_is_over_is_not_looked_at_any_more(
    tmp_path: Path, backend: Backend
) -> None:
    async with open_bench(tmp_path, timeout_s=0.2) as bench:
        asking, _ = await bench.put(backend, "permission", {})
        assert not (await bench.given(asking)).allowed
        await bench.log.after("9", 0)
        await bench.nobody_is_asked()


async def test_what_the_backend_lets_expire_may_still_be_answered_here(
    tmp_path: Path, backend: Backend
) -> None:
    async with open_bench(tmp_path) as bench:
        asking, request_id = await bench.put(backend, "permission", {})
        backend.answers[request_id] = {"status": "expired"}
        await bench.nobody_is_asked()
        assert not asking.done()
        asking.cancel()


async def test_without_an_address_for_questions_nobody_is_called(
    tmp_path: Path, backend: Backend
) -> None:
    async with open_bench(tmp_path) as bench:
        bench.requests.expect(RUN, target(backend, base_url=None))
        asking = bench.ask()
        await bench.log.after("9", 0)
        assert backend.receiver.requests == []
        asking.cancel()


async def test_questions_go_to_whom_the_run_was_asked_for_last(
    tmp_path: Path, backend: Backend
) -> None:
    async with open_receiver() as receiver, open_bench(tmp_path) as bench:
        another = Backend(receiver)
        asking, _ = await bench.put(backend)
        bench.requests.expect(RUN, target(another))
        request_id = await another.asked()
        another.answers[request_id] = {"answer": "httpx"}
        assert (await bench.given(asking)).allowed


async def test_a_run_that_is_asked_for_again_asks_its_question_once(
    tmp_path: Path, backend: Backend
) -> None:
    async with open_bench(tmp_path) as bench:
        asking, request_id = await bench.put(backend, trace_id="t-1")
        bench.requests.expect(RUN, target(backend, trace_id="t-2"))
        await backend.looked_at(2)
        backend.answers[request_id] = {"answer": "httpx"}
        assert (await bench.given(asking)).allowed
    posted = [request for request in backend.receiver.requests if request.method == "POST"]
    assert len(posted) == 1


async def test_nobody_is_asked_any_more_what_an_attempt_wanted_to_know_that_has_given_way(
    tmp_path: Path, backend: Backend
) -> None:
    async with open_bench(tmp_path) as bench:
        bench.requests.expect(RUN, target(backend))
        asking = bench.ask()
        await backend.looked_at()
        second = await bench.begin_second(backend)
        tell(bench.log, second, EventType.STARTED)
        await bench.nobody_is_asked()
        asking.cancel()


async def test_an_attempt_that_begins_while_the_one_before_it_winds_down_asks_too(
    tmp_path: Path, backend: Backend
) -> None:
    winding_down, may_end = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            winding_down.set()
            await may_end.wait()
            raise

    async with open_bench(tmp_path, sleep=sleep) as bench, asyncio.timeout(30):
        bench.requests.expect(RUN, target(backend))
        asking = bench.ask()
        await backend.looked_at()
        tell(bench.log, RUN, EventType.FAILED, error="e")
        await winding_down.wait()
        second = await bench.begin_second(backend)
        may_end.set()
        asked = {"request_id": "of the second", "kind": "question", "tool_input": ASKED}
        tell(bench.log, second, EventType.INPUT_REQUIRED, **asked)
        await backend.receiver.wait_for(lambda: "r/of the second" in backend.created)
        asking.cancel()


async def test_nobody_is_asked_after_the_end_of_a_run(tmp_path: Path, backend: Backend) -> None:
    async with open_bench(tmp_path) as bench:
        asking, _ = await bench.put(backend)
        tell(bench.log, RUN, EventType.FAILED, error="e")
        await bench.nobody_is_asked()
        asking.cancel()
