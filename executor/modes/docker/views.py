"""What the routes of docker mode answer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

Id = int | str


class Accepted(BaseModel):
    """A task that was taken, or was there already."""

    status: Literal["accepted"] = "accepted"
    session_id: str
    run_id: str
    task_id: Id
    """The session's id, as it came."""
    subtask_id: Id
    """The run's id, as it came."""
    attempt: int
    duplicate: bool | None = None
    """It was known already, and nothing was started."""
    resumed: bool | None = None
    """It was cut off by a restart, and goes on."""


RunStateName = Literal[
    "queued", "running", "interrupted", "cancelling", "completed", "failed", "cancelled"
]


class CallbackView(BaseModel):
    """How the callbacks of a run stand."""

    state: Literal["active", "parked", "ended"]
    """`parked`: its receiver has refused one; `ended`: all was sent that could be."""
    acked: int
    """Up to which event all has been told."""
    error: str | None


class RunView(BaseModel):
    """A run as it is now."""

    run_id: str
    session_id: str
    attempt: int
    state: RunStateName
    """`interrupted`: cut off by a restart, until it is sent again."""
    waits_for: str | None
    """`user`, `api`, `slot`, `session`, `disk`, or `backend`: whoever has to send it again."""
    sequence: int
    """Of its last event."""
    begins_after: int
    """The sequence of the last event of earlier attempts."""
    progress: int
    """In percent; never falls."""
    result: str | None = None
    error: str | None = None
    error_code: str | None = None
    reason: str | None = None
    """Why it was cancelled, when somebody has said so."""
    statistics: dict[str, Any] | None = None
    workspace: dict[str, Any] | None = None
    callback: CallbackView | None = None


class SessionView(BaseModel):
    """A session as it is now."""

    task_id: Id
    session_id: str
    state: Literal["running", "warm", "parked"]
    """`warm`: its agent's process waits for the next task; `parked`: it has none, and goes on from
    the disk."""
    runs: list[str]
    """Those without a verdict."""
    agent_type: str | None
    sdk_session_id: str | None
    cwd: str | None
    updated_at: str | None


class SessionList(BaseModel):
    """All sessions that are known here, and were not deleted since their last task."""

    sessions: list[SessionView]


class SessionsEnded(BaseModel):
    """What was ended: conversations and workspaces stay."""

    status: Literal["success"] = "success"
    sessions: list[str]
    """Whose agents' processes end."""
    cancelled: list[str]
    """Their runs that had no verdict, and are cancelled."""


class SessionCancelled(BaseModel):
    """Answer to the cancel of a session's runs."""

    status: Literal["cancelling", "finished"]
    task_id: Id


class CancelRun(BaseModel):
    """Why a run is cancelled."""

    reason: str | None = Field(default=None, max_length=10_000)


class RunCancelled(BaseModel):
    """Answer to the cancel of a run."""

    state: Literal["cancelling", "finished"]


class Answer(BaseModel):
    """What the user answers to a question of the agent."""

    request_id: str
    decision: Literal["allow", "deny", "answer"]
    answers: dict[str, Any] | None = None
    message: str | None = None


class AnswerTaken(BaseModel):
    """The agent goes on."""

    success: Literal[True] = True


class Health(BaseModel):
    """That the executor works, and whether it has room."""

    status: Literal["ok"] = "ok"
    version: str
    executor_name: str | None
    executor_namespace: str | None
    session_id: str | None
    """The only session that is served, once it is known; `null` as well where all are."""
    running: int
    free_slots: int
