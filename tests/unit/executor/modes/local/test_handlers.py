"""What the backend asks, over a real supervisor with a scripted agent."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from executor.delivery.outbox import Outbox
from executor.delivery.run_rows import RunRecord
from executor.delivery.state import Outstanding, StateStore
from executor.modes.local.handlers import TaskHandler
from executor.modes.local.progress_reporter import ProgressReporter
from executor.tasks.supervisor import Supervisor
from shared.errors import Refusal
from shared.protocol.events import AgentEvent, RunKey, RunRef
from shared.protocol.execution import ExecutionRequest
from shared.protocol.local import LocalEvent
from shared.redaction import Redactor
from shared.status import ErrorCode
from tests.fakes.run_handler import ScriptedRunHandler, completed

DISPATCH = {"task_id": 1, "subtask_id": 2, "prompt": "go"}


class Reporter(ProgressReporter):
    """The real one, remembering what it was asked to report."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__(outbox, Redactor())
        self.refusals: list[tuple[RunRef, ErrorCode]] = []
        self.told: asyncio.Queue[AgentEvent] = asyncio.Queue()

    def report(self, run: RunRef, event: AgentEvent) -> int:
        self.told.put_nowait(event)
        return super().report(run, event)

    def refuse(self, request_run: RunRef, code: ErrorCode, error: str) -> None:
        self.refusals.append((request_run, code))
        super().refuse(request_run, code, error)


class Desk:
    """A handler with what is behind it."""

    def __init__(
        self,
        store: StateStore,
        *,
        agent: ScriptedRunHandler | None = None,
        queue_limit: int = 4,
        base: bool | None = False,
    ) -> None:
        self.agent = agent or ScriptedRunHandler([asyncio.Event()])
        self.superseded: list[RunKey] = []
        self.outbox = Outbox(store, Outstanding([], 0), on_superseded=self.superseded.append)
        self.reporter = Reporter(self.outbox)
        self.supervisor = Supervisor(
            self.agent,
            self.reporter,
            store,
            max_concurrent=1,
            queue_limit=queue_limit,
            timeout_s=60,
        )
        self.handler = TaskHandler(self.supervisor, self.reporter)
        if base is not None:
            self.handler.registered(base=base)

    async def ask(self, event: str, raw: object) -> dict[str, Any]:
        return await self.handler.handle(event, raw)

    @property
    def refusals(self) -> list[tuple[RunRef, ErrorCode]]:
        return self.reporter.refusals


@pytest.mark.parametrize("event", [LocalEvent.DISPATCH, LocalEvent.MESSAGE])
async def test_a_good_request_is_accepted_and_begun(event: str, store: StateStore) -> None:
    desk = Desk(store)
    assert await desk.ask(event, DISPATCH) == {"accepted": True}
    assert await desk.agent.started.get() == "2"
    assert await desk.ask(event, DISPATCH) == {"accepted": True, "duplicate": True}
    await desk.supervisor.close()


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        (None, "must be an object"),
        ([], "must be an object"),
        ([DISPATCH, {}], "must be an object"),
        ("text", "must be an object"),
        (7, "must be an object"),
        ({}, "task_id"),
        ({"task_id": 1, "subtask_id": 2}, "prompt"),
        (DISPATCH | {"prompt": " "}, "prompt"),
        (DISPATCH | {"prompt": 5}, "prompt"),
        (DISPATCH | {"task_id": "../../etc"}, "task_id"),
        (DISPATCH | {"subtask_id": -1}, "subtask_id"),
        (DISPATCH | {"subtask_id": {"a": 1}}, "subtask_id"),
        (DISPATCH | {"attempt": 0}, "attempt"),
        (DISPATCH | {"git_url": "ext::sh -c id"}, "git_url"),
        (DISPATCH | {"branch_name": "--upload-pack=x"}, "branch_name"),
        (DISPATCH | {"prompt": "x" * 10_000_000}, "prompt"),
    ],
)
async def test_an_unusable_dispatch_is_refused_by_name_and_leaves_nothing(
    raw: object, names: str, store: StateStore
) -> None:
    desk = Desk(store)
    answer = await desk.ask(LocalEvent.DISPATCH, raw)
    assert (answer["accepted"], answer["code"]) == (False, "invalid_request")
    assert names in answer["error"]
    assert len(answer["error"]) < 1000
    assert not desk.supervisor.reports()
    assert not desk.outbox.depth


