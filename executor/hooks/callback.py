"""From a run's events to the callbacks of seed 000: names and bodies, nothing is sent here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from executor.hooks.base import TaskConfig
from executor.hooks.calls import HookCall, RunCalls
from shared.protocol.events import AgentEvent, EventType, RunRef

_AS_TOLD: Final[Mapping[str, str]] = {
    EventType.STARTED: "task_started",
    EventType.TODOS: "todo_updated",
    EventType.INPUT_REQUIRED: "user_input_required",
    EventType.WORKSPACE_CHANGED: "workspace_updated",
    EventType.COMPLETED: "task_completed",
    EventType.FAILED: "task_failed",
    EventType.CANCELLED: "task_cancelled",
}
"""Events whose data is the data of their callback."""


class RunCallbacks:
    """The callbacks of one run, made from all its events in their order.

    A tool's call is told with its result, in one callback. Turns are counted as for hooks.
    """

    def __init__(self) -> None:
        self._attempt: int | None = None
        self._calls = _calls()
        self._sdk_session_id: str | None = None

    def take(self, run: RunRef, sequence: int, event: AgentEvent) -> dict[str, Any] | None:
        """The body of the callback for *event*; ``None``: it leads to none.

        *sequence* is its place in the log, by which a receiver knows a repeat.
        """
        if run.attempt != self._attempt:
            self._attempt, self._calls = run.attempt, _calls()
        calls = {call.name: call for call in self._calls.take(event)}
        if event.type == EventType.SESSION:
            self._sdk_session_id = event.data.get("sdk_session_id")
        told = self._tell(event, calls)
        if told is None:
            return None
        name, data = told
        return {
            "event": name,
            "session_id": run.session,
            "run_id": run.key[0],
            "sequence": sequence,
            "timestamp": event.timestamp,
            "data": data,
        }

    def _tell(
        self, event: AgentEvent, calls: Mapping[str, HookCall]
    ) -> tuple[str, dict[str, Any]] | None:
        if (tool_ended := calls.get("on_tool_call")) is not None and not event.terminal:
            return "tool_call", dict(tool_ended.arguments)
        if (said := calls.get("on_response")) is not None:
            return "agent_response", {"turn": said.arguments["turn"], **event.data}
        name = _AS_TOLD.get(event.type)
        if name is None:
            return None
        data = dict(event.data)
        if event.terminal and self._sdk_session_id is not None:
            # By which the next task continues the conversation.
            data["sdk_session_id"] = self._sdk_session_id
        return name, data


def _calls() -> RunCalls:
    # Only the first call of hooks says what the run was asked to do.
    return RunCalls(TaskConfig(run_id="", session_id="", attempt=0, prompt="", agent_type=""))
