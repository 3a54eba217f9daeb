"""Reads and writes of the event log inside a transaction that the caller owns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Boolean, and_, bindparam, case, delete, func, insert, not_, select, update

from executor_manager.store.asked import DENIED, EXPIRED, close_all, follow_log
from executor_manager.store.database import DATABASE_NOW, Transaction
from executor_manager.store.head import Head
from executor_manager.store.loose_ends import loose_ends
from executor_manager.store.records import StoredEvent
from executor_manager.store.tables import events, nodes, runs, secrets, sessions
from shared.protocol.events import TERMINAL_EVENTS, EventType
from shared.status import ErrorCode, RunState

_HEAD_COLUMNS = (
    runs.c.id,
    runs.c.session_id,
    runs.c.state,
    runs.c.attempt,
    runs.c.lease_owner,
    runs.c.last_seq,
    runs.c.last_sequence,
    runs.c.progress,
    runs.c.accepted,
    runs.c.error_code,
)


async def read_heads(transaction: Transaction, run_ids: Iterable[str]) -> dict[str, Head]:
    """Where these runs' logs stand; unknown runs are absent."""
    query = select(*_HEAD_COLUMNS).where(runs.c.id.in_(list(run_ids)))
    return {
        row.id: Head(
            run_id=row.id,
            session_id=row.session_id,
            state=RunState(row.state),
            attempt=row.attempt,
            lease_owner=row.lease_owner,
            last_seq=row.last_seq,
            last_sequence=row.last_sequence,
            progress=row.progress,
            accepted=row.accepted,
            error_code=row.error_code,
        )
        for row in await transaction.connection.execute(query)
    }


async def write_heads(
    transaction: Transaction, heads: Sequence[Head], *, lease_seconds: float = 0
) -> None:
    """Write what was added to these heads, and everything that follows from it.

    Args:
        lease_seconds: How long the lease of a run lasts whose node has told something.
    """
    grown = [head for head in heads if head.added]
    if not grown:
        return
    connection = transaction.connection
    heard = bindparam("heard", type_=Boolean())
    begun = bindparam("begun", type_=Boolean())
    await connection.execute(
        insert(events), [_event_row(event) for head in grown for event in head.added]
    )
    await connection.execute(
        update(runs)
        .where(runs.c.id == bindparam("run_id"))
        .values(
            state=bindparam("new_state"),
            last_seq=bindparam("new_last_seq"),
            last_sequence=bindparam("new_last_sequence"),
            progress=bindparam("new_progress"),
            accepted=bindparam("new_accepted"),
            lease_expiry=case((heard, DATABASE_NOW + lease_seconds), else_=runs.c.lease_expiry),
            unreachable=and_(runs.c.unreachable, not_(heard)),
            started_at=func.coalesce(runs.c.started_at, case((begun, DATABASE_NOW))),
        ),
        [
            {
                "run_id": head.run_id,
                "new_state": head.state.value,
                "new_last_seq": head.last_seq,
                "new_last_sequence": head.last_sequence,
                "new_progress": head.progress,
                "new_accepted": head.accepted,
                "heard": head.heard,
                "begun": head.begun,
            }
            for head in grown
        ],
    )
    for head in grown:
        await follow_log(transaction, head.added)
        if head.sdk_session_id is not None:
            await connection.execute(
                update(sessions)
                .where(sessions.c.id == head.session_id)
                .values(sdk_session_id=head.sdk_session_id, updated_at=DATABASE_NOW)
            )
        if head.state.terminal:
            await _close(transaction, head)
    transaction.run_changed(*(head.run_id for head in grown))


def _event_row(event: StoredEvent) -> dict[str, Any]:
    # asdict() would copy the data, too.
    return {field.name: getattr(event, field.name) for field in fields(event)}


async def _close(transaction: Transaction, head: Head) -> None:
    connection = transaction.connection
    node_id = (
        await connection.execute(
            update(runs)
            .where(runs.c.id == head.run_id)
            .values(
                verdict=head.verdict,
                error_code=head.error_code,
                lease_owner=head.lease_owner,
                lease_expiry=None,
                unreachable=False,
                dispatch_due=False,
                cancel_due=False,
                finished_at=DATABASE_NOW,
            )
            .returning(runs.c.node_id)
        )
    ).scalar_one()
    await close_all(transaction, head.run_id)
    await connection.execute(delete(secrets).where(secrets.c.run_id == head.run_id))
    await connection.execute(
        update(sessions).where(sessions.c.id == head.session_id).values(updated_at=DATABASE_NOW)
    )
    if node_id is not None:  # a slot is free now, whatever it said before
        await connection.execute(update(nodes).where(nodes.c.id == node_id).values(busy_until=0))
    transaction.queue_changed()


async def append_own(
    transaction: Transaction, run_id: str, type_: str, data: Mapping[str, Any]
) -> bool:
    """Add an event of the control plane; before a verdict, the end of what is still open.

    Returns:
        ``False`` when the run is unknown or has a verdict: nothing was added.
    """
    head = (await read_heads(transaction, [run_id])).get(run_id)
    if head is None or head.state.terminal:
        return False
    if type_ in TERMINAL_EVENTS:
        code = str(data.get("error_code") or RunState.CANCELLED)
        error = str(data.get("error") or data.get("reason") or "the run was cancelled")
        outcome = DENIED if type_ == EventType.CANCELLED else EXPIRED
        await _tie_up(transaction, head, error, code, outcome)
    head.extend_own(type_, data)
    await write_heads(transaction, [head])
    return True


async def end_attempt(transaction: Transaction, run_id: str, why: str) -> None:
    """Add the end of what the live run's attempt has left open, as ``lost``."""
    head = (await read_heads(transaction, [run_id]))[run_id]
    await _tie_up(transaction, head, why, ErrorCode.LOST, EXPIRED)
    await write_heads(transaction, [head])


async def _tie_up(
    transaction: Transaction, head: Head, error: str, code: str, outcome: str
) -> None:
    for end in await loose_ends(transaction, head, error=error, code=code, outcome=outcome):
        head.extend_own(end.type, end.data, end.source)