async def test_refusals_carry_their_code_and_reason(store: StateStore) -> None:
    desk = Desk(store, queue_limit=0)
    await desk.ask(LocalEvent.DISPATCH, DISPATCH)
    busy = await desk.ask(LocalEvent.DISPATCH, DISPATCH | {"subtask_id": 3})
    assert (busy["accepted"], busy["code"], busy["reason"]) == (False, "busy", "slots")
    unknown = await desk.ask(LocalEvent.DISPATCH, DISPATCH | {"subtask_id": 4, "agent_type": "x"})
    assert unknown["code"] == "unsupported_agent"
    desk.supervisor.stop_accepting()
    draining = await desk.ask(LocalEvent.DISPATCH, DISPATCH | {"subtask_id": 5})
    assert draining["code"] == "draining"
    assert not desk.refusals  # this backend reads acks
    await desk.supervisor.close()


class WithoutRepositories(ScriptedRunHandler):
    """Refuses every request that names one."""

    def check(self, request: ExecutionRequest) -> None:
        if request.git_url is not None:
            raise Refusal(ErrorCode.INVALID_REQUEST, "git_url: not here", hint="somewhere else")


@pytest.mark.parametrize("sent", [{"repo_url": "https://a/b"}, {"git_url": "https://a/b"}])
async def test_a_refusal_calls_a_field_as_the_backend_does(
    sent: dict[str, str], store: StateStore
) -> None:
    desk = Desk(store, agent=WithoutRepositories())
    answer = await desk.ask(LocalEvent.DISPATCH, DISPATCH | sent)
    assert answer["code"] == "invalid_request"
    assert answer["error"] == f"{next(iter(sent))}: not here (somewhere else)"


async def test_to_a_base_backend_a_refusal_is_a_failed_result_too(store: StateStore) -> None:
    desk = Desk(store, base=True)
    await desk.ask(LocalEvent.DISPATCH, {"task_id": "t", "subtask_id": 0, "attempt": 3})
    assert desk.refusals == [(RunRef("t", 0, 3), ErrorCode.INVALID_REQUEST)]
    assert desk.outbox.depth == 1


@pytest.mark.parametrize(
    "raw",
    [None, [], {}, {"task_id": 1}, {"task_id": 1, "subtask_id": "../x"}, {"subtask_id": 1}],
)
async def test_a_refusal_without_readable_ids_has_nobody_to_be_told_of(
    raw: object, store: StateStore
) -> None:
    desk = Desk(store, base=True)
    assert (await desk.ask(LocalEvent.DISPATCH, raw))["accepted"] is False
    assert not desk.refusals


async def test_a_bad_repeat_does_not_fail_the_run_that_goes_on(store: StateStore) -> None:
    desk = Desk(store, base=True)
    await desk.ask(LocalEvent.DISPATCH, DISPATCH)
    answer = await desk.ask(LocalEvent.DISPATCH, DISPATCH | {"subtask_id": "2", "prompt": ""})
    assert answer["accepted"] is False
    assert not desk.refusals
    await desk.supervisor.close()


@pytest.mark.parametrize(("base", "reported"), [(True, 1), (False, 0)])
async def test_refusals_before_the_first_registration_wait_for_it(
    base: bool, reported: int, store: StateStore
) -> None:
    desk = Desk(store, base=None)
    await desk.ask(LocalEvent.DISPATCH, DISPATCH | {"prompt": ""})
    assert not desk.refusals
    desk.handler.registered(base=base)
    desk.handler.registered(base=base)
    assert len(desk.refusals) == reported


async def test_a_cancel_finds_a_run_accepted_just_before(store: StateStore) -> None:
    desk = Desk(store)
    dispatch = desk.ask(LocalEvent.DISPATCH, DISPATCH)
    cancel = desk.ask(LocalEvent.CANCEL, {"task_id": "1", "subtask_id": "2", "reason": "user"})
    accepted, cancelled = await asyncio.gather(dispatch, cancel)
    assert accepted == {"accepted": True}
    assert cancelled == {"success": True, "state": "cancelling"}
    await desk.supervisor.close()


async def test_a_cancel_of_an_unknown_run_says_so(store: StateStore) -> None:
    answer = await Desk(store).ask(LocalEvent.CANCEL, {"task_id": 1, "subtask_id": 0})
    assert answer == {"success": True, "state": "unknown"}


async def test_an_answer_reaches_the_run_that_asked(store: StateStore) -> None:
    desk = Desk(store)
    await desk.ask(LocalEvent.DISPATCH, DISPATCH)
    raw = {"task_id": 1, "subtask_id": 2, "request_id": "q", "decision": "allow"}
    assert await desk.ask(LocalEvent.INPUT, raw) == {"success": True}
    assert desk.agent.answers[0].request_id == "q"
    answer = await desk.ask(LocalEvent.INPUT, raw | {"subtask_id": 99, "request_id": "r"})
    assert answer == {"success": False, "code": "unknown_request"}
    await desk.supervisor.close()


