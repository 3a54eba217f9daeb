"""Write one assistant message as the Messages API does: as server-sent events, or as one JSON."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

Send = Callable[[bytes], Awaitable[None]]

SIGNATURE = "c2NyaXB0ZWQ="
"""Signature of every thinking block: base64 of "scripted"."""


def estimate_tokens(characters: int) -> int:
    """About four characters are one token; good enough for a stand-in."""
    return max(1, characters // 4)


def error_body(kind: str, message: str) -> dict[str, Any]:
    """The API's error object, marked as scripted by its request id."""
    return {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": f"req_scripted_{uuid.uuid4().hex[:16]}",
    }


class Message:
    """An assistant message under construction.

    Every addition is sent at once as events through *send*, and kept for :meth:`as_json`. Text
    that follows text, and thinking that follows thinking, goes on in the same block.
    """

    def __init__(self, *, model: str, input_tokens: int, usage: dict[str, int], send: Send) -> None:
        self._send = send
        self._given_usage = usage
        self._written = 0
        self._content: list[dict[str, Any]] = []
        self._open: str | None = None
        self._message: dict[str, Any] = {
            "id": f"msg_scripted_{uuid.uuid4().hex[:20]}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": self._content,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": input_tokens, "output_tokens": 1, **usage},
        }
        self.started = False

    async def start(self) -> None:
        """Send the opening event, once."""
        if not self.started:
            self.started = True
            await self._event("message_start", message={**self._message, "content": []})

    async def add_text(self, text: str) -> None:
        await self._in_block("text", {"type": "text", "text": ""})
        self._content[-1]["text"] += text
        await self._delta({"type": "text_delta", "text": text}, len(text))

    async def add_thinking(self, text: str) -> None:
        await self._in_block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        self._content[-1]["thinking"] += text
        await self._delta({"type": "thinking_delta", "thinking": text}, len(text))

    async def start_tool(self, name: str) -> None:
        """Begin a tool call; its input follows through :meth:`add_tool_input`."""
        await self._close_block()
        tool_id = f"toolu_scripted_{uuid.uuid4().hex[:20]}"
        await self._in_block(
            "tool_use", {"type": "tool_use", "id": tool_id, "name": name, "input": {}}
        )
        self._content[-1]["input"] = ""

    async def add_tool_input(self, part: str) -> None:
        """Append a piece of the input's JSON text."""
        self._content[-1]["input"] += part
        await self._delta({"type": "input_json_delta", "partial_json": part}, len(part))

    async def finish(self, stop_reason: str | None) -> None:
        """Close the message; ``None`` means what its content implies."""
        await self.start()
        await self._close_block()
        if stop_reason is None:
            tools = any(block["type"] == "tool_use" for block in self._content)
            stop_reason = "tool_use" if tools else "end_turn"
        usage = {"output_tokens": estimate_tokens(self._written), **self._given_usage}
        self._message["stop_reason"] = stop_reason
        self._message["usage"].update(usage)
        delta = {"stop_reason": stop_reason, "stop_sequence": None}
        await self._event("message_delta", delta=delta, usage=usage)
        await self._event("message_stop")

    async def fail(self, kind: str, message: str) -> None:
        """End a running stream with an ``error`` event."""
        await self.start()
        await self._send(_encode("error", error_body(kind, message)))

    def as_json(self) -> dict[str, Any]:
        """The finished message, for a request that did not ask for a stream."""
        return self._message

    async def _in_block(self, kind: str, block: dict[str, Any]) -> None:
        if self._open == kind:
            return
        await self.start()
        await self._close_block()
        self._open = kind
        self._content.append(dict(block))
        await self._event("content_block_start", index=len(self._content) - 1, content_block=block)

    async def _close_block(self) -> None:
        if self._open is None:
            return
        index = len(self._content) - 1
        if self._open == "thinking":
            self._content[-1]["signature"] = SIGNATURE
            delta = {"type": "signature_delta", "signature": SIGNATURE}
            await self._event("content_block_delta", index=index, delta=delta)
        elif self._open == "tool_use":
            self._content[-1]["input"] = json.loads(self._content[-1]["input"] or "{}")
        self._open = None
        await self._event("content_block_stop", index=index)

    async def _delta(self, delta: dict[str, Any], size: int) -> None:
        self._written += size
        await self._event("content_block_delta", index=len(self._content) - 1, delta=delta)

    async def _event(self, name: str, **fields: Any) -> None:
        await self._send(_encode(name, {"type": name, **fields}))


def _encode(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
