"""The runs that an executor knows: the unfinished ones, and the last finished ones for repeats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, takewhile
from typing import Literal, Self

from executor.delivery.run_rows import RunRecord
from executor.tasks.reporting import Reporter
from executor.tasks.run_execution import RunExecution
from shared.protocol.events import RunKey, RunRef, utc_timestamp
from shared.protocol.local import Cancel, RunReport


@dataclass(slots=True, eq=False)
class AcceptedRun:
    """One accepted run, from its dispatch until it is forgotten."""

    ref: RunRef
    agent: str = ""
    """The kind of agent that its request asks for; empty before it is dispatched again."""
    since: str = field(default_factory=utc_timestamp)
    """When it began to wait, or to be carried out."""
    execution: RunExecution | None = None
    """While it is carried out."""
    finished: bool = False
    """Whether its verdict has been told; its task may still have a last step to take."""
    verdict: str | None = None
    """``completed``, ``failed`` or ``cancelled``; ``None``: not yet, or before this process."""
    last_seq: int = 0
    """The number of its verdict, once that has been told."""
    ended_at: float = 0.0
    """When it was retired, by the event loop's clock."""
    left: Literal["queued", "interrupted"] | None = None
    """How an earlier process left it, while it waits to be dispatched again."""
    passed_on: bool = False
    """Whether it was told by another executor, in a container, before this process began."""
    written: asyncio.Future[None] | None = field(default=None, repr=False)
    """Done when its acceptance is safe on the disk; ``None``: it was before this process began."""
    sdk_session_id: str | None = None
    used_s: float = 0.0
    """How long earlier processes have carried it out."""
    limit_s: float | None = None
    """How long it may take in all; ``None``: it has not been carried out yet, or by nobody who
    has said it."""
    seen_at: float | None = None
    """When an earlier process has written *used_s*, by the monotonic clock."""

    @classmethod
    def of(cls, record: RunRecord) -> Self:
        """A run that an earlier process has accepted."""
        return cls(
            record.run,
            sdk_session_id=record.sdk_session_id,
            passed_on=record.origin is not None,
            used_s=record.used_s,
            limit_s=record.limit_s,
            seen_at=record.seen_at,
        )

    def count_absence(self, *, timeout_s: float, catch_up_s: float) -> None:
        """Count the time in which it has gone on while no process of ours has followed it.

        It was in a container, so the system has not been restarted in between.

        Args:
            timeout_s: Its limit, where nobody has said one.
            catch_up_s: What is left to it at least, so that what it has told is heard first.
        """
        self.limit_s = self.limit_s or timeout_s
        if self.seen_at is not None:
            self.used_s += max(0.0, time.monotonic() - self.seen_at)
        self.used_s = max(0.0, min(self.used_s, self.limit_s - catch_up_s))

    @property
    def key(self) -> RunKey:
        """What repeats are recognised by."""
        return self.ref.key

    @property
    def state(self) -> Literal["queued", "running", "interrupted", "finished"]:
        """Where it stands, as a backend is told."""
        if self.finished:
            return "finished"
        if self.left is not None:
            return self.left
        return "queued" if self.execution is None else "running"

    def report(self, last_seq: int) -> RunReport:
        """What a backend is told of it; *last_seq* counts as long as it has no verdict."""
        return RunReport(
            task_id=self.ref.task_id,
            subtask_id=self.ref.subtask_id,
            attempt=self.ref.attempt,
            state=self.state,
            last_seq=self.last_seq or last_seq,
            sdk_session_id=self.sdk_session_id,
        )

    @property
    def names(self) -> dict[str, int | str]:
        """What log lines about it are bound to."""
        return {"task_id": self.ref.task_id, "subtask_id": self.ref.subtask_id}


class KnownRuns:
    """Runs by their key. A superseded run is not known any more, though it may still be ending."""

    def __init__(self) -> None:
        self._unfinished: dict[RunKey, AcceptedRun] = {}
        self._finished: dict[RunKey, AcceptedRun] = {}
        """In the order in which they ended."""
        self._of_subtask: dict[str, dict[RunKey, AcceptedRun]] = {}

    def __iter__(self) -> Iterator[AcceptedRun]:
        return chain(self._finished.values(), self._unfinished.values())

    def __contains__(self, entry: AcceptedRun) -> bool:
        return self.get(entry.key) is entry

    @property
    def unfinished(self) -> list[AcceptedRun]:
        """Those without a verdict, in the order in which they came."""
        return [entry for entry in self._unfinished.values() if not entry.finished]

    def get(self, key: RunKey) -> AcceptedRun | None:
        """The run of this key, if it is known."""
        return self._unfinished.get(key) or self._finished.get(key)

    def of_subtask(self, subtask_id: int | str) -> list[AcceptedRun]:
        """Every attempt at this run."""
        return list(self._of_subtask.get(str(subtask_id), {}).values())

    def of_session(self, task_id: int | str) -> list[AcceptedRun]:
        """Every run of this session."""
        return [entry for entry in self if entry.ref.session == str(task_id)]

    def meant_by(self, cancel: Cancel) -> list[AcceptedRun]:
        """Every attempt at one run, or every run of a session."""
        if cancel.subtask_id is None:
            return self.of_session(cancel.task_id)
        return self.of_subtask(cancel.subtask_id)

    def reports(self, reporter: Reporter) -> list[RunReport]:
        """Every run that a backend may not have heard the end of, as it is told of them."""
        return [
            entry.report(reporter.last_seq(entry.key))
            for entry in self
            if not entry.finished or not reporter.delivered(entry.key)
        ]

    def add(self, entry: AcceptedRun) -> None:
        """Know an accepted run."""
        self._unfinished[entry.key] = entry
        self._of_subtask.setdefault(entry.key[0], {})[entry.key] = entry

    def remove(self, key: RunKey) -> AcceptedRun | None:
        """Forget a run; returns it if it was known."""
        attempts = self._of_subtask.get(key[0], {})
        attempts.pop(key, None)
        if not attempts:
            self._of_subtask.pop(key[0], None)
        return self._unfinished.pop(key, None) or self._finished.pop(key, None)

    def retire(self, entry: AcceptedRun, *, now: float) -> None:
        """Keep what a repeat of an ended run needs, and let go of the rest."""
        entry.execution = entry.left = None
        entry.ended_at = now
        if entry in self:
            self._finished[entry.key] = self._unfinished.pop(entry.key)

    def ended_before(self, time: float) -> list[RunKey]:
        """The runs that were retired before *time*, the oldest first."""
        return list(
            takewhile(lambda key: self._finished[key].ended_at < time, iter(self._finished))
        )
