"""The supervisor: every accepted run ends with exactly one verdict, and none disturbs another.

It admits runs, keeps those of one session in order, bounds how many go on at once, carries each out
through the RunHandler, and reports what happens. It is the only place with a broad ``except``.

All methods that decide something are synchronous, so that messages of the wire take effect in the
order in which they came.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import structlog

from executor.tasks.run_handler import Run, RunHandler
from shared.errors import Refusal, RunError
from shared.logging import get_logger
from shared.protocol.events import AgentEvent, EventType, RunKey, RunRef
from shared.protocol.execution import ExecutionRequest
from shared.protocol.local import Cancel, Input, InputAck, RunReport
from shared.status import ErrorCode

logger = get_logger("supervisor")

INTERRUPT_GRACE_S: Final = 3.0
"""How long an interrupted agent may take to end by itself. Source: the design's control rules."""

EARLY_CANCEL_KEPT_S: Final = 600.0
"""How long a cancel is remembered whose run has not come yet. Source: Delivery 5."""

FINISHED_KEPT: Final = 1000
"""Finished runs remembered, so that a repeated dispatch gets its result instead of a second run."""

CancelState = Literal["cancelling", "finished", "unknown"]


class Reporter(Protocol):
    """Where runs tell what happens; synchronous and never failing."""

    def open(self, request: ExecutionRequest) -> None:
        """Begin a run."""
        ...

    def report(self, run: RunRef, event: AgentEvent) -> None:
        """Tell one event; what comes after a run's terminal event is dropped."""
        ...

    def last_seq(self, key: RunKey) -> int:
        """How many events the run has told."""
        ...

    def repeat_verdict(self, key: RunKey) -> None:
        """Tell a finished run's verdict once more."""
        ...

    def delivered(self, key: RunKey) -> bool:
        """Whether the backend has everything the run told."""
        ...

    def forget(self, key: RunKey) -> None:
        """Drop a run and what is left to be told of it."""
        ...


@dataclass(frozen=True, slots=True)
class Submission:
    """Answer to an accepted request; ``duplicate``: it was known already and started nothing."""

    duplicate: bool = False


@dataclass(slots=True, eq=False)
class _Entry:
    """One accepted run."""

    request: ExecutionRequest
    run: Run | None = None
    task: asyncio.Task[None] | None = None
    cancelled: bool = False
    reason: str | None = None
    finished: bool = False
    sdk_session_id: str | None = None
    ended_as: ErrorCode | None = None
    """Why the supervisor itself ended the run, if it did."""
    sequel: asyncio.Task[None] | None = field(default=None, repr=False)
    """The escalation of a cancel."""

    @property
    def ref(self) -> RunRef:
        return self.request.run

    @property
    def key(self) -> RunKey:
        return self.request.run.key


