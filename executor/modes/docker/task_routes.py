"""``/api/tasks``: tasks in sessions, with the ids of whoever sends them."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request

from executor.agents.factory import CLAUDE_CODE
from executor.modes.docker.bodies import described, read_body
from executor.modes.docker.services import Injected
from executor.modes.docker.views import (
    Accepted,
    SessionCancelled,
    SessionList,
    SessionsEnded,
)
from shared.protocol.http import read_task
from shared.web.gate import trace_id

EXAMPLE: Final[dict[str, Any]] = {
    "task_id": 1,
    "subtask_id": 1,
    "agent_type": "claude_code",
    "task_title": "Task Title",
    "subtask_title": "Subtask Title",
    "content": "Task Content",
    "repo_url": "https://github.com/example/repo.git",
    "branch": "main",
    "git_username": "user",
    "git_password": "password",
}

router = APIRouter(prefix="/api/tasks", tags=["tasks"])

TaskId = Annotated[str, Query(max_length=200, description="the session's id")]


@router.post("/execute", response_model_exclude_none=True, openapi_extra=described(task=EXAMPLE))
async def execute_task(request: Request, services: Injected) -> Accepted:
    """Take a task: the payload that a backend sends in local mode, or the fields shown here.

    A repeat of the same `subtask_id` and `attempt` starts nothing. With `callback_url`,
    `callback_token` and `callback_base_url` beside it, its events are posted there.
    """
    read = partial(read_task, default=services.callback, trace_id=trace_id())
    return await services.runs.execute(await read_body(request, read))


@router.get("/sessions")
async def list_sessions(services: Injected) -> SessionList:
    """Every session that has run here, those with runs first; not those that were deleted."""
    return SessionList(sessions=await services.sessions.all())


@router.delete("/session")
async def end_session(task_id: TaskId, services: Injected) -> SessionsEnded:
    """Cancel a session's runs, end its process, and list it no more.

    Its conversation and its folder stay: the next task of this session goes on with them.
    """
    return await services.sessions.end(task_id)


@router.delete("/claude/sessions")
async def end_claude_sessions(services: Injected) -> SessionsEnded:
    """Do that for every session of Claude Code."""
    return await services.sessions.end_all(CLAUDE_CODE)


@router.delete("/sessions/close")
async def end_all_sessions(services: Injected) -> SessionsEnded:
    """Do that for every session."""
    return await services.sessions.end_all()


@router.post("/cancel")
async def cancel_session(task_id: TaskId, services: Injected) -> SessionCancelled:
    """Cancel every run of a session that has no verdict; does not wait for their ends."""
    cancelling = await services.sessions.cancel(task_id)
    return SessionCancelled(status="cancelling" if cancelling else "finished", task_id=task_id)
