"""From the SDK's messages to AgentEvents: one turn's state, no I/O."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from claude_agent_sdk import (
    AssistantMessage,
    Message,
    RateLimitEvent,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    TaskStartedMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from executor.agents.chats import Chats
from executor.agents.claude_code.limits import reset_time
from executor.agents.claude_code.verdict import (
    interrupted,
    read_result,
    refused_login,
)
from executor.agents.protocol import TurnEnd
from shared.logging import get_logger
from shared.protocol.events import AgentEvent, EventType, Source
from shared.status import ErrorCode

logger = get_logger("claude_code")

CANCELLED: Final = "cancelled"
"""``code`` of an ``llm.error`` when the turn was interrupted."""

SYNTHETIC_MODEL: Final = "<synthetic>"
"""Model of messages that the CLI made up itself: its errors, in the form of an answer."""

MAX_LOGIN_REFUSALS: Final = 3
"""After so many the turn is stopped; the CLI would go on trying for three minutes."""

_SUBAGENT_TOOLS: Final = frozenset({"Agent", "Task"})


class TurnMapper:
    """Maps the messages of one turn; :attr:`end` is set by the last of them.

    Args:
        main: The source of what the agent itself says.
        cost_before: ``total_cost_usd`` of the process before this turn; the CLI counts on.
        now: The time in seconds since the epoch.
    """

    def __init__(
        self, main: Source, *, cost_before: float = 0.0, now: Callable[[], float] = time.time
    ) -> None:
        self._main = main
        self._cost_before = cost_before
        self._chats = Chats(self._source)
        self._workers: dict[str, Source] = {}
        """By the tool uses that have started them."""
        self._started_by: dict[str, str] = {}
        """The tool uses that have started them, by the CLI's own ids of sub-agents."""
        self._tools: dict[str, str] = {}
        self._model: str | None = None
        self._api_error: str | None = None
        self.session_id: str | None = None
        self.cost = cost_before
        self._answers: set[str] = set()
        """Ids of what the model itself has answered; each block of an answer comes by itself."""
        self._refusals = 0
        self._now = now
        self._last_pause_s = 0.0
        """The CLI's last pause before it asked again what it asks now."""
        self._resets_at: float | None = None
        self.retry_in_s = 0.0
        """For how long the CLI waits before it asks the API again; 0: it does not wait."""
        self.end: TurnEnd | None = None

    @property
    def login_refused(self) -> bool:
        """Whether the API has refused the credentials so often that the turn should be stopped."""
        return self._refusals >= MAX_LOGIN_REFUSALS

    @property
    def answered(self) -> int:
        """How often the model itself has answered."""
        return len(self._answers)

    def source_of(self, agent_id: str | None) -> Source:
        """Who that is by the CLI's own ids of sub-agents; ``None``: the agent itself."""
        return self._source(None if agent_id is None else self._started_by.get(agent_id, agent_id))

    def map(self, message: Message) -> list[AgentEvent]:
        """What *message* means; empty for what has no meaning here."""
        self.retry_in_s = 0.0
        events = self._session(message)
        if isinstance(message, StreamEvent):
            events += self._stream(message)
        elif isinstance(message, AssistantMessage):
            events += self._assistant(message)
        elif isinstance(message, UserMessage):
            events += self._user(message)
        elif isinstance(message, SystemMessage):
            events += self._system(message)
        elif isinstance(message, RateLimitEvent):
            events += self._rate_limit(message)
        elif isinstance(message, ResultMessage):
            events += self._result(message)
        else:
            logger.debug("message of an unknown kind", kind=type(message).__name__)
        return events

    def finish(self, end: TurnEnd) -> list[AgentEvent]:
        """End the turn with *end*; closes the chat messages that are still open."""
        self.end = end
        return self._chats.finish(end, CANCELLED if interrupted(end) else end.error_code)

    def _session(self, message: Message) -> list[AgentEvent]:
        found = getattr(message, "session_id", None)
        if found is None and isinstance(message, SystemMessage) and message.subtype == "init":
            found = message.data.get("session_id")
        if not isinstance(found, str) or found == self.session_id:
            return []
        self.session_id = found
        return [AgentEvent(EventType.SESSION, {"sdk_session_id": found}, self._main)]

    def _stream(self, message: StreamEvent) -> list[AgentEvent]:
        event, parent = message.event, message.parent_tool_use_id
        match event.get("type"):
            case "message_start":
                self._last_pause_s = 0.0
                return self._start(parent, event.get("message", {}).get("model"))
            case "content_block_start":
                self._chats.begin_block(parent)
            case "content_block_delta":
                text = event.get("delta", {}).get("text")
                if isinstance(text, str) and text:
                    return self._chats.delta(parent, text)
            case _:
                pass
        return []

    def _assistant(self, message: AssistantMessage) -> list[AgentEvent]:
        if message.model == SYNTHETIC_MODEL:
            self._api_error = message.error
            return []
        parent = message.parent_tool_use_id
        if parent is None and message.message_id is not None:
            self._answers.add(message.message_id)
        events = self._start(parent, message.model)
        for block in message.content:
            if isinstance(block, TextBlock):
                events += self._chats.block(parent, block.text)
            elif isinstance(block, ThinkingBlock):
                if block.thinking.strip():
                    data = {"content": block.thinking}
                    events.append(AgentEvent(EventType.REASONING, data, self._source(parent)))
            elif isinstance(block, ToolUseBlock):
                events += self._tool_call(parent, block)
        return events

    def _start(self, parent: str | None, model: str | None) -> list[AgentEvent]:
        if parent is None and parent not in self._chats:
            self._model = model
        return self._chats.start(parent, model)

    def _tool_call(self, parent: str | None, block: ToolUseBlock) -> list[AgentEvent]:
        source = self._source(parent)
        self._tools[block.id] = block.name
        data = {"tool_id": block.id, "tool_name": block.name, "arguments": block.input}
        events = [AgentEvent(EventType.TOOL_CALL, data, source)]
        if block.name in _SUBAGENT_TOOLS:
            name = str(block.input.get("subagent_type") or "general-purpose")
            self._workers[block.id] = Source(block.id, agent_type="worker", agent_name=name)
        elif block.name == "TodoWrite" and parent is None:
            events += self._todos(block.input.get("todos"))
        return events

    def _todos(self, todos: Any) -> list[AgentEvent]:
        if not isinstance(todos, list) or not all(isinstance(todo, dict) for todo in todos):
            return []
        listed = [
            {
                "content": todo.get("content", ""),
                "status": todo.get("status", "pending"),
                "active_form": todo.get("activeForm", ""),
            }
            for todo in todos
        ]
        return [AgentEvent(EventType.TODOS, {"todos": listed}, self._main)]

    def _user(self, message: UserMessage) -> list[AgentEvent]:
        # Texts in it are the CLI's own reminders, never the user's.
        if isinstance(message.content, str):
            return []
        events = []
        for block in message.content:
            if isinstance(block, ToolResultBlock):
                data = {
                    "tool_id": block.tool_use_id,
                    "tool_name": self._tools.get(block.tool_use_id, ""),
                    "result": _plain_text(block.content),
                    "is_error": bool(block.is_error),
                }
                source = self._source(message.parent_tool_use_id)
                events.append(AgentEvent(EventType.TOOL_RESULT, data, source))
                if block.tool_use_id in self._workers:
                    events += self._chats.done(block.tool_use_id)
        return events

    def _system(self, message: SystemMessage) -> list[AgentEvent]:
        if isinstance(message, TaskStartedMessage) and message.tool_use_id is not None:
            self._started_by[message.task_id] = message.tool_use_id
        if message.subtype != "api_retry":
            return []
        data = message.data
        status = data.get("error_status")
        if data.get("error") == "authentication_failed":
            self._refusals += 1
        self.retry_in_s = self._last_pause_s = (data.get("retry_delay_ms") or 0) / 1000
        reason = f"HTTP {status}" if status else "no connection"
        text = (
            f"the API does not answer ({reason}); attempt {data.get('attempt')} of "
            f"{data.get('max_retries')} follows in {self.retry_in_s:.1f} s"
        )
        return [AgentEvent(EventType.WARNING, {"message": text})]

    def _rate_limit(self, message: RateLimitEvent) -> list[AgentEvent]:
        info = message.rate_limit_info
        if info.status == "allowed":
            return []
        if info.status == "rejected":
            self._resets_at = info.resets_at
        state = "is used up" if info.status == "rejected" else "is nearly used up"
        text = f"the usage limit of this login ({info.rate_limit_type or 'unknown'}) {state}"
        return [AgentEvent(EventType.WARNING, {"message": text})]

    def _result(self, message: ResultMessage) -> list[AgentEvent]:
        if message.total_cost_usd is not None:
            self.cost = message.total_cost_usd
        end = read_result(
            message,
            api_error=self._api_error,
            model=self._model,
            cost_usd=max(0.0, self.cost - self._cost_before),
        )
        if self.login_refused and interrupted(end):
            end = refused_login(end.statistics)
        if end.error_code not in (None, ErrorCode.MAX_TURNS, ErrorCode.BUDGET_EXCEEDED):
            # The CLI counts interruptions and failed requests, too.
            end = replace(end, statistics={**end.statistics, "num_turns": self.answered})
        if end.error_code == ErrorCode.RATE_LIMITED:
            end = replace(end, retry_at=self._retry_at(end.error or ""))
        return self.finish(end)

    def _retry_at(self, words: str) -> float | None:
        """When the limit is lifted: as the API told it, or the CLI, or as long again as it waited.

        Of a Retry-After beyond 60 s the CLI tells nothing: it gives up at once.
        """
        now = self._now()
        told = self._resets_at or reset_time(words, now)
        return told or (now + self._last_pause_s if self._last_pause_s else None)

    def _source(self, parent: str | None) -> Source:
        if parent is None:
            return self._main
        return self._workers.setdefault(parent, Source(parent, agent_type="worker"))


def _plain_text(content: str | list[dict[str, Any]] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(
        str(part.get("text", "")) if part.get("type") == "text" else f"[{part.get('type')}]"
        for part in content
    )
