"""What the exit status of the program tells whoever started it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from executor.control.errors import NotRunning
from executor.updating.errors import TasksRunning
from shared.errors import ConfigError, LinkRejected, WegentError


class ExitStatus(IntEnum):
    """The statuses of all commands, each with one sentence for operators."""

    meaning: str

    OK = 0, "Done. Of a running executor: it was told to stop and has stopped."
    FAILURE = 1, "It did not work; the message says why."
    USAGE = 2, "A setting or an argument is wrong: it has to be changed before the next try."
    NOT_RUNNING = (
        3,
        "No executor is running with this home; of `service status`: the service is not.",
    )
    BUSY = 75, "Not now: tasks are running."
    REJECTED = 77, "The backend refuses this executor: starting it again does not help."
    INTERRUPTED = 130, "Interrupted; of a running executor: a second signal has ended it at once."

    def __new__(cls, value: int, meaning: str) -> ExitStatus:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


def root_cause(error: Exception) -> Exception:
    """The error to report: of a group, one that was raised on purpose before any other."""
    leaves = list(_leaves(error))
    return next((leaf for leaf in leaves if isinstance(leaf, WegentError)), leaves[0])


def describe(error: Exception) -> str:
    """One sentence for whoever started the program."""
    if isinstance(error, WegentError):
        return str(error)
    return f"an error that should not happen: {type(error).__name__}: {error}"


def exit_status(error: Exception) -> ExitStatus:
    """How a program ends that *error* has ended."""
    match error:
        case ConfigError():
            return ExitStatus.USAGE
        case LinkRejected():
            return ExitStatus.REJECTED
        case NotRunning():
            return ExitStatus.NOT_RUNNING
        case TasksRunning():
            return ExitStatus.BUSY
        case _:
            return ExitStatus.FAILURE


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
