"""Keeps the table of questions in step with the log, inside a transaction that the caller owns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import delete, insert, update

from executor_manager.store.database import Transaction
from executor_manager.store.records import StoredEvent
from executor_manager.store.tables import questions
from shared.protocol.events import EventType

MAX_REQUEST_ID: Final = 200
"""Characters; a question with a longer id can be read in the log, but not answered."""

EXPIRED: Final = "expired"
DENIED: Final = "denied"
_OUTCOMES: Final = ("answered", DENIED, EXPIRED)


async def follow_log(transaction: Transaction, added: Iterable[StoredEvent]) -> None:
    """Open and resolve questions as these new events of the log say."""
    for event in added:
        request_id = event.data.get("request_id")
        if not isinstance(request_id, str) or not 0 < len(request_id) <= MAX_REQUEST_ID:
            continue
        if event.type == EventType.INPUT_REQUIRED:
            await _open(transaction, event, request_id)
        elif event.type == EventType.INPUT_RESOLVED:
            told = event.data.get("outcome")
            await _resolve(transaction, event.run_id, request_id, str(told))


async def close_all(transaction: Transaction, run_id: str) -> None:
    """The run has ended: nobody waits for an answer any more."""
    await transaction.connection.execute(
        update(questions)
        .where(questions.c.run_id == run_id, questions.c.outcome.is_(None))
        .values(outcome=EXPIRED, answer=None)
    )


async def _open(transaction: Transaction, event: StoredEvent, request_id: str) -> None:
    connection = transaction.connection
    # Asked once more under the same id, it is a new question.
    await connection.execute(
        delete(questions).where(
            questions.c.run_id == event.run_id, questions.c.request_id == request_id
        )
    )
    await connection.execute(
        insert(questions).values(
            run_id=event.run_id,
            request_id=request_id,
            attempt=event.attempt,
            sequence=event.sequence,
            delivered=False,
        )
    )


async def _resolve(transaction: Transaction, run_id: str, request_id: str, told: str) -> None:
    outcome = told if told in _OUTCOMES else EXPIRED
    values: dict[str, object] = {"outcome": outcome, "answer": None}
    if outcome != EXPIRED:  # then it has the answer, even if its word about that was lost
        values["delivered"] = questions.c.fingerprint.is_not(None)
    await transaction.connection.execute(
        update(questions)
        .where(
            questions.c.run_id == run_id,
            questions.c.request_id == request_id,
            questions.c.outcome.is_(None),
        )
        .values(values)
    )
