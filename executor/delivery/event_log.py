"""The event log: what runs have told is kept after it was read, so that many can read it.

Docker mode has it in the place of the outbox, over the same table. Here each event gets its
``sequence``: from 1 per run, without gaps, over all attempts. A loss of power may cost the last
events; then a placeholder stands for all numbers that somebody may have seen. Readers keep their
own places, and are woken by the hub when something new is committed.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Self

from executor.delivery import log_rows
from executor.delivery.boot import boot_id
from executor.delivery.bound_keeper import BoundKeeper
from executor.delivery.bounding import Bounds
from executor.delivery.log_rows import Kept
from executor.delivery.state import FINISHED_KEPT_S, StateStore
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunKey, RunRef
from shared.web.hub import Hub

PAGE_EVENTS: Final = 100
"""Events read at once at most; fewer when they are large."""

LOST_AT_MOST: Final = 100_000
"""More events of one run than a loss of power can cost: what is told within some seconds."""

_STEP: Final = 2
"""Positions are given as the outbox gives them: the ones between are for placeholders."""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event with its place among all events of its run."""

    run: RunRef
    sequence: int
    event: AgentEvent
    progress: int
    created_at: float
    """When it was written, by the clock of the state store."""
    _of: _Run = field(repr=False, compare=False)

    @property
    def ends_run(self) -> bool:
        """Whether it is the verdict of the attempt that is the run's newest one at this moment."""
        return self.event.terminal and self.run.attempt == self._of.accepted

    @property
    def type(self) -> str:
        """``category.action``."""
        return self.event.type

    @property
    def data(self) -> Mapping[str, Any]:
        """What it says."""
        return self.event.data

    def to_dict(self) -> dict[str, Any]:
        """The shape that every door shows."""
        event = self.event
        return {
            "run_id": self.run.key[0],
            "sequence": self.sequence,
            "timestamp": event.timestamp,
            "source": event.source.to_dict() if event.source is not None else None,
            "event": {"category": event.category, "action": event.action},
            "data": event.data,
        }


@dataclass(frozen=True, slots=True)
class LogStanding:
    """How a run stands by what it has told."""

    run: RunRef
    """Its newest attempt."""
    state: Literal["queued", "running", "completed", "failed", "cancelled"]
    sequence: int
    """Of its last event; 0: it has told nothing."""
    begins_after: int
    """The sequence of the last event of the attempts before the newest; 0: none told any."""
    progress: int
    finished_at: int | None
    """The sequence of its verdict."""
    verdict: LoggedEvent | None


@dataclass(slots=True)
class _Attempt:
    number: int
    base: int
    """The sequence of the last event of the attempts before it."""
    last: int
    """The number of its own last event."""


@dataclass(slots=True)
class _Run:
    accepted: int | None = None
    """The newest attempt that is known; ``None``: none is, or it is forgotten."""
    attempts: list[_Attempt] = field(default_factory=list)
    """Those that have told something, in order."""

    @property
    def sequence(self) -> int:
        last = self.attempts[-1] if self.attempts else None
        return 0 if last is None else last.base + last.last

    def base_of(self, attempt: int) -> int:
        found = next((known.base for known in self.attempts if known.number == attempt), None)
        return self.sequence if found is None else found


