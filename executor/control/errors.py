"""What can go wrong between a command and the executor that it asks."""

from __future__ import annotations

from pathlib import Path

from shared.errors import WegentError


class ControlError(WegentError):
    """The executor cannot be asked, or will not.

    Attributes:
        reason: What the executor calls it: ``unknown_run``, ``ambiguous``, ``invalid_request`` …;
            ``None`` when it is not the executor that says so.
    """

    code = "control_failed"

    def __init__(self, message: str, *, reason: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class NotRunning(ControlError):
    """No executor is running with this home.

    Attributes:
        holder: The process that has the home all the same: it starts, or ends. ``None``: nobody
            has it, or the system does not tell.
    """

    code = "not_running"

    def __init__(self, message: str, *, holder: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.holder = holder


def not_running(home: Path) -> NotRunning:
    """Nobody listens for *home*."""
    from executor.home_lock import holder

    if (pid := holder(home)) is not None:
        return NotRunning(
            f"the executor with the home {home} (pid {pid}) is just starting, or ending",
            holder=pid,
            hint="ask again in a moment",
        )
    return NotRunning(
        f"no executor is running with the home {home}",
        hint="`wegent-executor` starts one; WEGENT_EXECUTOR_HOME names another home",
    )


def hung_up() -> ControlError:
    """The executor has ended, or has turned the client away."""
    return ControlError("the executor has hung up", hint="try again")


def not_answering(home: Path, timeout_s: float) -> ControlError:
    """The executor of *home* is there and says nothing for *timeout_s* seconds."""
    from executor.home_lock import holder

    pid = holder(home)
    name = "the executor" if pid is None else f"the executor (pid {pid})"
    return ControlError(
        f"{name} does not answer within {timeout_s:g} s",
        hint="its log may say why: wegent-executor logs",
    )