class Supervisor:
    """Admits, orders, bounds and carries out runs. Everything happens on one event loop."""

    def __init__(
        self,
        handler: RunHandler,
        reporter: Reporter,
        *,
        max_concurrent: int,
        queue_limit: int,
        timeout_s: float,
        interrupt_grace_s: float = INTERRUPT_GRACE_S,
    ) -> None:
        """*timeout_s* bounds a run that names no limit of its own, from its start."""
        self._handler = handler
        self._reporter = reporter
        self._max_concurrent = max_concurrent
        self._queue_limit = queue_limit
        self._timeout_s = timeout_s
        self._interrupt_grace_s = interrupt_grace_s
        self._entries: dict[RunKey, _Entry] = {}
        self._queue: deque[_Entry] = deque()
        self._running: dict[str, _Entry] = {}
        """By session: at most one run each."""
        self._finished: deque[RunKey] = deque()
        self._early_cancels: dict[str, tuple[float, str | None]] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False

    # --- What the wire asks ---------------------------------------------------------------------

    def submit(self, request: ExecutionRequest) -> Submission:
        """Accept a run, or recognise one that is known.

        Raises:
            Refusal: It is not accepted, and nothing was created.
        """
        known = self._entries.get(request.run.key)
        if known is not None:
            if known.finished:
                self._reporter.repeat_verdict(known.key)
            return Submission(duplicate=True)
        older = self._other_attempts(request.run)
        if any(entry.ref.attempt > request.attempt for entry in older):
            raise Refusal(ErrorCode.SUPERSEDED, "a later attempt of this run is known")
        if self.draining:
            raise Refusal(ErrorCode.DRAINING, "the executor is stopping")
        self._handler.check(request)
        if len(self._running) >= self._max_concurrent and len(self._queue) >= self._queue_limit:
            raise Refusal(ErrorCode.BUSY, "all slots and the queue are full", reason="slots")
        for entry in older:
            self.supersede(entry.key)
        self._admit(request)
        return Submission()

    def cancel(self, cancel: Cancel) -> CancelState:
        """Cancel a run, or every unfinished run of a session; returns before it has ended."""
        if cancel.subtask_id is None:
            entries = [e for e in self._entries.values() if e.ref.session == str(cancel.task_id)]
        else:
            wanted = str(cancel.subtask_id)
            entries = [e for e in self._entries.values() if e.key[0] == wanted]
        live = [entry for entry in entries if not entry.finished]
        for entry in live:
            self._cancel(entry, cancel.reason)
        if live:
            return "cancelling"
        if entries:
            return "finished"
        if cancel.subtask_id is not None:
            self._remember_cancel(str(cancel.subtask_id), cancel.reason)
        return "unknown"

    async def answer(self, answer: Input) -> InputAck:
        """Pass the user's answer on to the run that asked."""
        asked = [e for e in self._entries.values() if e.key[0] == str(answer.subtask_id)]
        for entry in asked:
            if entry.run is not None and await entry.run.answer(answer):
                return InputAck(success=True)
        return InputAck(success=False, code="unknown_request")

    async def close_session(self, task_id: int | str) -> None:
        """End the session's warm process; a run in progress is not touched."""
        await self._handler.close_session(task_id)

    def supersede(self, key: RunKey) -> None:
        """Stop a run that the backend does not want any more, and forget what it told."""
        self._reporter.forget(key)
        entry = self._entries.pop(key, None)
        if entry is None or entry.finished:
            return
        logger.warning("superseded: the run stops here", **_names(entry))
        self._cancel(entry, "superseded")

    # --- What the wire tells --------------------------------------------------------------------

    def unfinished(self) -> list[RunRef]:
        """Every accepted run without a verdict, queued ones too."""
        return [entry.ref for entry in self._entries.values() if not entry.finished]

    def running_task_ids(self) -> list[int | str]:
        """The sessions that have a run in progress."""
        return [entry.ref.task_id for entry in self._running.values()]

    @property
    def free_slots(self) -> int:
        """How many more runs could start at once."""
        return max(0, self._max_concurrent - len(self._running) - len(self._queue))

    def reports(self) -> list[RunReport]:
        """Every run that the backend may not have heard the end of."""
        return [
            RunReport(
                task_id=entry.ref.task_id,
                subtask_id=entry.ref.subtask_id,
                attempt=entry.ref.attempt,
                state=_state(entry),
                last_seq=self._reporter.last_seq(key),
                sdk_session_id=entry.sdk_session_id,
            )
            for key, entry in self._entries.items()
            if not entry.finished or not self._reporter.delivered(key)
        ]

    # --- Stopping -------------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Refuse new runs from now on; those accepted go on."""
        self.draining = True

    async def drain(self, grace_s: float) -> None:
        """Stop accepting, let runs finish for *grace_s* seconds, end the rest; none is left."""
        self.stop_accepting()
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            await self._end_all()

    async def close(self) -> None:
        """End every run now, with a verdict, and every warm process."""
        self.stop_accepting()
        await self._end_all()
        await self._handler.close()

    async def _end_all(self) -> None:
        for entry in list(self._queue):
            self._end_unstarted(
                entry,
                AgentEvent(
                    EventType.FAILED,
                    {
                        "error": "the executor stopped before the run began",
                        "error_code": str(ErrorCode.EXECUTOR_RESTARTED),
                    },
                ),
            )
        for entry in list(self._running.values()):
            entry.ended_as = ErrorCode.EXECUTOR_RESTARTED
            if entry.task is not None:
                entry.task.cancel()
        await self._idle.wait()

    # --- Inside ---------------------------------------------------------------------------------

    def _other_attempts(self, run: RunRef) -> list[_Entry]:
        subtask = str(run.subtask_id)
        return [entry for key, entry in self._entries.items() if key[0] == subtask]

    def _admit(self, request: ExecutionRequest) -> None:
        entry = _Entry(request)
        self._entries[entry.key] = entry
        self._idle.clear()
        self._reporter.open(request)
        early = self._early_cancels.pop(entry.key[0], None)
        if early is not None and early[0] > asyncio.get_running_loop().time():
            self._end_unstarted(entry, _cancelled_event(early[1]))
            return
        self._queue.append(entry)
        self._start_next()

    def _start_next(self) -> None:
        """Start what may start: first come first served, one run of a session at a time."""
        for entry in list(self._queue):
            if len(self._running) >= self._max_concurrent:
                return
            if entry.ref.session in self._running:
                continue
            self._queue.remove(entry)
            self._running[entry.ref.session] = entry
            entry.run = self._handler.start(entry.request)
            entry.task = asyncio.create_task(
                self._carry_out(entry, entry.run), name=f"run {entry.key}"
            )
            # A task that is cancelled before its first step never enters its own code.
            entry.task.add_done_callback(functools.partial(self._ended, entry))

    async def _carry_out(self, entry: _Entry, run: Run) -> None:
        """Run to the verdict; whatever goes wrong becomes one."""
        with structlog.contextvars.bound_contextvars(**_names(entry)):
            loop = asyncio.get_running_loop()
            began = loop.time()
            logger.info("run started")
            limit = entry.request.timeout_seconds or self._timeout_s
            deadline = asyncio.timeout(limit)
            try:
                async with deadline, aclosing(run.events()) as events:
                    async for event in events:
                        if event.type == EventType.SESSION:
                            entry.sdk_session_id = event.data["sdk_session_id"]
                        self._tell(entry, event)
                        if event.terminal:
                            entry.finished = True
                            logger.info(
                                "run ended: %s after %.1f s", event.action, loop.time() - began
                            )
            except RunError as exc:
                self._fail(entry, exc.error_code, str(exc), exc.details)
            except TimeoutError:
                if not deadline.expired():
                    raise
                error = f"the run did not finish within {limit:g} s"
                self._fail(entry, ErrorCode.TIMED_OUT, error)
            except Exception as exc:
                logger.exception("the run crashed")
                self._fail(entry, ErrorCode.INTERNAL, f"internal error: {type(exc).__name__}")

    def _tell(self, entry: _Entry, event: AgentEvent) -> None:
        # A run that was superseded tells nothing: its key may already be its successor's.
        if self._entries.get(entry.key) is entry:
            self._reporter.report(entry.ref, event)

    def _fail(self, entry: _Entry, code: ErrorCode, error: str, details: str | None = None) -> None:
        if entry.finished:
            return
        if entry.cancelled:
            self._tell(entry, _cancelled_event(entry.reason))
        else:
            logger.warning("run failed: %s: %s", code, error)
            data = {"error": error, "error_code": str(code)}
            if details:
                data["details"] = details
            self._tell(entry, AgentEvent(EventType.FAILED, data))
        entry.finished = True

    def _ended(self, entry: _Entry, task: asyncio.Task[None]) -> None:
        """The last word on every started run, however its task ended."""
        if entry.sequel is not None:
            entry.sequel.cancel()
        if not entry.finished:
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.error("the run crashed", exc_info=error, **_names(entry))
            code = entry.ended_as or ErrorCode.INTERNAL
            error_text = (
                "the executor stopped before the run had finished"
                if entry.ended_as
                else "the run ended without a verdict"
            )
            self._fail(entry, code, error_text)
        del self._running[entry.ref.session]
        self._retire(entry)

    def _end_unstarted(self, entry: _Entry, verdict: AgentEvent) -> None:
        if entry in self._queue:
            self._queue.remove(entry)
        entry.finished = True
        self._tell(entry, verdict)
        self._retire(entry)

    def _retire(self, entry: _Entry) -> None:
        """Make room: remember the run for repeats, forget the oldest, start the next."""
        entry.run = entry.task = None
        if self._entries.get(entry.key) is entry:
            self._finished.append(entry.key)
        while len(self._finished) > FINISHED_KEPT:
            oldest = self._finished[0]
            if not self._reporter.delivered(oldest):
                break
            self._finished.popleft()
            self._entries.pop(oldest, None)
            self._reporter.forget(oldest)
        self._start_next()
        if not self._running and not self._queue:
            self._idle.set()

    def _cancel(self, entry: _Entry, reason: str | None) -> None:
        if entry.cancelled:
            return
        entry.cancelled, entry.reason = True, reason
        if entry.run is None:
            self._end_unstarted(entry, _cancelled_event(reason))
        else:
            entry.sequel = asyncio.create_task(self._stop(entry, entry.run), name="cancel")

    async def _stop(self, entry: _Entry, run: Run) -> None:
        """Interrupt; when the run has not ended after the grace, end its processes."""
        task = entry.task
        if task is None:
            return
        try:
            async with asyncio.timeout(self._interrupt_grace_s):
                await run.cancel(entry.reason)
                await asyncio.wait({task})
        except TimeoutError:
            logger.warning("the agent did not stop when interrupted, ending it", **_names(entry))
        except Exception:
            logger.exception("the interrupt failed, ending the agent", **_names(entry))
        finally:
            task.cancel()

    def _remember_cancel(self, subtask_id: str, reason: str | None) -> None:
        now = asyncio.get_running_loop().time()
        self._early_cancels = {k: v for k, v in self._early_cancels.items() if v[0] > now}
        self._early_cancels[subtask_id] = (now + EARLY_CANCEL_KEPT_S, reason)


def _cancelled_event(reason: str | None) -> AgentEvent:
    return AgentEvent(EventType.CANCELLED, {"reason": reason} if reason else {})


def _state(entry: _Entry) -> Literal["queued", "running", "finished"]:
    if entry.finished:
        return "finished"
    return "queued" if entry.run is None else "running"


def _names(entry: _Entry) -> dict[str, int | str]:
    return {"task_id": entry.ref.task_id, "subtask_id": entry.ref.subtask_id}
