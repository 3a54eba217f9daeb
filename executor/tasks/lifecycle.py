"""What becomes of accepted runs: begun when there is a place, told, ended, kept or forgotten.

Which runs are accepted, and what is asked of them, is :mod:`executor.tasks.supervisor`'s; how one
is carried out is :mod:`executor.tasks.run_execution`'s.
"""

from __future__ import annotations

import asyncio
import functools

from executor.delivery.state import FINISHED_KEPT_S
from executor.tasks.disk_pause import DiskPause
from executor.tasks.known_runs import AcceptedRun, KnownRuns
from executor.tasks.reporting import Records, Reporter
from executor.tasks.run_execution import RunExecution
from executor.tasks.run_handler import Run, RunHandler
from executor.tasks.slots import Slots
from executor.tasks.verdicts import cancelled, failed, internal
from shared.logging import get_logger
from shared.protocol.events import AgentEvent, EventType, RunKey, utc_timestamp
from shared.protocol.execution import ExecutionRequest

logger = get_logger("supervisor")


class Lifecycle:
    """Takes accepted runs from one state to the next; everything here is synchronous."""

    def __init__(
        self,
        handler: RunHandler,
        reporter: Reporter,
        records: Records,
        known: KnownRuns,
        slots: Slots,
        disk: DiskPause,
        *,
        timeout_s: float,
        interrupt_grace_s: float,
    ) -> None:
        """Take the parts.

        Args:
            handler: Carries runs out.
            reporter: Hears what they tell.
            records: Outlives this process.
            known: Has every run that is accepted.
            slots: Says who may begin.
            disk: Says when nobody may.
            timeout_s: Bounds a run that names no limit of its own; see
                :mod:`executor.tasks.run_time`.
            interrupt_grace_s: See :data:`executor.tasks.run_execution.INTERRUPT_GRACE_S`.
        """
        self._handler = handler
        self._reporter = reporter
        self._records = records
        self._known = known
        self._slots = slots
        self._disk = disk
        self._timeout_s = timeout_s
        self._interrupt_grace_s = interrupt_grace_s

    def start_next(self) -> None:
        """Start what may start."""
        while self._disk.trouble is None and (next_one := self._slots.take()) is not None:
            self._start(*next_one)

    def follow(self, entry: AcceptedRun, run: Run, *, catch_up_s: float) -> None:
        """Go on with one that has gone on without a process of ours."""
        entry.left = None
        entry.count_absence(timeout_s=self._timeout_s, catch_up_s=catch_up_s)
        self._slots.occupy(entry)
        self._carry_out(entry, run)

    def cancel(self, entry: AcceptedRun, reason: str | None) -> None:
        """Begin to end one that has not ended."""
        if entry.execution is None:
            self.end_unstarted(entry, cancelled(reason))
        else:
            entry.execution.cancel(reason)

    def end_unstarted(self, entry: AcceptedRun, verdict: AgentEvent) -> None:
        """End one that is not carried out."""
        self._tell(entry, verdict)
        self._retire(entry)
        self.start_next()

    def park(self, entry: AcceptedRun) -> None:
        """Keep one as it stands, for a later process."""
        self._reporter.park(entry.key)
        entry.execution = None
        entry.left = "interrupted" if self._reporter.last_seq(entry.key) else "queued"
        self._slots.leave(entry)
        logger.info("the run is kept for the next start: %s", entry.left, **entry.names)

    def forget(self, key: RunKey) -> None:
        """Drop what is told and written of a run."""
        self._reporter.forget(key)
        self._records.forget_run(key)

    def _start(self, entry: AcceptedRun, request: ExecutionRequest) -> None:
        try:
            run = self._handler.start(request)
        except Exception as exc:
            logger.exception("the run cannot be started", **entry.names)
            self._tell(entry, failed(internal(exc)))
            self._retire(entry)
            return
        entry.limit_s = request.timeout_seconds or self._timeout_s
        self._carry_out(entry, run)

    def _carry_out(self, entry: AcceptedRun, run: Run) -> None:
        entry.since = utc_timestamp()
        entry.execution = RunExecution(
            run,
            names=entry.names,
            tell=functools.partial(self._tell, entry),
            ended=functools.partial(self._ended, entry),
            limit_s=entry.limit_s,
            used_s=entry.used_s,
            save_used=functools.partial(self._save_time, entry),
            interrupt_grace_s=self._interrupt_grace_s,
        )

    def _save_time(self, entry: AcceptedRun, used_s: float) -> None:
        # What a full disk refuses is kept in memory, and this would be more and more of it.
        if entry in self._known and not entry.finished and self._disk.of("home") is None:
            self._records.save_time(entry.key, used_s, entry.limit_s)

    def _tell(self, entry: AcceptedRun, event: AgentEvent) -> None:
        if event.type == EventType.SESSION:
            entry.sdk_session_id = event.data["sdk_session_id"]
        entry.finished = event.terminal
        # A run that was superseded tells nothing: its key may already be its successor's.
        if entry in self._known:
            seq = self._reporter.report(entry.ref, event)
            if event.terminal:
                entry.verdict, entry.last_seq = event.action, seq

    def _ended(self, entry: AcceptedRun) -> None:
        """Nothing of a started run goes on any more."""
        if entry.finished:
            self._retire(entry)
        else:
            self.park(entry)
        self.start_next()

    def _retire(self, entry: AcceptedRun) -> None:
        """Remember the run for repeats, and forget those of long ago."""
        now = asyncio.get_running_loop().time()
        self._slots.leave(entry)
        self._known.retire(entry, now=now)
        for key in self._known.ended_before(now - FINISHED_KEPT_S):
            if self._reporter.delivered(key):
                self._known.remove(key)
                self.forget(key)
