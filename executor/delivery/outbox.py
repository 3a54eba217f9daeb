"""The outbox: what must arrive waits here until the backend has confirmed it.

Delivery is at least once and in order: an event is written down before it is sent, leaves the
outbox when the backend acknowledges it as committed, and everything that is not acknowledged is
sent again on the next connection. Receivers drop repeats by ``(subtask_id, attempt, seq)``.

While a connection keeps up, events go from memory to the transport as soon as their commit is done.
What it has fallen behind with, and everything told during an outage, is only on the disk, and is
read in pages when its turn comes.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, Protocol, Self

from executor.delivery.bound_keeper import BoundKeeper
from executor.delivery.bounding import Bounds
from executor.delivery.in_flight import InFlight, SentWithoutAcks
from executor.delivery.ledger import Account, Ledger
from executor.delivery.send_queue import SendQueue
from executor.delivery.state import Outstanding, StateStore
from shared.errors import LinkLost
from shared.logging import get_logger
from shared.protocol.events import EventType, NumberedEvent, RunKey, RunRef
from shared.protocol.local import RunAck, RunStanding

logger = get_logger("outbox")

MAX_IN_FLIGHT: Final = 256
"""Events sent and not yet acknowledged; bounds what a slow link holds in the transport's memory."""

STUCK_AFTER_S: Final = 30.0
"""A run whose sent events nobody acknowledges for so long means reconnect. Source: Delivery 2."""

ASSUME_DELIVERED_AFTER_S: Final = 60.0
"""When a base backend never acknowledges, an event counts as delivered. Source: Delivery 7."""

RETRY_AFTER_S: Final = 1.0
"""Pause before a run's events are sent again after the backend could not commit one."""

DELETE_AFTER_S: Final = 0.05
"""How long acknowledgements are gathered before their events are deleted from the disk."""


class Sender(Protocol):
    """One live connection, as the outbox sees it."""

    async def send_event(self, event: NumberedEvent) -> asyncio.Future[RunAck | None]:
        """Hand *event* to the transport, in the order of the calls.

        The future gets the acknowledgement when it comes, ``None`` for one without content.

        Raises:
            LinkLost: The connection is gone; the event may or may not have arrived.
        """
        ...


