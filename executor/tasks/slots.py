"""Which accepted run may start when: a bounded number at once, one of a session, in order."""

from __future__ import annotations

import asyncio

from executor.tasks.known_runs import AcceptedRun, KnownRuns
from shared.errors import Refusal
from shared.protocol.execution import ExecutionRequest
from shared.status import ErrorCode


class Slots:
    """Holds who is carried out and who waits for it."""

    def __init__(self, known: KnownRuns, *, limit: int, queue_limit: int) -> None:
        """*limit* runs go on at once, *queue_limit* more may wait; *known* has their order."""
        self._known = known
        self._limit = limit
        self._queue_limit = queue_limit
        self._waiting: dict[AcceptedRun, ExecutionRequest] = {}
        """Nothing else keeps requests: they hold secrets and attachments."""
        self._running: dict[str, AcceptedRun] = {}
        """By session; superseded ones that are still ending included."""
        self._left = asyncio.Event()
        """Whenever somebody has left."""
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def free(self) -> int:
        """How many more runs could start at once."""
        # Whoever waits while there is a free slot waits for its own session.
        return max(0, self._limit - len(self._running))

    @property
    def running(self) -> list[AcceptedRun]:
        """Who is carried out."""
        return list(self._running.values())

    @property
    def ours(self) -> list[AcceptedRun]:
        """Who is carried out and needs this process."""
        return [
            entry
            for entry in self._running.values()
            if entry.execution is None or not entry.execution.goes_on_alone
        ]

    @property
    def waiting(self) -> list[AcceptedRun]:
        """Who waits."""
        return list(self._waiting)

    def check(self, session: str) -> None:
        """Refuse a run of this session for which there is no place, not even to wait.

        Raises:
            Refusal: ``busy``.
        """
        has_run = session in self._running or any(
            entry.ref.session == session for entry in self._known.unfinished
        )
        if (has_run or not self.free) and len(self._waiting) >= self._queue_limit:
            raise Refusal(ErrorCode.BUSY, "the queue is full", reason="slots")

    def wait_for(self, entry: AcceptedRun, request: ExecutionRequest) -> None:
        """Put a known run among those who wait, whether there is a place or not."""
        self._waiting[entry] = request
        self._idle.clear()

    def take(self) -> tuple[AcceptedRun, ExecutionRequest] | None:
        """Give a slot to whoever is next; ``None``: nobody may start now.

        The first to be accepted is the first to start. A session's run waits for those before it,
        also for one that an earlier process left and that has not been dispatched again yet.
        """
        if not self.free:
            return None
        busy = set(self._running)
        for entry in self._known.unfinished:
            if entry.ref.session in busy:
                continue
            busy.add(entry.ref.session)
            if entry in self._waiting:
                self._running[entry.ref.session] = entry
                return entry, self._waiting.pop(entry)
        return None

    def occupy(self, entry: AcceptedRun) -> None:
        """Give a place to a run that is being carried out already, whether there is one or not."""
        self._running[entry.ref.session] = entry
        self._idle.clear()

    def leave(self, entry: AcceptedRun) -> None:
        """It does not wait any more, or gives its slot back."""
        self._waiting.pop(entry, None)
        if self._running.get(entry.ref.session) is entry:
            del self._running[entry.ref.session]
        self._left.set()
        if not self._running and not self._waiting:
            self._idle.set()

    async def wait_for_ours(self) -> None:
        """Wait until nobody waits, and nobody is carried out who needs this process."""
        while self._waiting or self.ours:
            self._left.clear()
            await self._left.wait()

    async def wait_idle(self) -> None:
        """Wait until nobody is carried out and nobody waits."""
        await self._idle.wait()
