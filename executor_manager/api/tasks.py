"""``/api/v1/tasks``: make, read, list, follow and cancel tasks. A task is a run of the core."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Response
from sse_starlette import EventSourceResponse

from executor_manager.api.schemas import (
    KEY_PATTERN,
    TaskCancel,
    TaskCreate,
    TaskCreated,
    TaskInput,
    TaskInputTaken,
    TaskList,
    TaskView,
)
from executor_manager.api.services import Injected
from executor_manager.request_secrets import split
from executor_manager.store.records import RunRecord
from executor_manager.store.store import Store
from shared.errors import ProtocolError
from shared.protocol import wire_json
from shared.protocol.execution import ExecutionRequest, read_execution_request
from shared.protocol.local import MAX_MESSAGE_BYTES
from shared.status import RunState
from shared.web.errors import BadRequest, NotFound

MAX_REQUEST_BYTES: Final = MAX_MESSAGE_BYTES - 64 * 1024
"""The largest request that still fits into one message to an executor, names and ids included."""

ANSWER_WAIT_S: Final = 2.0
"""How long a caller waits for the executor to take its answer, which needs milliseconds when it is
connected."""

_SEQUENCE: Final = re.compile(r"[0-9]{1,9}")

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"])


@router.post("", status_code=201)
async def create_task(
    body: TaskCreate,
    services: Injected,
    response: Response,
    key_header: Annotated[str | None, Header(alias="Idempotency-Key", pattern=KEY_PATTERN)] = None,
) -> TaskCreated:
    """Take a task; it starts as soon as an executor has room.

    With an idempotency key a repeat answers 200 and gives the task that is there already; the same
    key with another task answers 409.
    """
    store = services.store
    raw = body.raw_request()
    request = _check(raw, names_bots=body.config.bot is not None)
    services.redactor.add_many(request.secrets)
    key = body.idempotency_key or key_header
    if key is not None and await store.runs.by_key(body.user_id, key):
        response.status_code = 200
    if body.session_id is not None:
        await _own_session(store, body.session_id, body.user_id)
    public, secrets = split(raw)
    run = await store.runs.create(
        user_id=body.user_id,
        request=public,
        secrets=secrets,
        session_id=body.session_id,
        on_node_loss=request.on_node_loss,
        idempotency_key=key,
    )
    return TaskCreated(task_id=run.id, session_id=run.session_id)


@router.get("")
async def list_tasks(
    services: Injected,
    status: RunState | None = None,
    session_id: str | None = None,
    before: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> TaskList:
    """Tasks, newest first; ``before`` is the last task of the page before."""
    if before is not None:
        await _existing(services.store, before)
    runs = await services.store.runs.page(
        limit=limit + 1, state=status, session_id=session_id, before=before
    )
    more = len(runs) > limit
    shown = runs[:limit]
    return TaskList(
        tasks=await _views(services.store, shown),
        next_before=shown[-1].id if more else None,
    )


@router.get("/{task_id}")
async def get_task(task_id: str, services: Injected) -> TaskView:
    """A task as it is now."""
    [view] = await _views(services.store, [await _existing(services.store, task_id)])
    return view


@router.get(
    "/{task_id}/events",
    response_class=EventSourceResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def follow_task(
    task_id: str,
    services: Injected,
    last_event_id: Annotated[str | None, Header()] = None,
    after: str | None = None,
) -> EventSourceResponse:
    """The task's events from the first on, then the new ones up to its end, as server-sent events.

    ``Last-Event-ID``, or else ``after``, resumes behind the event of this number.
    """
    run = await _existing(services.store, task_id)
    position = _position(last_event_id or after or "0", run)
    stream = services.streams.follow(
        services.store.events,
        run.id,
        after=position,
        finished_at=run.last_sequence if run.state.terminal else None,
    )
    return EventSourceResponse(stream, ping=0, sep="\n")  # comments are the stream's own


@router.post("/{task_id}/cancel")
async def cancel_task(task_id: str, services: Injected, body: TaskCancel | None = None) -> TaskView:
    """Ask for the end of a task; one that has ended stays as it is."""
    await _existing(services.store, task_id)
    reason = None if body is None else body.reason
    run = await services.store.runs.cancel(task_id, reason)
    if run is None:
        raise _no_such_task()
    [view] = await _views(services.store, [run])
    return view


@router.post(
    "/{task_id}/input",
    responses={202: {"description": "The answer is kept, and told to the executor later."}},
)
async def answer_task(
    task_id: str, body: TaskInput, services: Injected, response: Response
) -> TaskInputTaken:
    """Answer what a task waits for, as ``waiting_for`` shows it.

    The first answer counts, and may be repeated. 409 when there is nothing to answer any more.
    """
    run = await _existing(services.store, task_id)
    answer = body.answer()
    questions = services.store.questions
    with services.hub.follow(run.id) as changed:
        status = await questions.answer(run.id, body.request_id, answer)
        try:
            async with asyncio.timeout(ANSWER_WAIT_S):
                while status == "pending":
                    await changed.wait()
                    status = await questions.delivery(run.id, body.request_id, answer)
        except TimeoutError:
            response.status_code = 202
    return TaskInputTaken(task_id=run.id, request_id=body.request_id, status=status)


async def _views(store: Store, runs: Sequence[RunRecord]) -> list[TaskView]:
    run_ids = [run.id for run in runs]
    questions = await store.questions.open_of(run_ids)
    awaited = await store.nodes.awaited_by(run_ids)
    return [TaskView.of(run, questions.get(run.id, ()), awaited.get(run.id)) for run in runs]


def _check(raw: dict[str, object], *, names_bots: bool) -> ExecutionRequest:
    try:
        # The ids are the store's to give; any that can be read do here.
        request = read_execution_request({**raw, "task_id": 0, "subtask_id": 0})
    except ProtocolError as exc:
        made_here = "" if names_bots else "bot.0."
        message = "; ".join(
            _in_words_of_the_api(part, made_here) for part in exc.message.split("; ")
        )
        raise ProtocolError(message, fields=exc.fields, hint=exc.hint) from None
    # A message that the executor does not accept would end its connection, again and again.
    if len(wire_json.dumps(raw).encode()) > MAX_REQUEST_BYTES:
        raise ProtocolError(
            f"config: the task is larger than {MAX_REQUEST_BYTES} bytes",
            fields=("config",),
            hint="give large attachments by their url",
        )
    return request


def _in_words_of_the_api(complaint: str, made_here: str) -> str:
    place, colon, reason = complaint.partition(": ")
    if place == "prompt" or place.startswith("prompt."):
        return complaint
    if made_here:
        place = place.removeprefix(made_here).removeprefix("agent_config.")
    return f"config.{place}{colon}{reason}"


def _position(text: str, run: RunRecord) -> int:
    if not _SEQUENCE.fullmatch(text) or int(text) > run.last_sequence:
        raise BadRequest(
            "Last-Event-ID is not the number of an event of this task",
            hint="leave it out to read from the beginning",
        )
    return int(text)


async def _existing(store: Store, task_id: str) -> RunRecord:
    run = await store.runs.get(task_id)
    if run is None:
        raise _no_such_task()
    return run


def _no_such_task() -> NotFound:
    return NotFound("there is no such task", hint="GET /api/v1/tasks lists the tasks")


async def _own_session(store: Store, session_id: str, user_id: str) -> None:
    session = await store.sessions.get(session_id)
    if session is None or session.user_id != user_id:
        raise NotFound(
            "this user has no such session", hint="leave out session_id to begin a new one"
        )
