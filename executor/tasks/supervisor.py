"""The supervisor: every accepted run ends with exactly one verdict, and none disturbs another.

It admits runs, takes up those of an earlier process, hears what is asked of them, and stops. What
becomes of one that is accepted is :mod:`executor.tasks.lifecycle`'s.

All methods that decide something are synchronous, so that messages of the wire take effect in the
order in which they came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from executor.delivery.run_rows import RunRecord
from executor.tasks import redispatch
from executor.tasks.disk_pause import Disk, DiskPause
from executor.tasks.early_cancels import EarlyCancels
from executor.tasks.ending import end_ours, fail_left
from executor.tasks.known_runs import AcceptedRun, KnownRuns
from executor.tasks.lifecycle import Lifecycle
from executor.tasks.questions import AnswerStanding
from executor.tasks.redispatch import RedispatchClock
from executor.tasks.reporting import Records, Reporter
from executor.tasks.run_execution import INTERRUPT_GRACE_S
from executor.tasks.run_handler import Run, RunHandler
from executor.tasks.slots import Slots
from executor.tasks.submission import Submission
from executor.tasks.verdicts import cancelled
from executor.tasks.whereabouts import Whereabouts, whereabouts
from shared.errors import Refusal
from shared.logging import get_logger
from shared.protocol.events import RunKey, RunRef
from shared.protocol.execution import ExecutionRequest
from shared.protocol.local import Cancel, Input, InputAck, RunReport
from shared.status import ErrorCode

logger = get_logger("supervisor")

CATCH_UP_S: Final = 10.0
"""What a run has at least that has gone on alone, however long: it may have told its end."""

CancelState = Literal["cancelling", "finished", "unknown"]


class Supervisor:
    """Admits, orders, bounds and carries out runs. Everything happens on one event loop."""

    def __init__(
        self,
        handler: RunHandler,
        reporter: Reporter,
        records: Records,
        *,
        max_concurrent: int,
        queue_limit: int,
        timeout_s: float,
        interrupt_grace_s: float = INTERRUPT_GRACE_S,
        redispatch_wait_s: float = redispatch.WAIT_S,
        redispatches: bool = False,
        catch_up_s: float = CATCH_UP_S,
    ) -> None:
        """Take the parts.

        Args:
            handler: Carries runs out.
            reporter: Hears what they tell.
            records: Outlives this process.
            max_concurrent: How many runs go on at once.
            queue_limit: How many more may wait.
            timeout_s: Bounds a run that names no limit of its own; see
                :mod:`executor.tasks.run_time`.
            interrupt_grace_s: See :data:`executor.tasks.run_execution.INTERRUPT_GRACE_S`.
            redispatch_wait_s: See :data:`executor.tasks.redispatch.WAIT_S`.
            redispatches: Whether the backend has been one that continues runs; it says so again
                whenever it registers this executor.
            catch_up_s: See :data:`CATCH_UP_S`.
        """
        self._handler = handler
        self._reporter = reporter
        self._records = records
        self._catch_up_s = catch_up_s
        self._known = KnownRuns()
        self._slots = Slots(self._known, limit=max_concurrent, queue_limit=queue_limit)
        self._early_cancels = EarlyCancels()
        self._redispatch = RedispatchClock(self._give_up_left, wait_s=redispatch_wait_s)
        self._disk = DiskPause()
        self._redispatches = redispatches
        self._lifecycle = Lifecycle(
            handler,
            reporter,
            records,
            self._known,
            self._slots,
            self._disk,
            timeout_s=timeout_s,
            interrupt_grace_s=interrupt_grace_s,
        )
        self.draining = False

    # --- What the wire asks ---------------------------------------------------------------------

    def submit(self, request: ExecutionRequest) -> Submission:
        """Accept a run, or recognise one that is known.

        Raises:
            Refusal: It is not accepted, and nothing was created.
        """
        known = self._known.get(request.run.key)
        if known is not None and known.left is not None:
            return self._take_up(known, request)
        if known is not None:
            if known.execution is not None and not known.agent and not known.finished:
                self._reattach(known, request)
            if known.finished:
                self._reporter.repeat_verdict(known.ref, known.last_seq)
            return Submission(duplicate=True, acceptance=known.written)
        older = self._known.of_subtask(request.subtask_id)
        if any(entry.ref.attempt > request.attempt for entry in older):
            raise Refusal(ErrorCode.SUPERSEDED, "a later attempt of this run is known")
        self._refuse_while_draining()
        if self._disk.trouble is not None:
            raise Refusal(ErrorCode.BUSY, self._disk.trouble, reason="disk")
        self._handler.check(request)
        self._slots.check(request.run.session)
        for entry in older:
            self.supersede(entry.key)
        return self._admit(request)

    def cancel(self, cancel: Cancel) -> CancelState:
        """Cancel a run, or every unfinished run of a session; returns before it has ended."""
        entries = self._known.meant_by(cancel)
        live = [entry for entry in entries if not entry.finished]
        for entry in reversed(live):  # none begins because the one before it has ended
            self._lifecycle.cancel(entry, cancel.reason)
        if live:
            return "cancelling"
        if entries:
            return "finished"
        if cancel.subtask_id is not None:
            self._early_cancels.remember(cancel.subtask_id, cancel.reason, now=_now())
        return "unknown"

    async def answer(self, answer: Input) -> InputAck:
        """Pass the user's answer on to the run that asked.

        Raises:
            ProtocolError: It does not answer this question, which stays open.
        """
        standing: AnswerStanding = "unknown_request"
        for entry in self._known.of_subtask(answer.subtask_id):
            if entry.execution is not None and standing == "unknown_request":
                standing = await entry.execution.run.answer(answer)
        if standing == "accepted":
            return InputAck(success=True)
        return InputAck(success=False, code=standing)

    async def close_session(self, task_id: int | str) -> None:
        """End the session's warm process, and that of a run in progress when the run has ended."""
        await self._handler.close_session(task_id)

    def supersede(self, key: RunKey) -> None:
        """Stop a run that the backend does not want any more, and forget what it told."""
        self._lifecycle.forget(key)
        entry = self._known.remove(key)
        if entry is None or entry.finished:
            return
        logger.warning("superseded: the run stops here", **entry.names)
        self._lifecycle.cancel(entry, "superseded")

    # --- What the wire tells --------------------------------------------------------------------

    def unfinished(self) -> list[RunRef]:
        """Every accepted run without a verdict, queued ones too."""
        return [entry.ref for entry in self._known.unfinished]

    def running_task_ids(self) -> list[int | str]:
        """The sessions that have a run in progress."""
        return [entry.ref.task_id for entry in self._slots.running]

    @property
    def free_slots(self) -> int:
        """How many more runs could start at once."""
        return 0 if self.draining or self._disk.trouble is not None else self._slots.free

    def reports(self) -> list[RunReport]:
        """Every run that the backend may not have heard the end of."""
        return self._known.reports(self._reporter)

    # --- What this machine's user asks ----------------------------------------------------------

    @property
    def trouble(self) -> str | None:
        """Why a disk takes no writes and all runs stand still; ``None``: all do."""
        return self._disk.trouble

    def whereabouts(self) -> list[Whereabouts]:
        """Where every accepted run without a verdict stands, in the order in which they came."""
        return list(whereabouts(self._known.unfinished, self._slots.running, self._disk.trouble))

    async def verdict(self, key: RunKey) -> str | None:
        """Wait for the end of a run: ``completed``, ``failed`` or ``cancelled``.

        ``None`` for one that has none: it is not known, or is kept for the next start.
        """
        entry = self._known.get(key)
        if entry is not None and entry.execution is not None:
            await entry.execution.wait_ended()
        return None if entry is None else entry.verdict

    # --- Restart --------------------------------------------------------------------------------

    def restore(self, records: Iterable[RunRecord]) -> None:
        """Know the runs of an earlier process, before anything else happens.

        The unfinished ones wait to be dispatched again, or until :meth:`follow`.
        """
        for record in records:
            entry = AcceptedRun.of(record)
            self._known.add(entry)
            if record.state == "finished":
                entry.finished, entry.last_seq = True, record.last_seq
                self._known.retire(entry, now=_now())
            else:
                entry.left = "interrupted" if record.state == "running" else "queued"
                self._reporter.reopen(record)

    def follow(self, living: Mapping[RunKey, Run]) -> None:
        """Follow restored runs that have gone on without a process of ours, unless it stops."""
        for key, run in living.items():
            entry = self._known.get(key)
            if entry is not None and entry.left is not None and not self.draining:
                self._lifecycle.follow(entry, run, catch_up_s=self._catch_up_s)
        if self._disk.trouble is not None:
            self._disk.apply(self._slots.running)

    def connected(self, *, redispatches: bool) -> None:
        """A backend has registered this executor; *redispatches*: it continues its runs."""
        self._redispatches = redispatches
        self._redispatch.connected(redispatches=redispatches)

    def disconnected(self) -> None:
        """The connection has ended."""
        self._redispatch.disconnected()

    def _take_up(self, entry: AcceptedRun, request: ExecutionRequest) -> Submission:
        """Go on with a run that an earlier process left."""
        self._refuse_while_draining()
        self._handler.check(request)
        resumed = entry.left == "interrupted"
        entry.left = None
        if entry.passed_on:
            # The executor that has told it closes what is open, and says how the run goes on.
            self._reattach(entry, request)
        else:
            entry.agent = request.requested_agent
            self._reporter.resume(request)
            request = redispatch.continued(request, entry.sdk_session_id)
        self._slots.wait_for(entry, request)
        self._lifecycle.start_next()
        return Submission(resumed=resumed)

    def _reattach(self, entry: AcceptedRun, request: ExecutionRequest) -> None:
        """Know the request again of a run that another executor tells."""
        entry.agent = request.requested_agent
        self._reporter.reattach(request)

    def _give_up_left(self, why: str) -> None:
        """Fail the runs that wait in vain to be dispatched again."""
        fail_left(self._known, why, self._lifecycle.end_unstarted)

    def disk_trouble(self, reason: str | None, disk: Disk = "home") -> None:
        """Stand still while this disk takes no writes; ``None``: it does again."""
        self._disk.changed(disk, reason, self._slots.running)
        self._lifecycle.start_next()

    # --- Stopping -------------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Take nothing new from now on; runs in progress go on, idle processes are ended.

        Runs that wait are parked, when the backend will send them again.
        """
        self.draining = True
        self._handler.wind_down()
        self._redispatch.stop()
        if self._redispatches:
            for entry in self._slots.waiting:
                self._lifecycle.park(entry)

    async def drain(self, grace_s: float) -> None:
        """Stop accepting, let runs finish for *grace_s* seconds, and end what is left of them.

        That is parked: it has no verdict and stays written down, so that a later process can go on
        with it. When the backend will not send it again, it fails. Runs that need no process of
        ours are neither waited for nor ended.
        """
        self.stop_accepting()
        try:
            async with asyncio.timeout(grace_s):
                await self._slots.wait_for_ours()
        except TimeoutError:
            end_ours(self._slots, self._lifecycle.end_unstarted, redispatches=self._redispatches)
            await self._slots.wait_for_ours()

    async def close(self) -> None:
        """End all as :meth:`drain` does at its end, and every warm process; let the others go."""
        self.stop_accepting()
        end_ours(self._slots, self._lifecycle.end_unstarted, redispatches=self._redispatches)
        await self._slots.wait_for_ours()
        for entry in self._slots.running:
            if entry.execution is not None:
                entry.execution.let_go()
        await self._slots.wait_idle()
        await self._handler.close()

    # --- Inside ---------------------------------------------------------------------------------

    def _refuse_while_draining(self) -> None:
        if self.draining:
            raise Refusal(ErrorCode.DRAINING, "the executor is stopping")

    def _admit(self, request: ExecutionRequest) -> Submission:
        written = self._records.accept(request.run)
        entry = AcceptedRun(request.run, request.requested_agent, written=written)
        self._known.add(entry)
        self._reporter.open(request)
        early = self._early_cancels.take(request.subtask_id, now=_now())
        if early is not None:
            self._lifecycle.end_unstarted(entry, cancelled(early.reason))
        else:
            self._slots.wait_for(entry, request)
            self._lifecycle.start_next()
        return Submission(acceptance=entry.written)


def _now() -> float:
    return asyncio.get_running_loop().time()
