"""The outbox: what must arrive waits here until the backend has confirmed it.

Delivery is at least once and in order: an event leaves the outbox when the backend acknowledges it
as committed, and everything that is not acknowledged is sent again on the next connection.
Receivers drop repeats by ``(subtask_id, attempt, seq)``.

Events are held in memory. They outlive every loss of the connection, not the process.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, Protocol

from shared.errors import LinkLost
from shared.logging import get_logger
from shared.protocol.events import NumberedEvent, RunKey
from shared.protocol.local import RunAck, RunStanding

logger = get_logger("outbox")

MAX_IN_FLIGHT: Final = 256
"""Events sent and not yet acknowledged; bounds what a slow link holds in the transport's memory."""

STUCK_AFTER_S: Final = 30.0
"""No acknowledgement for so long on a live connection means reconnect. Source: Delivery 2."""

ASSUME_DELIVERED_AFTER_S: Final = 60.0
"""When a base backend never acknowledges, an event counts as delivered. Source: Delivery 7."""

RETRY_AFTER_S: Final = 1.0
"""Pause before a run's events are sent again after the backend could not commit one."""

Place = tuple[RunKey, int]
"""Where an event stands: its run and its ``seq``."""


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
        *,
        on_superseded: Callable[[RunKey], None],
        stuck_after_s: float = STUCK_AFTER_S,
        assume_delivered_after_s: float = ASSUME_DELIVERED_AFTER_S,
        retry_after_s: float = RETRY_AFTER_S,
    ) -> None:
        """*on_superseded* is told when the backend does not want a run any more."""
        self._on_superseded = on_superseded
        self._stuck_after_s = stuck_after_s
        self._assume_delivered_after_s = assume_delivered_after_s
        self._retry_after_s = retry_after_s
        self._waiting: dict[Place, NumberedEvent] = {}
        self._seqs: dict[RunKey, deque[int]] = {}
        self._to_send: deque[Place] = deque()
        self._in_flight: set[Place] = set()
        self._retrying: set[RunKey] = set()
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._connected = False
        self._acks = True
        self._last_ack = 0.0
        self.on_connected: Callable[[], None] = lambda: None
        """Called when a connection starts to take events."""

    @property
    def connected(self) -> bool:
        """Whether a connection takes events right now."""
        return self._connected

    @property
    def depth(self) -> int:
        """How many events wait for their acknowledgement."""
        return len(self._waiting)

    def waits_for(self, key: RunKey) -> bool:
        """Whether events of this run are not yet acknowledged."""
        return key in self._seqs

    def put(self, event: NumberedEvent) -> None:
        """Take *event*; a repeat of one that still waits changes nothing."""
        place = (event.run.key, event.seq)
        if place in self._waiting:
            return
        self._waiting[place] = event
        self._seqs.setdefault(event.run.key, deque()).append(event.seq)
        self._to_send.append(place)
        self._settled.clear()
        self._changed.set()

    def drop(self, key: RunKey) -> None:
        """Forget a run's events: nobody wants them any more."""
        self._acknowledge(key, None)

    def register_standing(self, standings: Sequence[RunStanding]) -> None:
        """Take what the backend says it has, from the answer to a register."""
        for standing in standings:
            key = (str(standing.subtask_id), standing.attempt)
            if standing.unknown or standing.superseded:
                self.drop(key)
                self._on_superseded(key)
            elif standing.seq is not None:
                self._acknowledge(key, standing.seq)

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
        loop = asyncio.get_running_loop()
        self._to_send = deque(self._waiting)
        self._in_flight.clear()
        self._acks = acks
        self._last_ack = loop.time()
        sent: deque[tuple[float, Place]] = deque()
        self._connected = True
        self.on_connected()
        try:
            while True:
                self._changed.clear()
                while self._to_send and (not acks or len(self._in_flight) < MAX_IN_FLIGHT):
                    place = self._to_send.popleft()
                    event = self._waiting.get(place)
                    if event is None:
                        continue
                    if not self._in_flight:
                        self._last_ack = loop.time()
                    self._in_flight.add(place)
                    answer = await sender.send_event(event)
                    answer.add_done_callback(functools.partial(self._on_answer, place))
                    if not acks:
                        sent.append((loop.time(), place))
                self._note_settled()
                await self._wait_for_change(sent)
        finally:
            self._connected = False
            self._in_flight.clear()

    async def _wait_for_change(self, sent: deque[tuple[float, Place]]) -> None:
        """Wait for a new event, an acknowledgement, or the moment when time itself decides."""
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        if self._acks and self._in_flight:
            deadline = self._last_ack + self._stuck_after_s
        elif sent:
            deadline = sent[0][0] + self._assume_delivered_after_s
        try:
            async with asyncio.timeout_at(deadline):
                await self._changed.wait()
        except TimeoutError:
            if self._acks:
                raise LinkLost(
                    f"the backend has acknowledged nothing for {self._stuck_after_s:.0f} s"
                ) from None
            while sent and sent[0][0] + self._assume_delivered_after_s <= loop.time():
                key, seq = sent.popleft()[1]
                self._acknowledge(key, seq)

    def _on_answer(self, place: Place, answer: asyncio.Future[RunAck | None]) -> None:
        self._in_flight.discard(place)
        self._changed.set()
        if answer.cancelled() or answer.exception() is not None:
            return  # the connection is gone; the next one sends it again
        key, seq = place
        ack = answer.result()
        self._last_ack = asyncio.get_running_loop().time()
        if ack is None or (ack.success and ack.acked is None):
            self._acknowledge(key, seq)
        elif ack.code == "superseded":
            self.drop(key)
            self._on_superseded(key)
        elif ack.code == "invalid":
            logger.error("event %d of run %s was skipped as unusable: %s", seq, key[0], ack.error)
            self._acknowledge(key, max(seq, ack.acked or 0))
        else:
            self._acknowledge(key, ack.acked or 0)
            if place in self._waiting:
                self._send_again_later(key, ack.error)

    def _acknowledge(self, key: RunKey, up_to: int | None) -> None:
        """Forget the run's events up to *up_to*; ``None``: all of them."""
        seqs = self._seqs.get(key)
        if seqs is None:
            return
        while seqs and (up_to is None or seqs[0] <= up_to):
            del self._waiting[(key, seqs.popleft())]
        if not seqs:
            del self._seqs[key]
        self._changed.set()
        self._note_settled()

    def _send_again_later(self, key: RunKey, error: str | None) -> None:
        if key in self._retrying:
            return
        logger.warning("events of run %s were not committed: %s", key[0], error or "no reason")
        self._retrying.add(key)
        asyncio.get_running_loop().call_later(self._retry_after_s, self._send_again, key)

    def _send_again(self, key: RunKey) -> None:
        self._retrying.discard(key)
        again: list[Place] = [(key, seq) for seq in self._seqs.get(key, ())]
        self._to_send = deque([*again, *(p for p in self._to_send if p[0] != key)])
        self._changed.set()

    def _note_settled(self) -> None:
        if not self._waiting or (not self._acks and self._connected and not self._to_send):
            self._settled.set()
