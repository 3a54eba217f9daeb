"""The dialect of ``/local-executor``: an AgentEvent as an event name and a payload.

Pure and total: whatever an agent tells becomes one message. What lacks the fields of its own
message travels as progress, which carries any event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from shared.protocol.events import EventType, NumberedEvent
from shared.protocol.local import LocalEvent

MAX_TEXT: Final = 200
"""Characters of a ``message``: it is one line for a person; the whole is in ``data``."""

_STATUS: Final[Mapping[str, str]] = {
    EventType.COMPLETED: "completed",
    EventType.FAILED: "failed",
    EventType.CANCELLED: "cancelled",
}


def encode(event: NumberedEvent) -> tuple[LocalEvent, dict[str, Any]]:
    """*event* as it goes onto the wire: JSON values, valid for its model, without empty fields.

    The payload is built without its model, which would cost more than sending it.
    """
    fields = _run_fields(event)
    data = event.event.data
    try:
        match event.event.type:
            case EventType.LLM_STREAM:
                own = {"message_id": data["message_id"], "chunk": data["content"]}
                return LocalEvent.CHAT_CHUNK, fields | own | {"offset": data["offset"]}
            case EventType.LLM_START:
                own = {"message_id": data["message_id"]} | _some(data, "model")
                return LocalEvent.CHAT_START, fields | own
            case EventType.LLM_DONE:
                own = {"message_id": data["message_id"], "content": data["content"]}
                own |= _some(data, "usage", "truncated", "full_length")
                return LocalEvent.CHAT_DONE, fields | own
            case EventType.LLM_ERROR:
                own = _some(data, "message_id", "code", "truncated", "full_length")
                return LocalEvent.CHAT_ERROR, fields | own | {"error": data["error"]}
            case EventType.INPUT_REQUIRED:
                own = {key: data[key] for key in ("request_id", "kind", "tool_name", "tool_input")}
                own |= _some(data, "expires_at", "truncated", "full_length")
                return LocalEvent.INPUT_REQUIRED, fields | own
            case EventType.COMPLETED | EventType.FAILED | EventType.CANCELLED:
                return LocalEvent.RESULT, fields | _titles(event) | _result(event)
            case _:
                pass
    except KeyError:
        pass  # a field is missing: progress carries what there is
    return LocalEvent.PROGRESS, fields | _titles(event) | _progress(event)


def _run_fields(event: NumberedEvent) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "task_id": event.run.task_id,
        "subtask_id": event.run.subtask_id,
        "attempt": event.run.attempt,
        "seq": event.seq,
        "timestamp": event.event.timestamp,
    }
    if event.event.source is not None:
        fields["source"] = event.event.source.to_dict()
    return fields


def _titles(event: NumberedEvent) -> dict[str, Any]:
    titles = {"task_title": event.task_title, "subtask_title": event.subtask_title}
    return {name: title for name, title in titles.items() if title is not None}


def _some(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: data[name] for name in names if data.get(name) is not None}


def _progress(event: NumberedEvent) -> dict[str, Any]:
    return {
        "progress": event.progress,
        "status": "running",
        "message": _text(event),
        "event": {"category": event.event.category, "action": event.event.action},
        "data": dict(event.event.data),
    }


def _result(event: NumberedEvent) -> dict[str, Any]:
    data = event.event.data
    result = _some(data, "error", "error_code", "details", "reason", "truncated", "full_length")
    if event.event.type == EventType.COMPLETED:
        result["value"] = data.get("result", "")
    result["statistics"] = data.get("statistics") or {}
    result["workspace"] = data.get("workspace") or {}
    return {
        "progress": 100,
        "status": _STATUS[event.event.type],
        "result": result,
        "message": _text(event),
    }


# --- One line for a person ----------------------------------------------------------------------


def _text(event: NumberedEvent) -> str:
    data = event.event.data
    say = _SAY.get(event.event.type)
    try:
        text = say(data) if say is not None else str(event.event.type)
    except (KeyError, TypeError, AttributeError):  # another shape than the table's
        text = str(event.event.type)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _say_todos(data: Mapping[str, Any]) -> str:
    todos = data["todos"]
    done = sum(todo["status"] == "completed" for todo in todos)
    return f"{done} of {len(todos)} todos done"


def _say_files(data: Mapping[str, Any]) -> str:
    count = len(data["files"])
    return f"{count} file{'' if count == 1 else 's'} changed"


def _say_reason(data: Mapping[str, Any]) -> str:
    return f"Cancelled: {data['reason']}" if data.get("reason") else "Cancelled"


_SAY: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    EventType.STARTED: lambda _: "Started",
    EventType.WORKSPACE_PREPARED: lambda data: f"Workspace ready: {data['path']}",
    EventType.WORKSPACE_CHANGED: _say_files,
    EventType.SESSION: lambda _: "The agent's session is open",
    EventType.TODOS: _say_todos,
    EventType.INPUT_RESOLVED: lambda data: f"Question {data['outcome']}",
    EventType.MEMBER_COMPLETED: lambda _: "A member of the team has finished",
    EventType.REASONING: lambda _: "Thinking",
    EventType.TOOL_CALL: lambda data: f"Using {data['tool_name']}",
    EventType.TOOL_RESULT: lambda data: (
        f"{data['tool_name']} {'failed' if data.get('is_error') else 'finished'}"
    ),
    EventType.DISPATCH_TEAM: lambda data: f"Handed to team {data['name']}",
    EventType.DISPATCH_WORKER: lambda data: f"Handed to {data['name']}",
    EventType.WARNING: lambda data: str(data["message"]),
    EventType.ERROR: lambda data: str(data["error"]),
    EventType.TRUNCATED: lambda _: "Events were dropped during a long outage",
    EventType.COMPLETED: lambda _: "Completed",
    EventType.FAILED: lambda data: str(data["error"]),
    EventType.CANCELLED: _say_reason,
}
