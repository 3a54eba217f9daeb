"""AgentEvent: the one vocabulary in which everything an agent does is told.

A producer yields :class:`AgentEvent`; the reporter numbers it (``seq``, per attempt); the log
that stores it assigns ``sequence``. Doors translate it into their own shapes and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final


class EventType(StrEnum):
    """Every ``category.action`` that this project produces.

    A stored or received event may carry another one, from a newer peer; it is passed on as it is.
    """

    STARTED = "lifecycle.started"
    COMPLETED = "lifecycle.completed"
    FAILED = "lifecycle.failed"
    CANCELLED = "lifecycle.cancelled"
    WORKSPACE_PREPARED = "workspace.prepared"
    WORKSPACE_CHANGED = "workspace.changed"
    SESSION = "agent.session"
    TODOS = "agent.todos"
    INPUT_REQUIRED = "agent.input_required"
    INPUT_RESOLVED = "agent.input_resolved"
    MEMBER_COMPLETED = "agent.completed"
    LLM_START = "llm.start"
    LLM_STREAM = "llm.stream"
    LLM_DONE = "llm.done"
    LLM_ERROR = "llm.error"
    REASONING = "llm.reasoning"
    TOOL_CALL = "llm.tool_call"
    TOOL_RESULT = "llm.tool_result"
    DISPATCH_TEAM = "dispatch.team"
    DISPATCH_WORKER = "dispatch.worker"
    TOPOLOGY = "system.topology"
    WARNING = "system.warning"
    ERROR = "system.error"
    TRUNCATED = "system.truncated"


TERMINAL_EVENTS: Final = frozenset({EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED})
"""Exactly one of these ends a run, and it is always the run's last event."""


def utc_timestamp() -> str:
    """The present as UTC with milliseconds and ``Z``, e.g. ``2026-01-01T12:00:00.123Z``."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Source:
    """Which agent an event comes from; lifecycle and system events have none."""

    agent_id: str
    agent_type: str = "agent"
    """``agent``, ``global_supervisor``, ``team_supervisor`` or ``worker``."""
    agent_name: str = ""
    team_name: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The shape on every wire."""
        return {
            "agent_id": self.agent_id,
            "agent_type": self.agent_type,
            "agent_name": self.agent_name,
            "team_name": self.team_name,
        }


@dataclass(frozen=True, slots=True)
class AgentEvent:
    """One fact about a run, not yet numbered.

    ``data`` holds plain JSON values only, in the shape that the design's table gives its type.
    """

    type: str
    data: Mapping[str, Any] = field(default_factory=dict)
    source: Source | None = None
    timestamp: str = field(default_factory=utc_timestamp)
    origin: int | None = None
    """Its ``sequence`` in the log of another executor that has told it; ``None``: told here.

    What another executor has told is masked, merged and bounded already, and is only passed on.
    """

    @property
    def category(self) -> str:
        """The part before the dot."""
        return self.type.partition(".")[0]

    @property
    def action(self) -> str:
        """The part after the dot."""
        return self.type.partition(".")[2]

    @property
    def terminal(self) -> bool:
        """Whether this event is the run's verdict."""
        return self.type in TERMINAL_EVENTS


@dataclass(frozen=True, slots=True)
class RunRef:
    """Which attempt of which run, with the ids as the backend wrote them.

    Ids are echoed as received and compared as text: ``1`` and ``"1"`` are the same run.
    """

    task_id: int | str
    subtask_id: int | str
    attempt: int = 1

    @property
    def key(self) -> RunKey:
        """What repeats are recognised by."""
        return (str(self.subtask_id), self.attempt)

    @property
    def session(self) -> str:
        """The session's id as text."""
        return str(self.task_id)


RunKey = tuple[str, int]
"""``(subtask_id as text, attempt)``."""


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    """An event with its place in its attempt: ``seq`` counts from 1 without gaps."""

    run: RunRef
    seq: int
    event: AgentEvent
    progress: int = 0
    """0 to 100 at this event; never falls within a run."""
    task_title: str | None = None
    subtask_title: str | None = None
