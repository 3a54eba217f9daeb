"""Reads a run's messages back into events: the inverse of the executor's dialect. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field

from executor_manager.store.records import NewEvent
from executor_manager.store.verdicts import failed_data
from shared.errors import ProtocolError
from shared.protocol.events import EventType, utc_timestamp
from shared.protocol.execution import nests_deeper
from shared.protocol.local import (
    RUN_EVENTS,
    ChatChunk,
    ChatDone,
    ChatError,
    ChatStart,
    InputRequired,
    LocalEvent,
    Progress,
    RunEventPayload,
    RunName,
    TaskResult,
    read,
)
from shared.status import ErrorCode

MAX_DEPTH: Final = 200
"""How deep an event's data may nest; pydantic writes no more than 255 levels."""

MAX_TYPE: Final = 100
MAX_TIMESTAMP: Final = 40
"""Characters that the log keeps of the two; ours are far shorter."""

_RESULT_TYPES: Final[Mapping[str, EventType]] = {
    "completed": EventType.COMPLETED,
    "failed": EventType.FAILED,
    "cancelled": EventType.CANCELLED,
}


class Place(RunName):
    """Where a message belongs: what must be readable even when the rest is not."""

    seq: int = Field(ge=1)


def read_event(name: LocalEvent, raw: object) -> tuple[Place, NewEvent]:
    """Read one message of a run.

    Raises:
        ProtocolError: It is unusable; :func:`unusable` says what to log in its place.
    """
    payload = read(RUN_EVENTS[name], raw)
    type_, data = _translate(payload)
    if nests_deeper([data, payload.source], MAX_DEPTH):
        raise ProtocolError(f"the data must not nest deeper than {MAX_DEPTH}")
    event = NewEvent(
        seq=payload.seq,
        type=type_[:MAX_TYPE],
        data=data,
        timestamp=payload.timestamp[:MAX_TIMESTAMP],
        source=payload.source,
        progress=payload.progress if isinstance(payload, Progress) else None,
    )
    return Place(subtask_id=payload.subtask_id, attempt=payload.attempt, seq=payload.seq), event


def unusable(name: LocalEvent, raw: object, error: ProtocolError) -> tuple[Place, NewEvent]:
    """What takes the place of a message that :func:`read_event` refused.

    A result becomes the verdict ``internal``, since no other one will come; the end of a chat
    message an error of it; anything else a warning, so that the log shows that something is
    missing.

    Raises:
        ProtocolError: Not even its place can be read.
    """
    place = read(Place, raw)
    if name is LocalEvent.RESULT:
        message = f"the executor's result could not be read: {error.message}"
        data = failed_data(message, ErrorCode.INTERNAL.value)
        return place, NewEvent(place.seq, EventType.FAILED, data, utc_timestamp())
    if name in (LocalEvent.CHAT_DONE, LocalEvent.CHAT_ERROR) and isinstance(raw, dict):
        message_id = raw.get("message_id")
        if isinstance(message_id, str):  # its readers wait for its end
            return place, NewEvent(
                place.seq,
                EventType.LLM_ERROR,
                {
                    "message_id": message_id,
                    "error": f"the end of the message could not be read: {error.message}",
                    "code": ErrorCode.INTERNAL.value,
                },
                utc_timestamp(),
            )
    data = {"message": f"a message of the executor could not be read: {error.message}"}
    return place, NewEvent(place.seq, EventType.WARNING, data, utc_timestamp())


def _translate(payload: RunEventPayload) -> tuple[str, dict[str, Any]]:
    match payload:
        case Progress():
            return f"{payload.event.category}.{payload.event.action}", payload.data
        case ChatStart():
            return EventType.LLM_START, payload.model_dump(include={"message_id", "model"})
        case ChatChunk():
            return EventType.LLM_STREAM, {
                "message_id": payload.message_id,
                "content": payload.chunk,
                "offset": payload.offset,
            }
        case ChatDone():
            data = payload.model_dump(include={"message_id", "content", "usage"})
            if payload.truncated:
                data |= {"truncated": True, "full_length": payload.full_length}
            return EventType.LLM_DONE, data
        case ChatError():
            return EventType.LLM_ERROR, payload.model_dump(include={"message_id", "error", "code"})
        case InputRequired():
            return EventType.INPUT_REQUIRED, payload.model_dump(
                include={"request_id", "kind", "tool_name", "tool_input", "expires_at"}
            )
        case TaskResult():
            return _RESULT_TYPES[payload.status], _verdict(payload)


def _verdict(payload: TaskResult) -> dict[str, Any]:
    data = dict(payload.result)
    data.setdefault("workspace", None)
    data.setdefault("statistics", {})
    match payload.status:
        case "completed":
            data["result"] = data.pop("value", None)
        case "failed":
            data.setdefault("error", payload.message or "the executor gave no reason")
            data.setdefault("error_code", ErrorCode.INTERNAL.value)
        case "cancelled":
            pass
    return data
