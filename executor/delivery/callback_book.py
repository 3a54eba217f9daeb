"""Where runs are told by callbacks, and how far that has come: written down in ``state.db``."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass, field
from typing import Final, Literal

from executor.delivery.state import StateStore

CallbackState = Literal["active", "parked", "ended"]
"""``parked``: the receiver has refused one, and only the verdict is still to be sent, if anything.
``ended``: all was sent that could be."""

_COLUMNS: Final = "run_id, url, token, trace_id, acked, state, error, settled"


@dataclass(frozen=True, slots=True)
class CallbackRecord:
    """One run's callbacks."""

    run_id: str
    url: str = field(repr=False)
    token: str | None = field(repr=False)
    """``None``: none is wanted, or nothing is to be sent any more."""
    trace_id: str | None
    acked: int
    """The sequence of the last event whose callback was acknowledged; 0: none was."""
    state: CallbackState
    error: str | None
    """What stood in the way last, without anything secret; ``None``: nothing."""
    settled: bool
    """Whether nothing is to be sent any more."""


class CallbackBook:
    """The table of callbacks. Writes that return nothing log their errors."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    async def unsettled(self) -> list[CallbackRecord]:
        """Those with something to send."""
        return await self._store.submit(lambda db: _read(db, "NOT settled"))

    async def read(self, run_id: str) -> CallbackRecord | None:
        """The callbacks of a run; ``None``: it has none."""
        found = await self._store.submit(lambda db: _read(db, "run_id = ?", run_id))
        return found[0] if found else None

    def expect(
        self, run_id: str, url: str, token: str | None, trace_id: str | None
    ) -> asyncio.Future[None]:
        """From now on a run is told there; what was acknowledged elsewhere is not told again.

        Done when that survives the loss of power.
        """

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO callbacks (run_id, url, token, trace_id) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (run_id) DO UPDATE SET url = excluded.url, token = excluded.token,"
                " trace_id = excluded.trace_id, state = 'active', error = NULL, settled = 0",
                (run_id, url, token, trace_id),
            )

        return self._store.submit(work, durable=True)

    def acknowledged(self, run_id: str, sequence: int) -> None:
        """The callback for this event has arrived."""
        self._update(run_id, "acked = ?", sequence)

    def stands(self, run_id: str, state: CallbackState, error: str | None) -> None:
        """Another state, and why."""
        self._update(run_id, "state = ?, error = ?", state, error)

    def settle(self, run_id: str, state: CallbackState, error: str | None) -> None:
        """Nothing is to be sent any more: let go of the token."""
        self._update(run_id, "state = ?, error = ?, settled = 1, token = NULL", state, error)

    def _update(self, run_id: str, changes: str, *values: object) -> None:
        query = f"UPDATE callbacks SET {changes} WHERE run_id = ?"  # noqa: S608
        self._store.tell(lambda db: db.execute(query, (*values, run_id)))


def _read(db: sqlite3.Connection, where: str, *values: object) -> list[CallbackRecord]:
    rows = db.execute(f"SELECT {_COLUMNS} FROM callbacks WHERE {where}", values)  # noqa: S608
    return [
        CallbackRecord(run_id, url, token, trace_id, acked, state, error, bool(settled))
        for run_id, url, token, trace_id, acked, state, error, settled in rows
    ]
