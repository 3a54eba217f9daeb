"""What is said at the local socket of a running executor: one line of JSON each way.

``{"command": "status"}`` is answered ``{"ok": true, "result": …}`` or
``{"ok": false, "error": {"code", "message", "hint"}}``; then the connection ends. Both sides ignore
fields that they do not know: executor and command may be of different versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal, TypedDict

from executor.control.errors import ControlError

MAX_REQUEST_BYTES: Final = 4096
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Some ten times what :data:`MAX_TASKS` tasks take."""

MAX_TASKS: Final = 1000
"""How many tasks are listed; more than that in one line would hold up the event loop."""

CANCEL_WAIT_S: Final = 10.0
"""How long an answer waits for the end of a cancelled run: one second more than that may take."""

Command = Literal["status", "tasks", "cancel"]

State = Literal["connecting", "registered", "serving"]
"""The first two of local mode, the last one of docker mode."""


class Runs(TypedDict):
    """How many runs are in each state."""

    running: int
    waiting_for_input: int
    paused: int
    cancelling: int
    queued: int
    interrupted: int


class Status(TypedDict):
    """The executor as a whole. Times are UTC, as ``2026-01-01T12:00:00.123Z``."""

    state: State
    since: str
    """Since when it is registered, tries to be, or serves."""
    draining: bool
    """It was told to stop: it takes nothing new, and ends when its runs have."""
    last_error: str | None
    """Why the last attempt to connect failed, or the last connection ended; ``None`` while
    registered, and before the first attempt has ended."""
    backend: str | None
    """``None`` in docker mode."""
    address: str | None
    """Where docker mode takes tasks; ``None`` in local mode, and when its server is another's."""
    last_heartbeat: str | None
    """When the backend last acknowledged one; ``None``: never, and a base backend never does."""
    pid: int
    version: str
    name: str
    home: str
    started: str
    runs: Runs
    max_concurrent_tasks: int
    outbox: int | None
    """How many events wait for the backend's acknowledgement; ``None`` in docker mode."""
    disk: str | None
    """Why the disk takes no writes and runs stand still; ``None``: it does."""


class Task(TypedDict):
    """One run without a verdict."""

    task_id: str
    subtask_id: str
    attempt: int
    state: str
    """A key of :class:`Runs`."""
    since: str
    """When it began to wait or to be carried out."""
    agent: str | None
    """``None``: not known before the backend sends it again."""
    waits_for: str | None
    """``user``, ``api``, ``slot``, ``session``, ``disk`` or ``backend``; ``None``: it works."""


class Tasks(TypedDict):
    """The runs without a verdict, in the order in which they came."""

    tasks: list[Task]
    total: int
    """How many there are; those beyond :data:`MAX_TASKS` are not listed."""


class Cancelled(TypedDict):
    """What became of a run that was to be cancelled."""

    task_id: str
    subtask_id: str
    verdict: str | None
    """``cancelled``; or ``completed`` or ``failed``, when it ended before the cancel could take
    hold; ``None``: it has not ended within :data:`CANCEL_WAIT_S`."""


class Received(dict[str, Any]):
    """A JSON object that was received; that a field is missing is an error that can be reported."""

    def __missing__(self, field: str) -> Any:
        raise ControlError(
            f"the executor says nothing of {field!r}",
            hint="it is of another version than this command: stop it, and start it anew",
        )


def encode(message: Mapping[str, Any]) -> bytes:
    """One line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Received:
    """Read one line.

    Raises:
        ControlError: It is no JSON object.
    """
    try:
        message = json.loads(line, object_hook=Received)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, Received):
        raise ControlError(
            f"not a JSON object in one line of at most {MAX_REQUEST_BYTES} bytes",
            reason="invalid_request",
        )
    return message


def failure(error: ControlError) -> dict[str, Any]:
    """The answer that says *error*."""
    return {
        "ok": False,
        "error": {"code": error.reason or error.code, "message": error.message, "hint": error.hint},
    }


def read_answer(line: bytes) -> Received:
    """What was answered.

    Raises:
        ControlError: The executor has answered that it will not, or something unreadable.
    """
    try:
        answer = decode(line)
    except ControlError:
        answer = Received()
    result, error = answer.get("result"), answer.get("error")
    if answer.get("ok") is True and isinstance(result, Received):
        return result
    if not isinstance(error, Received) or not isinstance(error.get("message"), str):
        raise ControlError("the executor's answer is unusable", hint="is it of another version?")
    hint = error.get("hint")
    raise ControlError(
        error["message"],
        reason=str(error.get("code")),
        hint=hint if isinstance(hint, str) else None,
    )
