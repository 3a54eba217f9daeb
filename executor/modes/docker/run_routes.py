"""``/v1/tasks``: runs by their own ids, from the request to the verdict."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Request
from sse_starlette import EventSourceResponse

from executor.modes.docker.bodies import described, described_model, read_body, read_model
from executor.modes.docker.services import Injected
from executor.modes.docker.views import (
    Accepted,
    Answer,
    AnswerTaken,
    CancelRun,
    RunCancelled,
    RunView,
)
from shared.protocol.http import read_seed_task
from shared.web.gate import trace_id

EXAMPLE: Final[dict[str, Any]] = {
    "session_id": "session_uuid",
    "prompt": "Explain this code",
    "callback_url": "http://executor-manager:8001/api/v1/callback",
    "callback_token": "token",
    "callback_base_url": "http://executor-manager:8001",
    "config": {
        "model": "claude-sonnet-4-20250514",
        "repo_url": "https://github.com/user/repo",
        "git_branch": "main",
        "max_turns": 100,
    },
}

router = APIRouter(prefix="/v1/tasks", tags=["runs"])


@router.post("/execute", response_model_exclude_none=True, openapi_extra=described(task=EXAMPLE))
async def execute_run(request: Request, services: Injected) -> Accepted:
    """Take a task of a session; the answer has its `run_id`.

    Whoever gives a `run_id` may repeat the request: it starts nothing twice.
    """
    read = partial(read_seed_task, default=services.callback, trace_id=trace_id())
    return await services.runs.execute(await read_body(request, read))


@router.get("/{run_id}")
async def get_run(run_id: str, services: Injected) -> RunView:
    """A run as it is now."""
    return await services.runs.view(run_id)


@router.get(
    "/{run_id}/events",
    response_class=EventSourceResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def follow_run(
    run_id: str,
    services: Injected,
    last_event_id: Annotated[str | None, Header()] = None,
    after: str | None = None,
) -> EventSourceResponse:
    """The run's events from the first on, then the new ones up to its end, as server-sent events.

    ``Last-Event-ID``, or else ``after``, resumes behind the event of this number.
    """
    stream = await services.runs.follow(run_id, last_event_id, after)
    return EventSourceResponse(stream, ping=0, sep="\n")  # comments are the stream's own


@router.post("/{run_id}/cancel", openapi_extra=described_model(CancelRun, required=False))
async def cancel_run(run_id: str, request: Request, services: Injected) -> RunCancelled:
    """Ask for the end of a run, without waiting for it; one that has ended stays as it is."""
    body = await read_model(request, CancelRun, empty=CancelRun())
    cancelling = await services.runs.cancel(run_id, body.reason)
    return RunCancelled(state="cancelling" if cancelling else "finished")


@router.post("/{run_id}/input", openapi_extra=described_model(Answer, required=True))
async def answer_run(run_id: str, request: Request, services: Injected) -> AnswerTaken:
    """Answer what the agent asks its user, as `agent.input_required` tells it.

    409 when nobody waits for it any more; an answer may be repeated.
    """
    await services.runs.answer(run_id, await read_model(request, Answer))
    return AnswerTaken()
