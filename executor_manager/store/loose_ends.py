"""What an attempt leaves open when it ends by our word and not by its node's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from executor_manager.store.database import Transaction
from executor_manager.store.head import Head
from executor_manager.store.tables import events, questions
from shared.protocol.events import EventType


@dataclass(frozen=True, slots=True)
class OwnEvent:
    """An event of the control plane itself."""

    type: str
    data: Mapping[str, Any]
    source: Mapping[str, Any] | None = None


async def loose_ends(
    transaction: Transaction, head: Head, *, error: str, code: str, outcome: str
) -> list[OwnEvent]:
    """The events that end what the attempt has begun: chat messages, and questions.

    Args:
        error: A sentence for the messages.
        code: The stable code beside it.
        outcome: What becomes of the questions.
    """
    return [
        *await _messages(transaction, head, {"error": error, "code": code}),
        *await _questions(transaction, head, outcome),
    ]


async def _messages(
    transaction: Transaction, head: Head, reason: Mapping[str, Any]
) -> list[OwnEvent]:
    told = await transaction.connection.execute(
        select(events.c.type, events.c.source, events.c.data["message_id"].label("message_id"))
        .where(
            events.c.run_id == head.run_id,
            events.c.attempt == head.attempt,
            events.c.type.in_([EventType.LLM_START, EventType.LLM_DONE, EventType.LLM_ERROR]),
        )
        .order_by(events.c.sequence)
    )
    begun: dict[str, OwnEvent] = {}
    for row in told:
        if not isinstance(row.message_id, str):
            continue
        if row.type == EventType.LLM_START:
            data = {"message_id": row.message_id, **reason}
            begun[row.message_id] = OwnEvent(EventType.LLM_ERROR, data, row.source)
        else:
            begun.pop(row.message_id, None)
    return list(begun.values())


async def _questions(transaction: Transaction, head: Head, outcome: str) -> list[OwnEvent]:
    asked = await transaction.connection.execute(
        select(questions.c.request_id)
        .where(questions.c.run_id == head.run_id, questions.c.outcome.is_(None))
        .order_by(questions.c.sequence)
    )
    return [
        OwnEvent(EventType.INPUT_RESOLVED, {"request_id": request_id, "outcome": outcome})
        for request_id in asked.scalars()
    ]
