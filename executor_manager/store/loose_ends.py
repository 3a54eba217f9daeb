"""What an attempt leaves open when it ends by our word and not by its node's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    ends = (EventType.LLM_DONE, EventType.LLM_ERROR)
    begun = await _begun(transaction, head, "message_id", EventType.LLM_START, ends)
    return [
        OwnEvent(EventType.LLM_ERROR, {"message_id": message_id, **reason}, source)
        for message_id, source in begun.items()
    ]


async def _questions(transaction: Transaction, head: Head, outcome: str) -> list[OwnEvent]:
    # By the events: a question may have its outcome already, from its node's answer to an input,
    # while the node's word about it in the stream is still to come, and now never will.
    ends = (EventType.INPUT_RESOLVED,)
    begun = await _begun(transaction, head, "request_id", EventType.INPUT_REQUIRED, ends)
    settled = await transaction.connection.execute(
        select(questions.c.request_id, questions.c.outcome).where(
            questions.c.run_id == head.run_id,
            questions.c.attempt == head.attempt,
            questions.c.outcome.is_not(None),
        )
    )
    known = {row.request_id: row.outcome for row in settled}
    return [
        OwnEvent(
            EventType.INPUT_RESOLVED,
            {"request_id": request_id, "outcome": known.get(request_id, outcome)},
            source,
        )
        for request_id, source in begun.items()
    ]


async def _begun(
    transaction: Transaction, head: Head, id_name: str, start: EventType, ends: Sequence[EventType]
) -> dict[str, Mapping[str, Any] | None]:
    """What the attempt has begun and not ended, by its id, each with its source."""
    told = await transaction.connection.execute(
        select(events.c.type, events.c.source, events.c.data[id_name].label("id"))
        .where(
            events.c.run_id == head.run_id,
            events.c.attempt == head.attempt,
            events.c.type.in_([start, *ends]),
        )
        .order_by(events.c.sequence)
    )
    begun: dict[str, Mapping[str, Any] | None] = {}
    for row in told:
        if not isinstance(row.id, str):
            continue
        if row.type == start:
            begun[row.id] = row.source
        else:
            begun.pop(row.id, None)
    return begun
