"""Run states, the transitions between them, and the stable codes of a verdict.

::

    queued ──▶ claimed ──▶ running ──▶ completed | failed | cancelled
      ▲           │  │        │
      │           │  └────────┴──▶ cancelling ──▶ cancelled (or the verdict already recorded)
      └───────────┘ busy, draining, requeue

Any live state may become terminal. Terminal states never change: the first verdict wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether this is a verdict."""
        return self in TERMINAL


TERMINAL: Final = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED})

TRANSITIONS: Final[Mapping[RunState, frozenset[RunState]]] = MappingProxyType(
    {
        RunState.QUEUED: frozenset({RunState.CLAIMED, RunState.CANCELLING}) | TERMINAL,
        RunState.CLAIMED: frozenset({RunState.RUNNING, RunState.CANCELLING, RunState.QUEUED})
        | TERMINAL,
        RunState.RUNNING: frozenset({RunState.CANCELLING, RunState.QUEUED}) | TERMINAL,
        RunState.CANCELLING: TERMINAL,
        RunState.COMPLETED: frozenset(),
        RunState.FAILED: frozenset(),
        RunState.CANCELLED: frozenset(),
    }
)
"""From each state, the states that may follow it."""


def can_become(current: RunState, new: RunState) -> bool:
    """Whether a run in *current* may become *new*; staying as it is counts as no transition."""
    return new in TRANSITIONS[current]


class ErrorCode(StrEnum):
    """Why a dispatch was refused or a run failed; part of the wire contract."""

    # Refusals, which also serve as the error code of a run that was refused for good.
    BUSY = "busy"
    DRAINING = "draining"
    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_AGENT = "unsupported_agent"
    ISOLATION_UNAVAILABLE = "isolation_unavailable"
    SUPERSEDED = "superseded"
    # Failures of an accepted run.
    AGENT_ERROR = "agent_error"
    AGENT_CRASHED = "agent_crashed"
    API_ERROR = "api_error"
    AUTH_ERROR = "auth_error"
    CREDENTIALS_MISSING = "credentials_missing"
    RATE_LIMITED = "rate_limited"
    TIMED_OUT = "timed_out"
    STALLED = "stalled"
    MAX_TURNS = "max_turns"
    BUDGET_EXCEEDED = "budget_exceeded"
    CLONE_FAILED = "clone_failed"
    WORKSPACE_ERROR = "workspace_error"
    ATTACHMENT_FAILED = "attachment_failed"
    CONTAINER_FAILED = "container_failed"
    OUT_OF_MEMORY = "out_of_memory"
    EXECUTOR_RESTARTED = "executor_restarted"
    LOST = "lost"
    INTERNAL = "internal"


REFUSALS: Final = frozenset(
    {
        ErrorCode.BUSY,
        ErrorCode.DRAINING,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.UNSUPPORTED_AGENT,
        ErrorCode.ISOLATION_UNAVAILABLE,
        ErrorCode.SUPERSEDED,
    }
)

REQUEUEING_REFUSALS: Final = frozenset({ErrorCode.BUSY, ErrorCode.DRAINING})
"""Refusals that lead a run back to ``queued``; any other one is its verdict."""