async def test_a_repeated_answer_is_accepted_also_when_its_run_is_over(store: StateStore) -> None:
    desk = Desk(store)
    gate = asyncio.Event()
    desk.agent.script = [gate, completed()]
    await desk.ask(LocalEvent.DISPATCH, DISPATCH)
    raw = {"task_id": 1, "subtask_id": 2, "request_id": "q", "decision": "allow"}
    assert await desk.ask(LocalEvent.INPUT, raw) == {"success": True}
    gate.set()
    await desk.agent.ended.get()
    await desk.supervisor.close()
    assert await desk.ask(LocalEvent.INPUT, raw) == {"success": True}
    assert len(desk.agent.answers) == 1
    answer = await desk.ask(LocalEvent.INPUT, raw | {"request_id": "never asked"})
    assert answer == {"success": False, "code": "unknown_request"}


async def test_an_answer_that_does_not_fit_says_so_and_the_question_stays_open(
    store: StateStore,
) -> None:
    desk = Desk(store)
    desk.agent.script = ["ask", completed()]
    await desk.ask(LocalEvent.DISPATCH, DISPATCH)
    async with asyncio.timeout(30):
        asked = await desk.reporter.told.get()
        raw = {"task_id": 1, "subtask_id": 2, "request_id": asked.data["request_id"]}
        answer = await desk.ask(LocalEvent.INPUT, raw | {"decision": "answer", "message": "x"})
        assert (answer["success"], answer["code"]) == (False, "invalid_request")
        assert "decision" in answer["error"]
        assert await desk.ask(LocalEvent.INPUT, raw | {"decision": "allow"}) == {"success": True}
        await desk.agent.ended.get()
    await desk.supervisor.close()


async def test_a_close_ends_the_sessions_warm_process(store: StateStore) -> None:
    desk = Desk(store)
    assert await desk.ask(LocalEvent.CLOSE, {"task_id": 0}) == {"success": True}
    assert desk.agent.closed_sessions == [0]


@pytest.mark.parametrize("event", [LocalEvent.CANCEL, LocalEvent.INPUT, LocalEvent.CLOSE])
@pytest.mark.parametrize("raw", [None, [], "x", {}, {"task_id": []}])
async def test_other_unusable_messages_are_answered_as_failures(
    event: str, raw: object, store: StateStore
) -> None:
    answer = await Desk(store).ask(event, raw)
    assert (answer["success"], answer["code"]) == (False, "invalid_request")


async def test_an_unknown_event_is_answered_as_a_failure(store: StateStore) -> None:
    answer = await Desk(store).ask("local:task:explode", {"task_id": 1})
    assert (answer["success"], answer["code"]) == (False, "unknown_event")


async def test_log_lines_name_runs_and_never_contents(
    caplog: pytest.LogCaptureFixture, store: StateStore
) -> None:
    caplog.set_level(logging.DEBUG)
    desk = Desk(store)
    secrets = {"prompt": "sesame", "git_token": "sesame", "max_turns": "sesame"}
    await desk.ask(LocalEvent.DISPATCH, DISPATCH | secrets)
    await desk.ask(LocalEvent.DISPATCH, DISPATCH | secrets | {"max_turns": 1})
    await desk.ask("sesame:sesame", {})
    await desk.supervisor.close()
    lines = [record.getMessage() for record in caplog.records if record.name == "task_handler"]
    assert [line.split(":")[0] for line in lines] == [
        "refused",
        "accepted",
        "ignored an unknown event",
    ]
    assert "sesame" not in caplog.text


async def test_what_is_accepted_is_on_the_disk_without_its_secrets(
    store: StateStore, tmp_path: Path
) -> None:
    def written() -> list[tuple[str, int]]:
        with closing(sqlite3.connect(tmp_path / "state.db")) as db:
            return db.execute("SELECT subtask_id, attempt FROM runs").fetchall()

    desk = Desk(store)
    answer = await desk.ask(
        LocalEvent.DISPATCH, {**DISPATCH, "git_token": "secret-4711", "prompt": "secret-4712"}
    )
    assert answer == {"accepted": True}
    assert await asyncio.to_thread(written) == [("2", 1)]
    for file in tmp_path.glob("state.db*"):
        assert b"secret-471" not in await asyncio.to_thread(file.read_bytes)
    await desk.supervisor.close()


async def test_a_run_that_is_taken_up_is_answered_as_resumed(store: StateStore) -> None:
    desk = Desk(store)
    record = RunRecord(RunRef(1, 2), "running", 3, 30, "sid", {})
    desk.supervisor.restore([record])
    answer = await desk.ask(LocalEvent.DISPATCH, DISPATCH)
    assert answer == {"accepted": True, "resumed": True}
    await desk.supervisor.close()
