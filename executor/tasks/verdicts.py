"""Verdicts of runs that did not complete."""

from __future__ import annotations

from executor.tasks.disk_room import is_disk_full
from shared.errors import RunError
from shared.protocol.events import AgentEvent, EventType
from shared.status import ErrorCode


def cancelled(reason: str | None) -> AgentEvent:
    """The verdict of a run that somebody did not want any more."""
    return AgentEvent(EventType.CANCELLED, {"reason": reason} if reason else {})


def failed(error: RunError) -> AgentEvent:
    """The verdict of a run that ended with *error*."""
    details = {"details": error.details} if error.details else {}
    return AgentEvent(
        EventType.FAILED, {"error": str(error), "error_code": str(error.error_code), **details}
    )


def as_ended(event: AgentEvent, ended_as: RunError | None) -> AgentEvent:
    """*event*, or *ended_as* in the place of the cancel that it has led to.

    The failure keeps what the run tells of its workspace.
    """
    if ended_as is None or event.type != EventType.CANCELLED:
        return event
    account = {name: data for name, data in event.data.items() if name != "reason"}
    return AgentEvent(EventType.FAILED, {**failed(ended_as).data, **account})


def as_cancelled(event: AgentEvent, reason: str | None) -> AgentEvent:
    """*event*, or a cancel in the place of any other verdict.

    The cancel keeps what the run tells of its work, but not its result.
    """
    if not event.terminal or event.type == EventType.CANCELLED:
        return event
    verdict = cancelled(reason)
    account = {name: event.data[name] for name in ("workspace", "statistics") if name in event.data}
    return AgentEvent(verdict.type, {**verdict.data, **account})


def internal(exc: Exception) -> RunError:
    """What is told of an error that should not happen; its text may hold anything.

    But for a full disk, which may show itself at any step and is nobody's mistake.
    """
    if is_disk_full(exc):
        return RunError(
            ErrorCode.WORKSPACE_ERROR,
            "the disk of the executor is full",
            hint="free some space there, and run the task again",
        )
    return RunError(ErrorCode.INTERNAL, f"internal error: {type(exc).__name__}")


def summary(verdict: AgentEvent) -> str:
    """A verdict in a few words."""
    if verdict.type != EventType.FAILED:
        return verdict.action
    return f"failed: {verdict.data.get('error_code')}: {verdict.data.get('error')}"
