"""A stand-in for OpenAI's chat completions: streams what a test has written, asks no model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Reply = str | dict[str, Any] | int | list[dict[str, Any]]
"""A text, ``{"tool": …, "input": …}``, the status of a refusal, or the parts of a stream."""


@dataclass
class OpenAIApi:
    """Answers the requests in the order in which they come; the last reply stays."""

    replies: Sequence[Reply]
    url: str = ""
    elsewhere: str = ""
    """Where refusals point to."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        reply = self.replies[min(len(self.requests), len(self.replies) - 1)]
        self.requests.append(await request.json())
        self.keys.append(request.headers.get("authorization", ""))
        self.headers.append(dict(request.headers))
        if isinstance(reply, int):
            error = {"message": "refused", "type": "test", "code": "test"}
            headers = {"retry-after": "99", "location": self.elsewhere}
            return web.json_response({"error": error}, status=reply, headers=headers)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        if isinstance(reply, list):
            for part in reply:
                await response.write(_event(part))
            return response
        for delta, reason in _deltas(reply):
            await response.write(_event(part_of(delta, reason)))
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        await response.write(_event({"choices": [], "usage": usage}))
        await response.write(b"data: [DONE]\n\n")
        return response


@asynccontextmanager
async def openai_api(*replies: Reply) -> AsyncIterator[OpenAIApi]:
    """Serve *replies*; ``url`` is what a client takes for its base URL."""
    api = OpenAIApi(replies)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", api.complete)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        api.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield api
    finally:
        await runner.cleanup()


def part_of(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    """One part of a stream."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}


def _deltas(reply: str | dict[str, Any]) -> list[tuple[dict[str, Any], str | None]]:
    if isinstance(reply, str):
        words = [{"content": f"{word} "} for word in reply.split()]
        return [*((word, None) for word in words), ({}, "stop")]
    call = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": reply["tool"], "arguments": json.dumps(reply["input"])},
    }
    return [({"tool_calls": [call]}, None), ({}, "tool_calls")]


def _event(part: dict[str, Any]) -> bytes:
    whole = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x", **part}
    return f"data: {json.dumps(whole)}\n\n".encode()
