"""From a run's events to the calls of its hooks: counts turns and pairs tools with results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from executor.hooks.base import AgentState, TaskConfig, Todo
from shared.protocol.events import AgentEvent, EventType

BEFORE_EXECUTION: Final = "before_execution"
AFTER_EXECUTION: Final = "after_execution"
COUNTED_CALLS: Final = ("on_agent_turn", "on_tool_call", "on_response")
"""Those that all events of a run have to be looked at for."""

_SPEAKING: Final = frozenset(
    {EventType.LLM_START, EventType.LLM_STREAM, EventType.REASONING, EventType.TOOL_CALL}
)
"""By which an agent shows that it has begun an answer."""


@dataclass(frozen=True, slots=True)
class HookCall:
    """One call: a method of :class:`executor.hooks.base.Hook` and its arguments, in their order."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(slots=True)
class _Speaker:
    """One agent of the run."""

    open_tools: int = 0
    answered: bool = False
    """Whether what it had begun is complete, so that what follows is another turn."""


class RunCalls:
    """The calls that one run leads to; :attr:`ended` after its verdict. No I/O.

    A turn is one answer of the agent, tools included. It begins with the first sign of life after
    the results of all tools of the one before. Workers do not begin turns: what they do belongs to
    the turn that is going on.
    """

    def __init__(self, config: TaskConfig) -> None:
        self._config = config
        self._state = AgentState()
        self._turn = 0
        self._speakers: dict[str, _Speaker] = {}
        self._tools: dict[str, tuple[_Speaker, dict[str, Any]]] = {}
        """Those that go on, with what their call will say."""
        self.ended = False

    def begin(self) -> HookCall:
        """The first call."""
        return HookCall(BEFORE_EXECUTION, {"config": self._config})

    def take(self, event: AgentEvent) -> list[HookCall]:
        """What *event* leads to; nothing after the end."""
        if self.ended:
            return []
        data, speaker = event.data, self._speaker(event)
        calls = self._begin_turn(event, speaker) if event.type in _SPEAKING else []
        match event.type:
            case EventType.WORKSPACE_PREPARED:
                self._state = replace(self._state, workspace=data.get("path"))
            case EventType.SESSION:
                self._state = replace(self._state, sdk_session_id=data.get("sdk_session_id"))
            case EventType.TODOS:
                self._state = replace(self._state, todos=todos_of(event))
            case EventType.TOOL_CALL:
                speaker.open_tools += 1
                self._tools[str(data.get("tool_id"))] = (
                    speaker,
                    {
                        "turn": self._turn,
                        "tool_name": data.get("tool_name", ""),
                        "tool_input": data.get("arguments", {}),
                    },
                )
            case EventType.TOOL_RESULT:
                calls.append(self._tool_ended(speaker, data))
            case EventType.LLM_DONE:
                speaker.answered = True
                if response := data.get("content"):
                    calls.append(
                        HookCall("on_response", {"turn": self._turn, "response": response})
                    )
            case EventType.LLM_ERROR:
                speaker.answered = True
            case EventType.COMPLETED:
                calls += self._end(success=True, error=None)
            case EventType.FAILED:
                calls += self._end(success=False, error=data.get("error") or "the run failed")
            case EventType.CANCELLED:
                reason = data.get("reason")
                error = f"cancelled: {reason}" if reason else "cancelled"
                calls += self._end(success=False, error=error)
            case _:
                pass
        return calls

    def break_off(self, error: str) -> list[HookCall]:
        """The last calls of a run that tells no verdict; nothing when it has told one."""
        return [] if self.ended else self._end(success=False, error=error)

    def _speaker(self, event: AgentEvent) -> _Speaker:
        agent_id = event.source.agent_id if event.source is not None else ""
        return self._speakers.setdefault(agent_id, _Speaker())

    def _begin_turn(self, event: AgentEvent, speaker: _Speaker) -> list[HookCall]:
        worker = event.source is not None and event.source.agent_type == "worker"
        another = speaker.answered and not speaker.open_tools and not worker
        if self._turn and not another:
            return []
        speaker.answered = False
        self._turn += 1
        return [HookCall("on_agent_turn", {"turn": self._turn, "state": self._state})]

    def _tool_ended(self, speaker: _Speaker, data: Mapping[str, Any]) -> HookCall:
        unknown = {"turn": self._turn, "tool_name": data.get("tool_name", ""), "tool_input": {}}
        caller, call = self._tools.pop(str(data.get("tool_id")), (None, unknown))
        if caller is not None:
            caller.open_tools -= 1
        (caller or speaker).answered = True
        self._state = replace(self._state, tool_calls=self._state.tool_calls + 1)
        return HookCall("on_tool_call", {**call, "tool_output": data.get("result")})

    def _end(self, *, success: bool, error: str | None) -> list[HookCall]:
        self.ended = True
        left = [
            HookCall("on_tool_call", {**call, "tool_output": None})
            for _, call in self._tools.values()
        ]
        return [*left, HookCall(AFTER_EXECUTION, {"success": success, "error": error})]


def todos_of(event: AgentEvent) -> tuple[Todo, ...]:
    """The list that an ``agent.todos`` tells."""
    return tuple(
        Todo(
            content=str(todo.get("content", "")),
            status=str(todo.get("status", "")),
            active_form=str(todo.get("active_form") or ""),
        )
        for todo in event.data.get("todos", ())
    )
