"""The text of one chat message on its way out: masked, gathered into chunks, counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from executor.delivery.bounds import MAX_CHUNK_CHARS, MAX_DATA_BYTES, split_text
from shared.protocol.events import AgentEvent, EventType, Source
from shared.redaction_stream import StreamRedactor

MAX_KEPT_CHARS: Final = MAX_DATA_BYTES
"""What is remembered of what was sent: no event could tell more of it at the message's end."""


class MessageText:
    """Takes a message's deltas and gives its chunks.

    Offsets count what is sent, not what the agent wrote: masking changes the length.
    """

    def __init__(self, message_id: str, source: Source | None, stream: StreamRedactor) -> None:
        self.message_id = message_id
        self.source = source
        self.streamed = False
        """Whether a chunk has been taken."""
        self.waiting = 0
        """Characters that the next chunk would have."""
        self._stream = stream
        self._parts: list[str] = []
        self._timestamp = ""
        self._sent: list[str] = []
        self._kept = 0
        self._offset = 0

    @property
    def sent(self) -> dict[str, Any]:
        """All chunks joined, as an ``llm.done`` tells it; the beginning when that is too long."""
        content = "".join(self._sent)
        if self._kept == self._offset:
            return {"content": content}
        return {"content": content, "truncated": True, "full_length": self._offset}

    def add(self, delta: AgentEvent) -> None:
        """Take the next ``llm.stream``."""
        self._gather(self._stream.feed(delta.data["content"]), delta.timestamp)

    def end_block(self, timestamp: str) -> None:
        """What was held back can be no secret any more: the text is interrupted here, or ends."""
        self._gather(self._stream.flush(), timestamp)

    def chunks(self) -> Iterator[AgentEvent]:
        """What is waiting, as ``llm.stream`` events of a size that can be sent."""
        if not self.waiting:
            return
        text, self._parts, self.waiting = "".join(self._parts), [], 0
        self.streamed = True
        kept = text[: MAX_KEPT_CHARS - self._kept]
        self._kept += len(kept)
        if kept:
            self._sent.append(kept)
        for offset, piece in split_text(text):
            data = {
                "message_id": self.message_id,
                "content": piece,
                "offset": self._offset + offset,
            }
            yield AgentEvent(EventType.LLM_STREAM, data, self.source, self._timestamp)
        self._offset += len(text)

    def _gather(self, text: str, timestamp: str) -> None:
        if not text:
            return
        if not self.waiting:
            self._timestamp = timestamp
        self._parts.append(text)
        self.waiting += len(text)


class PassedOnText:
    """Neighbouring chunks of one message that another executor has told, joined into one.

    It has the offset of the first and the origin of the last, so that nothing before that origin
    is missing where it is written down.
    """

    def __init__(self) -> None:
        self.waiting = 0
        """Characters that the joined chunk would have."""
        self._chunks: list[AgentEvent] = []

    def continues(self, chunk: AgentEvent) -> bool:
        """Whether *chunk* follows what is waiting, and may become one with it."""
        if not self._chunks:
            return True
        first = self._chunks[0]
        end = first.data.get("offset", 0) + self.waiting
        return (
            first.data.get("message_id") == chunk.data.get("message_id")
            and chunk.data.get("offset") == end
            and self.waiting + len(chunk.data["content"]) <= MAX_CHUNK_CHARS
        )

    def add(self, chunk: AgentEvent) -> None:
        """Take the next chunk; only one that :meth:`continues` the others."""
        self._chunks.append(chunk)
        self.waiting += len(chunk.data["content"])

    def take(self) -> AgentEvent | None:
        """What is waiting, as one ``llm.stream``; ``None``: nothing."""
        if not self._chunks:
            return None
        chunks, self._chunks, self.waiting = self._chunks, [], 0
        content = "".join(chunk.data["content"] for chunk in chunks)
        return replace(
            chunks[0], data={**chunks[0].data, "content": content}, origin=chunks[-1].origin
        )
