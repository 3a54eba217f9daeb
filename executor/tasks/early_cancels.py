"""Cancels that came before their run: the dispatch may have been overtaken on its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KEPT_S: Final = 600.0
"""How long a cancel waits for its run. Source: Delivery 5."""


@dataclass(frozen=True, slots=True)
class EarlyCancel:
    """A cancel whose run was not known when it came."""

    reason: str | None
    until: float


class EarlyCancels:
    """Remembers cancels by subtask. Times are the event loop's, in seconds."""

    def __init__(self) -> None:
        self._waiting: dict[str, EarlyCancel] = {}
        """The one that expires first comes first: all are kept for the same time."""

    def remember(self, subtask_id: int | str, reason: str | None, *, now: float) -> None:
        """Keep a cancel for the run that may come."""
        self._waiting.pop(str(subtask_id), None)
        self._waiting[str(subtask_id)] = EarlyCancel(reason, now + KEPT_S)
        self._forget_expired(now)

    def take(self, subtask_id: int | str, *, now: float) -> EarlyCancel | None:
        """The cancel that waits for this run; it counts once."""
        self._forget_expired(now)
        return self._waiting.pop(str(subtask_id), None)

    def _forget_expired(self, now: float) -> None:
        while self._waiting and next(iter(self._waiting.values())).until <= now:
            del self._waiting[next(iter(self._waiting))]
