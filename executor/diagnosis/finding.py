"""What a check has found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """The executor works, but not as well as it could, or not in every case."""
    FAILED = "failed"
    """Something that the executor or most tasks need does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``doctor``.

    Attributes:
        check: What was looked at, in words that stay the same: ``backend token``.
        what: What was found, in one sentence that shows no secret.
        remedy: A command that puts it right, to be pasted as it stands; a sentence where no command
            can. ``None``: there is nothing to put right.
    """

    check: str
    state: State
    what: str
    remedy: str | None = None


def ok(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(check, State.OK, what)


def warning(check: str, what: str, remedy: str | None) -> Finding:
    """Works, with a drawback."""
    return Finding(check, State.WARNING, what, remedy)


def failed(check: str, what: str, remedy: str | None) -> Finding:
    """Does not work."""
    return Finding(check, State.FAILED, what, remedy)
