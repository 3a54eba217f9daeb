"""What one connection has sent and the backend has not confirmed, and since when.

Times are the event loop's, in seconds.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from executor.delivery.ledger import Account
from shared.protocol.events import RunKey


class InFlight:
    """Sent to a backend that acknowledges by ``seq``; each run counts for itself."""

    def __init__(self) -> None:
        self._seqs: dict[RunKey, list[int]] = {}
        """Heaps."""
        self._since: dict[RunKey, float] = {}
        """Since when each run waits for its count to advance; the one that waits longest first."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def oldest(self) -> float | None:
        """Since when a run has waited in vain, of all the one for longest; ``None``: none does."""
        return next(iter(self._since.values()), None)

    def sent(self, key: RunKey, seq: int, now: float) -> None:
        """An event is on its way."""
        heapq.heappush(self._seqs.setdefault(key, []), seq)
        self._count += 1
        self._since.setdefault(key, now)

    def advanced(self, key: RunKey, up_to: int, now: float) -> None:
        """The backend has committed more of the run: up to *up_to*."""
        seqs = self._seqs.get(key, [])
        while seqs and seqs[0] <= up_to:
            heapq.heappop(seqs)
            self._count -= 1
        self._since.pop(key, None)
        if seqs:
            self._since[key] = now
        else:
            self._seqs.pop(key, None)

    def given_back(self, key: RunKey) -> None:
        """What was sent of a run is about to be sent again; that it waits does not end by this."""
        self._count -= len(self._seqs.pop(key, ()))

    def forget(self, key: RunKey) -> None:
        """Nobody waits for this run any more."""
        self.given_back(key)
        self._since.pop(key, None)


class SentWithoutAcks:
    """Sent to a backend that does not acknowledge: counts as delivered after a while.

    Of each short stretch of time only every run's last number is kept, so that it stays small.
    """

    def __init__(self, after_s: float) -> None:
        """*after_s*: how long after it was sent an event counts as delivered."""
        self._after_s = after_s
        self._stretch_s = after_s / 60
        self._stretches: deque[tuple[float, dict[Account, int]]] = deque()

    @property
    def due_at(self) -> float | None:
        """When the next events count as delivered; ``None`` when none waits."""
        if not self._stretches:
            return None
        return self._stretches[0][0] + self._stretch_s + self._after_s

    def sent(self, run: Account, seq: int, now: float) -> None:
        """An event was handed to the transport."""
        if not self._stretches or now >= self._stretches[-1][0] + self._stretch_s:
            self._stretches.append((now, {}))
        last = self._stretches[-1][1]
        last[run] = max(seq, last.get(run, 0))

    def take_due(self, now: float) -> Iterator[tuple[Account, int]]:
        """The runs, each with the ``seq`` up to which it counts as delivered by *now*."""
        while self._stretches and self._stretches[0][0] + self._stretch_s + self._after_s <= now:
            yield from self._stretches.popleft()[1].items()
