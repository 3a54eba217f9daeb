"""Which events of which run wait for the backend: numbers only, the events are on the disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from executor.delivery.event_rows import Held
from shared.protocol.events import RunKey, RunRef


@dataclass(slots=True, eq=False)
class Account:
    """One run: *first* to *last* wait, the ends included; none when *first* is beyond *last*."""

    run: RunRef
    first: int
    last: int
    ended: bool = False
    """Whether the last is the verdict."""

    @property
    def waiting(self) -> int:
        """How many events wait."""
        return max(0, self.last - self.first + 1)


class Ledger:
    """The accounts of all runs that may still have something to tell."""

    def __init__(self, held: Iterable[Held]) -> None:
        self._accounts = {
            h.run.key: Account(h.run, h.first, h.last, h.ended) for h in held if h.first <= h.last
        }
        self.waiting = sum(account.waiting for account in self._accounts.values())
        """How many events wait, of all runs together."""

    def of(self, key: RunKey) -> Account | None:
        """The run's account; another object after the run was forgotten."""
        return self._accounts.get(key)

    def waits_for(self, key: RunKey, seq: int | None = None) -> bool:
        """Whether this event waits; ``None``: whether any event of the run does."""
        account = self._accounts.get(key)
        if account is None:
            return False
        if seq is None:
            return account.waiting > 0
        return account.first <= seq <= account.last

    def last_seq(self, key: RunKey) -> int:
        """The last number in use, here or at the backend; 0 when nothing is known."""
        account = self._accounts.get(key)
        return account.last if account is not None else 0

    def know(self, run: RunRef, last_seq: int) -> None:
        """Keep an account of a run that has told *last_seq* events, whether or not any waits."""
        self._accounts.setdefault(run.key, Account(run, last_seq + 1, last_seq))

    @property
    def ended(self) -> list[RunRef]:
        """The runs whose verdict waits."""
        return [account.run for account in self._accounts.values() if account.ended]

    def add(self, run: RunRef, seq: int, *, ended: bool) -> bool:
        """Note one more event; False when it is a repeat of one that waits."""
        account = self._accounts.get(run.key)
        if account is None:
            account = self._accounts[run.key] = Account(run, seq, seq - 1)
        elif account.first <= seq <= account.last:
            return False
        if not account.waiting:
            account.first = seq
        account.last = seq
        account.ended = ended
        self.waiting += 1
        return True

    def acknowledge(self, key: RunKey, up_to: int) -> bool:
        """The backend has everything up to *up_to*; False when that is nothing new.

        It may have more than is known here, after a loss of power.
        """
        account = self._accounts.get(key)
        if account is None or up_to < account.first:
            return False
        self.waiting -= account.waiting
        account.first = up_to + 1
        account.last = max(account.last, up_to)
        self.waiting += account.waiting
        if account.ended and not account.waiting:
            del self._accounts[key]
        return True

    def reopen(self, key: RunKey, committed: int) -> tuple[RunRef, int, int] | None:
        """What a backend that has only *committed* lacks and is gone here: ``(run, first, last)``.

        It waits again from then on. ``None`` when nothing is missing.
        """
        account = self._accounts.get(key)
        if account is None or committed >= account.first - 1:
            return None
        gap = (account.run, committed + 1, account.first - 1)
        self.waiting += account.first - 1 - committed
        account.first = committed + 1
        return gap

    def forget(self, key: RunKey) -> None:
        """Close the run's account."""
        account = self._accounts.pop(key, None)
        if account is not None:
            self.waiting -= account.waiting