class Outbox:
    """Events on their way to the backend, in the order in which they were put."""

    def __init__(
        self,
        store: StateStore,
        outstanding: Outstanding,
        *,
        on_superseded: Callable[[RunKey], None],
        stuck_after_s: float = STUCK_AFTER_S,
        assume_delivered_after_s: float = ASSUME_DELIVERED_AFTER_S,
        retry_after_s: float = RETRY_AFTER_S,
        bounds: Bounds | None = None,
    ) -> None:
        """Go on with what *store* holds; :meth:`close` before it is closed.

        Args:
            store: Holds the events.
            outstanding: What it holds now.
            on_superseded: Told when the backend does not want a run any more.
            stuck_after_s: See :data:`STUCK_AFTER_S`.
            assume_delivered_after_s: See :data:`ASSUME_DELIVERED_AFTER_S`.
            retry_after_s: See :data:`RETRY_AFTER_S`.
            bounds: What may wait; ``None``: as the design says.
        """
        self._store = store
        self._ledger = Ledger(outstanding.held)
        self._changed = asyncio.Event()
        self._queue = SendQueue(
            store,
            outstanding.last_position,
            waits_for=self._ledger.waits_for,
            on_change=self._changed.set,
        )
        self._on_superseded = on_superseded
        self._stuck_after_s = stuck_after_s
        self._assume_delivered_after_s = assume_delivered_after_s
        self._retry_after_s = retry_after_s
        self._in_flight = InFlight()
        self._retrying: set[RunKey] = set()
        self._acked: dict[RunKey, int] = {}
        """What is to be deleted from the disk soon."""
        self._deleting: asyncio.TimerHandle | None = None
        self._settled = asyncio.Event()
        self._connected = False
        self._acks = True
        self.on_connected: Callable[[], None] = lambda: None
        """Called when a connection starts to take events."""
        self._note_settled()
        self._keeper = BoundKeeper(
            store,
            bounds or Bounds(),
            warning="the backend is away for long: the oldest events are dropped from now on",
            holds_any=lambda: self._ledger.waiting > 0,
            has_spare=lambda: self._ledger.waiting == 0,
            after=lambda: self._queue.sent if self._connected else 0,
            on_shortened=self._queue.only_on_disk,
        )

    @classmethod
    async def open(
        cls, store: StateStore, *, on_superseded: Callable[[RunKey], None], **options: Any
    ) -> Self:
        """Read what *store* holds and go on with it; *options* as for the class."""
        return cls(store, await store.outstanding(), on_superseded=on_superseded, **options)

    async def close(self) -> None:
        """Hand the last deletions to the store, and stop all timers."""
        self._delete_acknowledged()
        await self._keeper.close()

    @property
    def connected(self) -> bool:
        """Whether a connection takes events right now."""
        return self._connected

    @property
    def depth(self) -> int:
        """How many events wait for their acknowledgement."""
        return self._ledger.waiting

    def waits_for(self, key: RunKey) -> bool:
        """Whether events of this run are not yet acknowledged."""
        return self._ledger.waits_for(key)

    def unheard_verdicts(self) -> list[RunRef]:
        """The runs that have ended, which the backend has not acknowledged."""
        return self._ledger.ended

    def know(self, run: RunRef, last_seq: int) -> None:
        """Be ready to learn how much the backend has of a run from before a restart."""
        self._ledger.know(run, last_seq)

    def last_seq(self, key: RunKey) -> int:
        """The last number of this run that is in use, here or at the backend; 0: none is known."""
        return self._ledger.last_seq(key)

    def put(self, event: NumberedEvent) -> None:
        """Take *event*; a repeat of one that still waits changes nothing.

        Events of one run come in the order of their numbers, without gaps.
        """
        key = event.run.key
        if self._acked.get(key, 0) >= event.seq:
            self._delete_acknowledged()  # what uses a number again must not be deleted with it
        if not self._ledger.add(event.run, event.seq, ended=event.event.terminal):
            return
        self._settled.clear()
        # The store marks the end of a message that has lost some of its text.
        may_be_marked = self._keeper.events_lost and event.event.type == EventType.LLM_DONE
        self._queue.put(event, in_memory=self._connected and not may_be_marked)
        self._keeper.grown()

    def repeat_verdict(self, run: RunRef, seq: int) -> None:
        """Send the verdict that the store keeps of a finished run once more; *seq* is its number.

        Nothing changes when it still waits.
        """
        self._delete_acknowledged()
        if self._ledger.add(run, seq, ended=True):
            self._settled.clear()
            self._store.add_verdict(run.key, self._queue.next_position())
            self._queue.only_on_disk()

    def drop(self, key: RunKey) -> None:
        """Forget a run's events: nobody wants them any more."""
        self._ledger.forget(key)
        self._in_flight.forget(key)
        self._acked.pop(key, None)
        self._store.delete_events(key)
        self._queue.drop(key)
        self._changed.set()
        self._note_settled()

    def register_standing(self, standings: Sequence[RunStanding]) -> None:
        """Take what the backend says it has, from the answer to a register."""
        for standing in standings:
            key = (str(standing.subtask_id), standing.attempt)
            if standing.unknown or standing.superseded:
                self.drop(key)
                self._on_superseded(key)
            elif standing.seq is not None:
                self._acknowledge(key, standing.seq)
                self._fill_gap(key, standing.seq)

    async def wait_empty(self) -> None:
        """Wait until nothing is left to deliver.

        For a backend that does not acknowledge: until everything was handed to the transport.
        """
        await self._settled.wait()

    async def pump(self, sender: Sender, *, acks: bool) -> NoReturn:
        """Send everything that waits, then follow; one at a time, for one connection.

        Args:
            sender: The connection.
            acks: Whether the backend acknowledges with ``seq``; otherwise an event also counts as
                delivered once the connection has held for a while after it was sent.

        Raises:
            LinkLost: The connection is gone, or the backend has stopped acknowledging.
        """
        self._queue.begin()
        self._delete_acknowledged()
        self._in_flight = InFlight()
        unacknowledged = SentWithoutAcks(self._assume_delivered_after_s)
        self._acks = acks
        self._connected = True
        self.on_connected()
        try:
            while True:
                self._changed.clear()
                while len(self._in_flight) < MAX_IN_FLIGHT:
                    event = await self._queue.next()
                    if event is None:
                        break
                    await self._send(event, sender, unacknowledged)
                self._note_settled()
                await self._wait_for_change(unacknowledged)
        finally:
            self._connected = False
            if self._ledger.waiting:
                self._settled.clear()  # what was only handed over may be lost
            self._in_flight = InFlight()
            self._queue.end()

    async def _send(
        self, event: NumberedEvent, sender: Sender, unacknowledged: SentWithoutAcks
    ) -> None:
        run = self._ledger.of(event.run.key)
        if run is None:
            return  # dropped in this moment
        if self._acks:
            self._in_flight.sent(event.run.key, event.seq, _now())
        answer = await sender.send_event(event)
        answer.add_done_callback(functools.partial(self._on_answer, run, event.seq))
        if not self._acks:
            unacknowledged.sent(run, event.seq, _now())

    # --- Answers --------------------------------------------------------------------------------

    async def _wait_for_change(self, unacknowledged: SentWithoutAcks) -> None:
        """Wait for a new event, an acknowledgement, or the moment when time itself decides."""
        waiting_since = self._in_flight.oldest
        stuck_at = None if waiting_since is None else waiting_since + self._stuck_after_s
        try:
            async with asyncio.timeout_at(stuck_at if self._acks else unacknowledged.due_at):
                await self._changed.wait()
        except TimeoutError:
            if self._acks:
                raise LinkLost(
                    f"the backend has acknowledged nothing of a run for {self._stuck_after_s:.0f} s"
                ) from None
            for run, seq in unacknowledged.take_due(_now()):
                if self._ledger.of(run.run.key) is run:
                    self._acknowledge(run.run.key, seq)

    def _on_answer(self, run: Account, seq: int, answer: asyncio.Future[RunAck | None]) -> None:
        if answer.cancelled() or answer.exception() is not None:
            return  # the connection is gone; the next one sends it again
        key = run.run.key
        if self._ledger.of(key) is not run:
            return  # that run was dropped, and this key may be another's
        # What a base backend answers may have any shape.
        ack = answer.result() or RunAck(success=not self._acks, error="an unreadable answer")
        if ack.success and ack.acked is None:
            self._acknowledge(key, seq)
        elif ack.code == "superseded":
            self.drop(key)
            self._on_superseded(key)
        elif ack.code == "invalid":
            logger.error("event %d of run %s was skipped as unusable: %s", seq, key[0], ack.error)
            self._acknowledge(key, max(seq, ack.acked or 0))
        else:
            acked = ack.acked or 0
            self._acknowledge(key, acked)
            if self._ledger.waits_for(key, seq):
                if ack.acked is not None:
                    self._fill_gap(key, acked)
                self._send_again_later(key, ack.error)

    def _acknowledge(self, key: RunKey, up_to: int) -> None:
        """Forget the run's events up to *up_to*."""
        if not self._ledger.acknowledge(key, up_to):
            return
        self._in_flight.advanced(key, up_to, _now())
        self._acked[key] = up_to
        if self._deleting is None:
            loop = asyncio.get_running_loop()
            self._deleting = loop.call_later(DELETE_AFTER_S, self._delete_acknowledged)
        self._changed.set()
        self._note_settled()

    def _delete_acknowledged(self) -> None:
        if self._deleting is not None:
            self._deleting.cancel()
            self._deleting = None
        if self._acked:
            acked, self._acked = self._acked, {}
            self._store.delete_acknowledged(acked)

    def _fill_gap(self, key: RunKey, committed: int) -> None:
        """Tell a backend that has forgotten what was acknowledged what it cannot have again."""
        gap = self._ledger.reopen(key, committed)
        if gap is None:
            return
        run, first, last = gap
        self._delete_acknowledged()
        logger.warning("the backend has lost events %d to %d of run %s", first, last, key[0])
        self._settled.clear()
        self._store.fill_gap(run, first, last, self._queue.next_position())
        self._queue.only_on_disk()

    def _send_again_later(self, key: RunKey, error: str | None) -> None:
        if key in self._retrying:
            return
        logger.warning("events of run %s were not committed: %s", key[0], error or "no reason")
        self._retrying.add(key)
        asyncio.get_running_loop().call_later(self._retry_after_s, self._send_again, key)

    def _send_again(self, key: RunKey) -> None:
        self._retrying.discard(key)
        self._in_flight.given_back(key)
        self._queue.send_again(key)

    def _note_settled(self) -> None:
        handed_over = not self._acks and self._connected and self._queue.empty
        if not self._ledger.waiting or handed_over:
            self._settled.set()


def _now() -> float:
    return asyncio.get_running_loop().time()
