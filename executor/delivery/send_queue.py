"""The order in which events are sent, and where each of them is read from: memory or the disk.

Every event has a position. What a connection keeps up with is sent from memory once its commit is
done; everything else is read from the disk in pages, so that memory stays flat during an outage.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from executor.delivery.event_rows import Placed
from executor.delivery.state import StateStore
from shared.protocol.events import NumberedEvent, RunKey

MAX_RECENT: Final = 512
"""Events kept in memory for a connection that keeps up; a page of those read from the disk."""

_STEP: Final = 2
"""Events take every second position: the ones between are for placeholders."""


class SendQueue:
    """What is sent next on the present connection."""

    def __init__(
        self,
        store: StateStore,
        last_position: int,
        *,
        waits_for: Callable[[RunKey, int], bool],
        on_change: Callable[[], None],
    ) -> None:
        """Begin without a connection.

        Args:
            store: Holds the events.
            last_position: The highest position in use there.
            waits_for: Whether the backend still has to get an event.
            on_change: Called when :meth:`next` may have something new.
        """
        self._store = store
        self._waits_for = waits_for
        self._on_change = on_change
        self._last = last_position
        """The last position given away."""
        self._written = last_position
        """Up to here everything is committed."""
        self._on_disk = last_position
        """Up to here events have to be read from the disk; what follows is in :attr:`_recent`."""
        self.sent = last_position
        """Up to here everything was sent on this connection."""
        self._recent: deque[Placed] = deque()
        self._page: deque[Placed] = deque()
        """Read from the disk, to be sent next."""
        self._again: set[RunKey] = set()
        """Runs whose events are to be sent again from the first on."""
        self._drops = 0
        """How often runs were dropped: what was read meanwhile may be theirs."""

    @property
    def empty(self) -> bool:
        """Whether everything was sent on this connection."""
        return self.sent >= self._last and not (self._again or self._page)

    def begin(self) -> None:
        """A new connection: everything that waits is sent again."""
        self.sent = 0
        self._again.clear()
        self._page.clear()
        self.only_on_disk()

    def end(self) -> None:
        """The connection is gone: nothing needs to be in memory."""
        self._page.clear()
        self.only_on_disk()

    def next_position(self) -> int:
        """A position after all others."""
        self._last += _STEP
        return self._last

    def put(self, event: NumberedEvent, *, in_memory: bool) -> None:
        """Write *event*, to be sent when its turn has come and it is committed.

        Args:
            in_memory: A connection is there to take it, so keep it at hand.
        """
        position = self.next_position()
        self._store.add_event(position, event, written=self._note_written)
        if in_memory and len(self._recent) < MAX_RECENT:
            self._recent.append((position, event))
        else:
            self.only_on_disk()

    def only_on_disk(self) -> None:
        """Let go of what is in memory: it is read when its turn comes."""
        self._recent.clear()
        self._on_disk = self._last
        self._on_change()

    def send_again(self, key: RunKey) -> None:
        """Send what was sent of a run and still waits once more, before anything else."""
        self._again.add(key)
        self._on_change()

    def drop(self, key: RunKey) -> None:
        """Do not send a run's events."""
        self._drops += 1
        self._again.discard(key)
        for waiting in (self._recent, self._page):
            kept = [placed for placed in waiting if placed[1].run.key != key]
            waiting.clear()
            waiting.extend(kept)

    async def next(self) -> NumberedEvent | None:
        """The next event to send, or ``None`` when there is none now."""
        while True:
            if self._again:
                await self._read_again()
            elif self._page:
                position, event = self._page.popleft()
                self.sent = max(self.sent, position)
                if self._waits_for(event.run.key, event.seq):
                    return event
            elif self.sent < self._on_disk:
                await self._read_page()
            elif self._recent and self._recent[0][0] <= self._written:
                position, event = self._recent.popleft()
                self._on_disk = max(self._on_disk, position)
                if position > self.sent:  # otherwise a page had it already
                    self.sent = position
                    if self._waits_for(event.run.key, event.seq):
                        return event
            else:
                return None

    async def _read_page(self) -> None:
        up_to, drops = self._on_disk, self._drops
        page = await self._store.events_after(self.sent, MAX_RECENT)
        if self._drops != drops:
            return
        self._page.extend(page)
        if len(page) < MAX_RECENT:
            # That was all there is; what was put meanwhile has a higher position.
            self.sent = max(self.sent, up_to)

    async def _read_again(self) -> None:
        key, drops = next(iter(self._again)), self._drops
        events = await self._store.events_of(key, self.sent)
        if self._drops != drops:
            return
        self._again.discard(key)
        self._page.extendleft(reversed(events))

    def _note_written(self, position: int) -> None:
        self._written = position
        self._on_change()