class EventLog:
    """Takes what the reporter tells, and keeps it until its run is forgotten.

    It is also what the supervisor has written down of runs (``Records``): when one attempt gives
    way to another, what it has told stays; 7 days after the verdict all of a run goes.
    """

    def __init__(self, store: StateStore, kept: Kept, *, bounds: Bounds | None = None) -> None:
        """Use :meth:`open`."""
        self._store = store
        self._runs: dict[str, _Run] = {}
        self._position = kept.last_position
        self._unwritten: deque[tuple[int, str]] = deque()
        """Positions that are not committed yet, with whose events they are."""
        self.hub = Hub()
        """Wakes those who follow a run, once there is something new to read."""
        self.on_connected: Callable[[], None] = lambda: None
        for run_id, attempts in kept.last_seqs.items():
            run = self._runs.setdefault(run_id, _Run())
            for attempt, last in attempts:
                run.attempts.append(_Attempt(attempt, run.sequence, last))
        for run_id, attempt in kept.accepted.items():
            self._runs.setdefault(run_id, _Run()).accepted = attempt
        self._keeper = BoundKeeper(
            store,
            bounds or Bounds(),
            warning="the log of events is full, or old: the oldest are dropped from now on",
            holds_any=lambda: bool(self._runs),
            has_spare=lambda: True,
        )
        for ref, progress in kept.shortened:
            self._pass_over(ref, progress)

    @classmethod
    async def open(
        cls,
        store: StateStore,
        *,
        bounds: Bounds | None = None,
        boot_id: Callable[[], str | None] = boot_id,
    ) -> Self:
        """Go on with what *store* holds; :meth:`close` before it is closed.

        Before anything else reads the runs of *store*: the old ones are forgotten here.

        Args:
            store: Holds the events.
            bounds: How much of them.
            boot_id: See :func:`executor.delivery.boot.boot_id`.
        """
        forgotten_before = store.now() - FINISHED_KEPT_S
        boot = await asyncio.to_thread(boot_id)
        await store.submit(lambda db: log_rows.forget_old(db, forgotten_before))
        return cls(store, await store.submit(lambda db: log_rows.begin(db, boot)), bounds=bounds)

    async def close(self) -> None:
        """Stop all timers; what was put is the store's to write."""
        self._store.tell(log_rows.end)
        await self._keeper.close()

    # --- What the reporter needs ----------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Always: whoever reads comes when they want."""
        return True

    def put(self, event: NumberedEvent) -> None:
        """Take *event*; those of one run come in the order of their numbers, without gaps.

        A repeat changes nothing, and neither does what an attempt tells that has given way.
        """
        run_id, number = event.run.key
        run = self._runs.setdefault(run_id, _Run())
        if run.accepted is not None and number < run.accepted:
            return
        if not run.attempts or run.attempts[-1].number < number:
            run.attempts.append(_Attempt(number, run.sequence, 0))
        attempt = run.attempts[-1]
        if attempt.number != number or event.seq <= attempt.last:
            return
        attempt.last = event.seq
        self._position += _STEP
        self._unwritten.append((self._position, run_id))
        self._store.add_event(self._position, event, written=self._note_written)
        self._keeper.grown()

    def know(self, run: RunRef, last_seq: int) -> None:
        """Nothing: what earlier processes have written is known."""

    def last_seq(self, key: RunKey) -> int:
        """The number of the last event of this attempt; 0: it has told nothing."""
        run = self._runs.get(key[0], _Run())
        return next((known.last for known in run.attempts if known.number == key[1]), 0)

    def waits_for(self, key: RunKey) -> bool:
        """Never: nothing has to be delivered before a run may be forgotten."""
        return False

    def drop(self, key: RunKey) -> None:
        """Nothing: what was told stays, see :meth:`forget_run`."""

    def repeat_verdict(self, run: RunRef, seq: int) -> None:
        """Nothing: the verdict can be read."""

    def _pass_over(self, run: RunRef, progress: int) -> None:
        """Use no number again that a reader may have seen before the power was lost."""
        last = self.last_seq(run.key)
        event = AgentEvent(EventType.TRUNCATED, {"covers_from": last + 1})
        self.put(NumberedEvent(run, last + LOST_AT_MOST, event, progress))

    def _note_written(self, position: int) -> None:
        changed = set()
        while self._unwritten and self._unwritten[0][0] <= position:
            changed.add(self._unwritten.popleft()[1])
        for run_id in changed:
            self.hub.run_changed(run_id)

    # --- What the supervisor has written down ---------------------------------------------------

    def accept(self, run: RunRef) -> asyncio.Future[None]:
        """Write an accepted run down; done when that survives the loss of power."""
        self._runs.setdefault(run.key[0], _Run()).accepted = run.attempt
        return self._store.accept(run)

    def save_time(self, key: RunKey, used_s: float, limit_s: float | None) -> None:
        """Write down how much of its time a run has used."""
        self._store.save_time(key, used_s, limit_s)

    def forget_run(self, key: RunKey) -> None:
        """Forget an attempt; what it has told goes, too, unless another is accepted at once."""
        run_id, attempt = key
        self._store.tell(lambda db: log_rows.forget_attempt(db, key))
        run = self._runs.get(run_id)
        if run is not None and run.accepted == attempt:
            run.accepted = None
            asyncio.get_running_loop().call_soon(self._forget_unless_accepted, run_id)

    def _forget_unless_accepted(self, run_id: str) -> None:
        run = self._runs.get(run_id)
        if run is not None and run.accepted is None:
            del self._runs[run_id]
            self._store.tell(lambda db: log_rows.forget(db, run_id))

    # --- What readers need ----------------------------------------------------------------------

    def last_sequence(self, run_id: str) -> int:
        """The sequence of the run's last event, which may not be committed yet; 0: none."""
        return self._runs.get(run_id, _Run()).sequence

    async def after(
        self, run_id: str, sequence: int, limit: int = PAGE_EVENTS
    ) -> list[LoggedEvent]:
        """The committed events that follow *sequence*, in order, at most *limit* of them.

        Fewer when they are large; none when there are none.
        """
        run = self._runs.get(run_id)
        if run is None or run.sequence <= sequence:
            return []
        keys = [
            ((run_id, attempt.number), max(0, sequence - attempt.base))
            for attempt in run.attempts
            if attempt.base + attempt.last > sequence
        ]
        found = await self._store.submit(lambda db: log_rows.read_after(db, keys, limit))
        return [self._logged(run, event, created_at) for event, created_at in found]

    async def standing(self, run_id: str) -> LogStanding | None:
        """How a run stands; ``None`` when it is not known."""
        row = await self._store.submit(lambda db: log_rows.read_run(db, run_id))
        run = self._runs.get(run_id)
        if row is None or run is None:
            return None
        begins_after = run.base_of(row.attempt)
        sequence = begins_after + row.last_seq
        verdict = None if row.verdict is None else self._logged(run, row.verdict, 0.0)
        task_id, subtask_id = json.loads(row.ids)
        return LogStanding(
            RunRef(task_id, subtask_id, row.attempt),
            _STATES[row.state if row.verdict is None else row.verdict.event.type],
            sequence,
            begins_after,
            row.progress,
            finished_at=None if verdict is None else sequence,
            verdict=verdict,
        )

    def _logged(self, run: _Run, event: NumberedEvent, created_at: float) -> LoggedEvent:
        base = run.base_of(event.run.attempt)
        told = event.event
        if told.type == EventType.TRUNCATED:
            covers_from = base + told.data.get("covers_from", event.seq)
            told = replace(told, data={**told.data, "covers_from": covers_from})
        return LoggedEvent(
            event.run,
            base + event.seq,
            told,
            event.progress,
            created_at,
            run,
        )


_STATES: Final[Mapping[str, Literal["queued", "running", "completed", "failed", "cancelled"]]] = {
    "queued": "queued",
    "running": "running",
    EventType.COMPLETED: "completed",
    EventType.FAILED: "failed",
    EventType.CANCELLED: "cancelled",
}
