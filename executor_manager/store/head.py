"""The end of a run's log: what its next events may be, and what state follows from them. Pure.

State is derived from the events in the transaction that appends them; nothing else sets it but
the queue (claim, requeue) and a cancel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from executor_manager.store.records import Committed, NewEvent, StoredEvent, Superseded
from shared.protocol.events import TERMINAL_EVENTS, EventType, utc_timestamp
from shared.status import RunState, can_become

_VERDICTS: Final[Mapping[str, RunState]] = {
    EventType.COMPLETED: RunState.COMPLETED,
    EventType.FAILED: RunState.FAILED,
    EventType.CANCELLED: RunState.CANCELLED,
}

MAX_CODE: Final = 40
MAX_SDK_SESSION_ID: Final = 64
"""Characters that are kept of the two."""


@dataclass(slots=True)
class Head:
    """Where a run's log stands, and what was added to it since it was read."""

    run_id: str
    session_id: str
    state: RunState
    attempt: int
    lease_owner: str | None
    last_seq: int
    last_sequence: int
    progress: int
    accepted: bool
    heard: bool = False
    """Whether its node has told something new: who tells is alive."""
    begun: bool = False
    """Whether an added event has made it running, even if a later one has ended it."""
    verdict: Mapping[str, Any] | None = None
    error_code: str | None = None
    sdk_session_id: str | None = None
    """Set when an added event told one."""
    added: list[StoredEvent] = field(default_factory=list)

    def extend(
        self, node_id: str, attempt: int, events: Sequence[NewEvent]
    ) -> Committed | Superseded:
        """Add what a node tells: repeats are dropped, a gap ends it, a verdict closes it."""
        if self.lease_owner != node_id or self.attempt != attempt:
            return Superseded()
        for event in events:
            if event.seq <= self.last_seq:
                continue
            if self.state.terminal:
                return Superseded()
            if _first_covered(event) > self.last_seq + 1:
                break
            self.last_seq = event.seq
            self.accepted = self.heard = True
            self._add(event.type, event.data, event.seq, event.source, event.timestamp)
            if event.progress is not None:
                self.progress = min(100, max(self.progress, event.progress))
            if can_become(self.state, RunState.RUNNING):
                self.state, self.begun = RunState.RUNNING, True
        return Committed(self.last_seq)

    def extend_own(
        self, type_: str, data: Mapping[str, Any], source: Mapping[str, Any] | None = None
    ) -> bool:
        """Add an event of the control plane; a verdict takes the run from its node.

        Returns:
            ``False`` when the run has a verdict already: nothing was added.
        """
        if self.state.terminal:
            return False
        self._add(type_, data, None, source, utc_timestamp())
        if self.state.terminal:
            self.lease_owner = None
        return True

    def _add(
        self,
        type_: str,
        data: Mapping[str, Any],
        seq: int | None,
        source: Mapping[str, Any] | None,
        timestamp: str,
    ) -> None:
        self.last_sequence += 1
        self.added.append(
            StoredEvent(
                run_id=self.run_id,
                sequence=self.last_sequence,
                attempt=self.attempt,
                seq=seq,
                type=type_,
                source=source,
                data=data,
                timestamp=timestamp,
            )
        )
        if type_ == EventType.SESSION:
            told = data.get("sdk_session_id")
            if isinstance(told, str) and len(told) <= MAX_SDK_SESSION_ID:
                self.sdk_session_id = told
        if type_ in TERMINAL_EVENTS:
            self.state = _VERDICTS[type_]
            self.verdict = data
            self.progress = 100 if self.state is RunState.COMPLETED else self.progress
            if self.state is RunState.FAILED:
                self.error_code = str(data.get("error_code") or "internal")[:MAX_CODE]


def _first_covered(event: NewEvent) -> int:
    if event.type == EventType.TRUNCATED:
        covers_from = event.data.get("covers_from")
        if isinstance(covers_from, int):
            return min(covers_from, event.seq)
    return event.seq
