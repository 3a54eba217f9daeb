"""Play one step of a scenario: its timeline of texts, tool calls, waits and faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, assert_never

from scripts.scripted_request import Conversation
from scripts.scripted_scenario import (
    Bulk,
    Cut,
    Fault,
    Gate,
    Hang,
    HttpError,
    Pause,
    Scenario,
    Step,
    StreamError,
    Text,
    Thinking,
    Tool,
)
from scripts.scripted_stream import Message

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
"""The API's error type by HTTP status; every other status is an ``api_error``."""

DEFAULT_MESSAGES: dict[str, str] = {
    "invalid_request_error": "messages: Invalid request",
    "authentication_error": "invalid x-api-key",
    "permission_error": "Your API key does not have permission to use the specified resource",
    "not_found_error": "Not found",
    "request_too_large": "Request exceeds the maximum size",
    "rate_limit_error": "This request would exceed your account's rate limit",
    "api_error": "Internal server error",
    "overloaded_error": "Overloaded",
}
"""Messages in the API's manner: the CLI words its own error by some of them."""


class ConnectionCut(Exception):
    """The scenario cuts the connection here."""


class ApiError(Exception):
    """The scenario fails the request here.

    Attributes:
        status: The HTTP status while nothing was sent; a running stream has none to give.
        headers: Further headers of the response.
    """

    def __init__(
        self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.headers = status, kind, dict(headers or {})


class StepGate:
    """A place in a scenario where the answer waits for a test."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._released = asyncio.Event()

    def release(self) -> None:
        """Let everything pass that waits here now or comes later."""
        self._released.set()

    async def pass_through(self) -> None:
        self.reached.set()
        await self._released.wait()


class Player:
    """Plays one step into one message.

    Args:
        gate: Finds a gate by name.
        fault_is_due: Says whether the fault at that place in the content still happens.
    """

    def __init__(
        self,
        scenario: Scenario,
        step: Step,
        conversation: Conversation,
        *,
        gate: Callable[[str], StepGate],
        fault_is_due: Callable[[int, Fault], bool],
    ) -> None:
        self._step = step
        self._conversation = conversation
        self._gate, self._fault_is_due = gate, fault_is_due
        self._chars = step.delta_chars or scenario.delta_chars
        pause = step.delta_pause_s
        self._pause_s = scenario.delta_pause_s if pause is None else pause

    async def play(self, message: Message) -> None:
        """Write the step's content into *message* and finish it.

        Raises:
            ApiError: The scenario fails the request.
            ConnectionCut: The scenario cuts the connection.
        """
        for place, item in enumerate(self._step.content):
            match item:
                case Text(text=text):
                    for part in self._parts(self._fill(text)):
                        await message.add_text(part)
                        await self._breathe()
                case Thinking(thinking=text):
                    for part in self._parts(self._fill(text)):
                        await message.add_thinking(part)
                        await self._breathe()
                case Tool():
                    await self._call_tool(message, item)
                case Bulk():
                    await _write_bulk(message, item)
                case Pause(pause_s=seconds):
                    await asyncio.sleep(seconds)
                case Gate(gate=name):
                    await self._gate(name).pass_through()
                case HttpError() | StreamError() | Cut() | Hang():
                    if self._fault_is_due(place, item):
                        await _fail(item)
                case _:
                    assert_never(item)
        await message.finish(self._step.stop_reason)

    async def _call_tool(self, message: Message, call: Tool) -> None:
        offered = (*self._conversation.tools, *self._conversation.deferred_tools)
        if call.optional and call.tool not in offered:
            return
        await message.start_tool(call.tool)
        for part in self._parts(json.dumps(self._fill(call.input))):
            await message.add_tool_input(part)

    def _parts(self, text: str) -> Iterator[str]:
        for start in range(0, max(len(text), 1), self._chars):
            yield text[start : start + self._chars]

    def _fill(self, value: Any) -> Any:
        return self._conversation.fill(value)

    async def _breathe(self) -> None:
        if self._pause_s:
            await asyncio.sleep(self._pause_s)


async def _write_bulk(message: Message, bulk: Bulk) -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    for number in range(bulk.bulk):
        if bulk.per_second is not None:
            ahead_s = number / bulk.per_second - (clock() - began)
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
        await message.add_text(f"{number} ".ljust(bulk.chars, ".")[: bulk.chars])


async def _fail(fault: Fault) -> None:
    match fault:
        case HttpError(http_error=status):
            kind = ERROR_TYPES.get(status, "api_error")
            text = fault.message or DEFAULT_MESSAGES[kind]
            raise ApiError(status, kind, text, _headers(fault))
        case StreamError(stream_error=kind):
            status = next((s for s, k in ERROR_TYPES.items() if k == kind), 500)
            raise ApiError(status, kind, fault.message or DEFAULT_MESSAGES[kind])
        case Cut():
            raise ConnectionCut
        case Hang():
            await asyncio.Event().wait()
        case _:
            assert_never(fault)


def _headers(fault: HttpError) -> dict[str, str]:
    if fault.retry_after_s is None:
        return fault.headers
    return {**fault.headers, "retry-after": f"{fault.retry_after_s:g}"}
