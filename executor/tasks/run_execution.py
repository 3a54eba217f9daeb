"""Carrying out one run, from its start to its verdict.

Bounds it in time, ends it when somebody does not want it any more, and makes a verdict of whatever
goes wrong: hence its broad ``except``, as in :mod:`executor.tasks.lifecycle`, where runs begin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

import structlog

from executor.tasks.run_handler import Run
from executor.tasks.run_time import RunTime
from executor.tasks.verdicts import as_cancelled, as_ended, failed, internal, summary
from shared.errors import RunError
from shared.logging import get_logger
from shared.protocol.events import AgentEvent
from shared.status import ErrorCode

logger = get_logger("supervisor")

INTERRUPT_GRACE_S: Final = 3.0
"""How long an interrupted agent may take to end by itself. Source: the design's control rules."""

ACCOUNT_TIMEOUT_S: Final = 2.0
"""How long it may take to find out what a run has done that was ended from outside; a stop waits
for it."""

_NO_VERDICT: Final = RunError(ErrorCode.INTERNAL, "the run ended without a verdict")


class RunExecution:
    """One run in progress; it begins when this is made. For one event loop."""

    def __init__(
        self,
        run: Run,
        *,
        names: Mapping[str, int | str],
        tell: Callable[[AgentEvent], None],
        ended: Callable[[], None],
        limit_s: float | None,
        used_s: float = 0.0,
        save_used: Callable[[float], None] = lambda _: None,
        interrupt_grace_s: float = INTERRUPT_GRACE_S,
    ) -> None:
        """Begin.

        Args:
            run: Does the work.
            names: What log lines are bound to.
            tell: Gets what happens, with exactly one verdict as the last, unless it is parked.
            ended: Called once, when nothing of the run goes on any more.
            limit_s: How long it may take in all; ``None``: whoever carries it out bounds it.
            used_s: What earlier processes have used of that.
            save_used: See :class:`executor.tasks.run_time.RunTime`.
            interrupt_grace_s: See :data:`INTERRUPT_GRACE_S`.
        """
        self.run = run
        self._names = dict(names)
        self._to_tell = tell
        self._to_end = ended
        self._limit_s = limit_s
        self._time = RunTime(limit_s, used_s=used_s, save=save_used, over=self._time_out)
        self._interrupt_grace_s = interrupt_grace_s
        self._began = _now()
        self._has_verdict = False
        self._cancelled = False
        self._reason: str | None = None
        self._failure: RunError | None = None
        """Why it has failed, or was ended from outside, if not by a cancel."""
        self._parked = False
        self._stopping: asyncio.Task[None] | None = None
        """The escalation of an interrupt."""
        self._task = asyncio.create_task(self._carry_out(), name=f"run {self._names}")
        # A task that is cancelled before its first step never enters its own code.
        self._task.add_done_callback(self._conclude)

    def cancel(self, reason: str | None) -> None:
        """Interrupt it, and end its processes when that does not help; the verdict says so."""
        if self._has_verdict or self._cancelled:
            return
        self._cancelled, self._reason, self._parked = True, reason, False
        self._stop()

    def fail(self, error: RunError) -> None:
        """End its processes now; the verdict is *error*, unless it is being stopped already."""
        self._failure = self._failure or error
        self._task.cancel()

    def park(self) -> None:
        """End its processes now, without a verdict: a later process goes on with it.

        A run that is being stopped ends with its verdict, also when the cancel comes only while
        the processes end.
        """
        self._parked = not self._cancelled and self._failure is None
        self._task.cancel()

    @property
    def goes_on_alone(self) -> bool:
        """Whether the run needs this process no more, and nobody has ended it."""
        return not self._cancelled and self._failure is None and self.run.goes_on_alone

    def let_go(self) -> None:
        """Follow a run no longer that goes on alone; it is parked otherwise."""
        if self.goes_on_alone:
            self.run.let_go()
        self.park()

    @property
    def stopping(self) -> bool:
        """Whether it was cancelled, and has not ended yet."""
        return self._cancelled

    async def wait_ended(self) -> None:
        """Wait until nothing of it goes on any more; ``ended`` has been called then."""
        await asyncio.wait({self._task})

    async def _carry_out(self) -> None:
        with structlog.contextvars.bound_contextvars(**self._names):
            logger.info("run started")
            self._time.start()
            try:
                async with aclosing(self.run.events()) as events:
                    async for event in events:
                        self._tell(event)
            except asyncio.CancelledError:
                if not self._parked:
                    await self._fail(self._failure or _NO_VERDICT)
                raise
            except RunError as exc:
                await self._fail(exc)
            except Exception as exc:
                logger.exception("the run crashed")
                await self._fail(internal(exc))
            finally:
                self._time.stop()

    async def _fail(self, error: RunError) -> None:
        """Tell the verdict of a run that has not told one, with what it has done all the same."""
        if self._has_verdict or self._parked:
            return
        # Whoever ends it from now on changes nothing about why it fails.
        self._failure = self._failure or error
        account: Mapping[str, Any] = {}
        try:
            async with asyncio.timeout(ACCOUNT_TIMEOUT_S):
                account = await self.run.account()
        except Exception:
            logger.exception("cannot tell what the run has done")
        verdict = failed(error)
        self._tell(replace(verdict, data={**verdict.data, **account}))

    def _tell(self, event: AgentEvent) -> None:
        """Pass one event on; nothing follows a verdict, and a parked run tells nothing more."""
        if self._has_verdict or self._parked:
            return
        if self._cancelled:
            event = as_cancelled(event, self._reason)
        else:
            event = as_ended(event, self._failure)
        self._has_verdict = event.terminal
        self._to_tell(event)
        if event.terminal:
            self.run.conclude(event)
            seconds = _now() - self._began
            logger.info("run ended: %s after %.1f s", summary(event), seconds)

    def _conclude(self, _: asyncio.Task[None]) -> None:
        """The last word, however the task ended."""
        if self._stopping is not None:
            self._stopping.cancel()
        with structlog.contextvars.bound_contextvars(**self._names):
            self._tell(failed(self._failure or _NO_VERDICT))
        if not self._has_verdict:
            self.run.conclude(None)
        self._to_end()

    def _time_out(self) -> None:
        """Interrupt the run, so that it still tells what it has done."""
        if self._has_verdict or self._cancelled or self._failure is not None:
            return
        self._failure = RunError(
            ErrorCode.TIMED_OUT, f"the run did not finish within {self._limit_s:g} s"
        )
        self._stop()

    def _stop(self) -> None:
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._escalate(), name=f"stop run {self._names}")

    async def _escalate(self) -> None:
        """Interrupt; when the run has not ended after the grace, end its processes."""
        try:
            async with asyncio.timeout(self._interrupt_grace_s):
                await self.run.cancel(self._reason)
                await asyncio.wait({self._task})
        except TimeoutError:
            logger.warning("the agent did not stop when interrupted, ending it", **self._names)
        except Exception:
            logger.exception("the interrupt failed, ending the agent", **self._names)
        finally:
            self._task.cancel()


def _now() -> float:
    return asyncio.get_running_loop().time()
