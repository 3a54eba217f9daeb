"""What the store gives back: immutable copies of rows, never live objects.

Times are seconds since the epoch by the database's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from shared.protocol.events import TERMINAL_EVENTS
from shared.status import RunState

OnNodeLoss = Literal["wait", "requeue", "fail"]


class NodeStatus(StrEnum):
    """Whether a node takes runs."""

    ONLINE = "online"
    DRAINING = "draining"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A place that takes runs."""

    id: str
    kind: str
    """``local``: a connected local executor."""
    name: str
    hostname: str
    platform: str
    arch: str
    version: str
    workspace_root: str
    capabilities: list[str]
    isolation: list[str]
    capacity: int
    """How many runs it takes at once."""
    live_runs: int
    """How many runs count against the capacity now."""
    status: NodeStatus
    incarnation: int
    """Counts registrations; a newer one invalidates the older connection."""
    last_heartbeat: float
    registered_at: float


@dataclass(frozen=True, slots=True)
class AbsentNode:
    """The node of a run's session, while it is not there for the run."""

    id: str
    status: NodeStatus
    """Offline, or draining: it takes no new runs."""
    last_heartbeat: float


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A conversation and its workspace; lives on one node from its first run on."""

    id: str
    user_id: str
    node_id: str | None
    sdk_session_id: str | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One unit of work with one verdict."""

    id: str
    session_id: str
    user_id: str
    priority: int
    """The higher goes first."""
    on_node_loss: OnNodeLoss
    state: RunState
    attempt: int
    node_id: str | None
    """Where it is or last was; ``None`` while it waits."""
    lease_owner: str | None
    """The node whose word counts; ``None`` also after a verdict that was not the node's."""
    lease_expiry: float | None
    unreachable: bool
    """The lease has ended and nothing is decided yet; the node may still come back."""
    cancel_reason: str | None
    progress: int
    """0 to 100; never falls."""
    last_seq: int
    """Committed up to here in this attempt."""
    last_sequence: int
    """How many events the log holds."""
    verdict: Mapping[str, Any] | None = field(repr=False)
    """The data of the terminal event."""
    error_code: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event of the log."""

    run_id: str
    sequence: int
    """From 1 per run, without gaps, over all attempts."""
    attempt: int
    seq: int | None
    """The producer's number within the attempt; ``None`` for the control plane's own events."""
    type: str
    source: Mapping[str, Any] | None
    data: Mapping[str, Any]
    timestamp: str

    @property
    def ends_run(self) -> bool:
        """Whether it is the run's verdict, which nothing follows."""
        return self.type in TERMINAL_EVENTS

    def to_dict(self) -> dict[str, Any]:
        """The shape that every door shows."""
        category, _, action = self.type.partition(".")
        return {
            "run_id": self.run_id,
            "sequence": self.sequence,
            "timestamp": self.timestamp,
            "source": self.source,
            "event": {"category": category, "action": action},
            "data": self.data,
        }


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event as its producer numbered it, not yet in the log."""

    seq: int
    type: str
    data: Mapping[str, Any]
    timestamp: str
    source: Mapping[str, Any] | None = None
    progress: int | None = None
    """``None``: says nothing about progress."""


@dataclass(frozen=True, slots=True)
class Committed:
    """Everything of the attempt up to ``acked`` is in the log."""

    acked: int


@dataclass(frozen=True, slots=True)
class Superseded:
    """The sender has no say in this run any more; nothing was written."""


@dataclass(frozen=True, slots=True)
class Errand:
    """Something that a node has to be told about a run.

    ``dispatch``: take it (again); ``cancel``: stop it; ``input``: the user has answered.
    """

    kind: Literal["dispatch", "cancel", "input"]
    run_id: str
    session_id: str
    attempt: int
    node_id: str
    reason: str | None = None
    """For a cancel: why."""
    request_id: str | None = None
    """For an input: which question is answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the user says to a question."""

    decision: Literal["allow", "deny", "answer"]
    answers: Mapping[str, Any] | None = field(default=None, repr=False)
    message: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question that an agent waits for an answer to."""

    request_id: str
    answered: bool
    """There is an answer, and the agent has not gone on with it yet."""
    asked_at: str
    """By the node's clock."""
    data: Mapping[str, Any] = field(repr=False)
    """The data of the event that asks."""
