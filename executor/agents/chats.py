"""The chat messages of one turn: one for each who speaks, made of deltas and whole blocks."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from executor.agents.protocol import TurnEnd
from shared.protocol.events import AgentEvent, EventType, Source


@dataclass(slots=True)
class _Chat:
    source: Source
    message_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    text: list[str] = field(default_factory=list)
    length: int = 0
    streamed: str = ""
    """What has come as deltas of the current block; the whole block follows."""


class Chats:
    """The open chat messages, by what has started who speaks (``None``: the agent itself)."""

    def __init__(self, source_of: Callable[[str | None], Source]) -> None:
        self._source_of = source_of
        self._open: dict[str | None, _Chat] = {}

    def __contains__(self, parent: str | None) -> bool:
        return parent in self._open

    def start(self, parent: str | None, model: str | None) -> list[AgentEvent]:
        """Open a message, unless it is open."""
        if parent in self._open:
            return []
        chat = self._open[parent] = _Chat(self._source_of(parent))
        data = {"message_id": chat.message_id, "model": model}
        return [AgentEvent(EventType.LLM_START, data, chat.source)]

    def begin_block(self, parent: str | None) -> None:
        """A block begins: what was streamed of one before is not part of it."""
        if parent in self._open:
            self._open[parent].streamed = ""

    def delta(self, parent: str | None, text: str) -> list[AgentEvent]:
        """A part of the current block."""
        events = self.start(parent, None)
        chat = self._open[parent]
        begins_block = not chat.streamed
        chat.streamed += text
        return events + self._add(chat, text, begins_block=begins_block)

    def block(self, parent: str | None, text: str) -> list[AgentEvent]:
        """A whole block: what has been streamed of it is known already."""
        events = self.start(parent, None)
        chat = self._open[parent]
        begins_block = not chat.streamed
        if text.startswith(chat.streamed):
            text = text[len(chat.streamed) :]
        else:
            begins_block = True
        chat.streamed = ""
        return events + self._add(chat, text, begins_block=begins_block)

    def _add(self, chat: _Chat, text: str, *, begins_block: bool) -> list[AgentEvent]:
        if not text:
            return []
        if begins_block and chat.length:
            text = f"\n\n{text}"
        data = {"message_id": chat.message_id, "content": text, "offset": chat.length}
        chat.text.append(text)
        chat.length += len(text)
        return [AgentEvent(EventType.LLM_STREAM, data, chat.source)]

    def done(self, parent: str | None, usage: Any = None) -> list[AgentEvent]:
        """Complete a message, if it is open."""
        chat = self._open.pop(parent, None)
        if chat is None:
            return []
        data = {"message_id": chat.message_id, "content": "".join(chat.text), "usage": usage}
        return [AgentEvent(EventType.LLM_DONE, data, chat.source)]

    def failed(self, parent: str | None, error: str | None, code: str) -> list[AgentEvent]:
        """End a message that will not be completed, if it is open."""
        chat = self._open.pop(parent, None)
        if chat is None:
            return []
        data = {"message_id": chat.message_id, "error": error, "code": code}
        return [AgentEvent(EventType.LLM_ERROR, data, chat.source)]

    def finish(self, end: TurnEnd, code: str | None) -> list[AgentEvent]:
        """Close all messages as the turn has ended; *code*: of the error, ``None`` without one."""
        events: list[AgentEvent] = []
        for parent in list(self._open):
            if code is None:
                events += self.done(parent, end.statistics.get("usage") if parent is None else None)
            else:
                events += self.failed(parent, end.error, code)
        return events
