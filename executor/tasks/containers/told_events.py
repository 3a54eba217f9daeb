"""Reading what another executor has told: from a container, where an agent can reach everything.

What everything after this relies on is looked at here, once: ids that things are found by, text
that is counted, entries that are gone through. The rest is passed on as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from shared.protocol.events import AgentEvent, EventType, Source, utc_timestamp
from shared.status import ErrorCode

MAX_ID_CHARS: Final = 300
"""Of an id; ours have some forty."""

MAX_SEQUENCE: Final = 2**53
"""What every JSON library can count to."""

_TIMESTAMP: Final = re.compile(r"[0-9T:.Z+-]{1,40}")
_TYPE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{1,64}")


def read_told_event(raw: Mapping[str, Any]) -> AgentEvent:
    """The event that *raw* is, with its place in the other log as ``origin``.

    A verdict is never given up: what of it cannot be used is left out.

    Raises:
        ValueError: It cannot be used; says why, without its values.
    """
    told, data, timestamp = raw.get("event"), raw.get("data"), raw.get("timestamp")
    parts = [told.get("category"), told.get("action")] if isinstance(told, dict) else []
    type_ = ".".join(part for part in parts if isinstance(part, str))
    if not _TYPE.fullmatch(type_):
        raise ValueError("it does not say what it is")
    sequence = raw.get("sequence")
    if not isinstance(sequence, int) or sequence is True or not 0 < sequence <= MAX_SEQUENCE:
        raise ValueError("it has no place among the others")
    if not isinstance(timestamp, str) or not _TIMESTAMP.fullmatch(timestamp):
        timestamp = utc_timestamp()
    event = AgentEvent(
        type_,
        data if isinstance(data, dict) else {},
        _source(raw.get("source")),
        timestamp,
        origin=sequence,
    )
    if event.terminal:
        return AgentEvent(
            event.type, _verdict(event), event.source, event.timestamp, origin=event.origin
        )
    for name, is_usable in _NEEDED.get(event.type, {}).items():
        if not is_usable(event.data.get(name)):
            raise ValueError(f"{event.type} without a usable {name}")
    return event


def _source(raw: object) -> Source | None:
    if not isinstance(raw, dict):
        return None
    text = {name: value for name, value in raw.items() if isinstance(value, str)}
    return Source(
        text.get("agent_id", ""),
        text.get("agent_type", "agent"),
        text.get("agent_name", ""),
        text.get("team_name"),
    )


def _verdict(event: AgentEvent) -> dict[str, Any]:
    data = {
        name: value
        for name, value in event.data.items()
        if _IN_VERDICT.get(name, _is_anything)(value)
    }
    if event.type == EventType.FAILED:
        data.setdefault("error", "the executor in the container does not say why the run failed")
        data.setdefault("error_code", str(ErrorCode.CONTAINER_FAILED))
    return data


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_ID_CHARS


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _is_anything(_: object) -> bool:
    return True


_NEEDED: Final[Mapping[str, Mapping[str, Callable[[object], bool]]]] = {
    EventType.SESSION: {"sdk_session_id": _is_id},
    EventType.LLM_START: {"message_id": _is_id},
    EventType.LLM_STREAM: {"message_id": _is_id, "content": _is_text, "offset": _is_count},
    EventType.LLM_DONE: {"message_id": _is_id, "content": _is_text},
    EventType.LLM_ERROR: {"message_id": _is_id, "error": _is_text},
    EventType.INPUT_REQUIRED: {
        "request_id": _is_id,
        "kind": _is_text,
        "tool_name": _is_text,
        "tool_input": _is_object,
    },
    EventType.INPUT_RESOLVED: {"request_id": _is_id, "outcome": _is_text},
    EventType.TODOS: {"todos": _is_list_of_objects},
    EventType.WORKSPACE_CHANGED: {"files": _is_list_of_objects},
}

_IN_VERDICT: Final[Mapping[str, Callable[[object], bool]]] = {
    "result": _is_text,
    "error": _is_text,
    "error_code": _is_id,
    "details": _is_text,
    "reason": _is_text,
    "workspace": _is_object,
    "statistics": _is_object,
}
