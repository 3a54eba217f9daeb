"""What becomes of the runs that cannot go on: because this process stops, or an earlier one did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from executor.tasks.known_runs import AcceptedRun, KnownRuns
from executor.tasks.slots import Slots
from executor.tasks.verdicts import failed
from shared.errors import RunError
from shared.logging import get_logger
from shared.protocol.events import AgentEvent
from shared.status import ErrorCode

logger = get_logger("supervisor")

EndUnstarted = Callable[[AcceptedRun, AgentEvent], None]
"""Tells the verdict of a run that has not begun in this process."""

_ERROR: Final = "the executor stopped before the run {}, and this backend does not continue runs"


def end_ours(slots: Slots, end_unstarted: EndUnstarted, *, redispatches: bool) -> None:
    """Begin to end the runs that need this process, and fail those that wait for a place.

    *redispatches*: the backend sends runs again; they are parked then.
    """
    for entry in slots.waiting:
        unstarted = RunError(ErrorCode.EXECUTOR_RESTARTED, _ERROR.format("began"))
        end_unstarted(entry, failed(unstarted))
    for entry in slots.ours:
        if entry.execution is not None and redispatches:
            entry.execution.park()
        elif entry.execution is not None:
            unfinished = RunError(ErrorCode.EXECUTOR_RESTARTED, _ERROR.format("had finished"))
            entry.execution.fail(unfinished)


def fail_left(known: KnownRuns, why: str, end_unstarted: EndUnstarted) -> None:
    """Fail the runs that wait in vain to be dispatched again."""
    for entry in known.unfinished:
        if entry.left is not None:
            logger.warning("the run cannot go on: %s", why, **entry.names)
            error = f"the executor was restarted, and {why}"
            end_unstarted(entry, failed(RunError(ErrorCode.EXECUTOR_RESTARTED, error)))
