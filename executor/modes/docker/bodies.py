"""Reads the body of a request to run something, and describes it.

Not left to the framework: a body may have 32 MiB, and is then read off the event loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from fastapi import Request

from shared.errors import WegentError

LARGE_BYTES: Final = 64 * 1024
"""A body of this size is parsed and checked in about a millisecond."""

T = TypeVar("T")


class InvalidJson(WegentError):
    """The body is no JSON."""

    code = "invalid_json"


async def read_body(request: Request, read: Callable[[object], T]) -> T:
    """The body as *read* makes it of what its JSON says.

    Raises:
        InvalidJson: It is no JSON.
    """
    body = await request.body()
    if len(body) <= LARGE_BYTES:
        return _read(body, read)
    return await asyncio.to_thread(_read, body, read)


def _read(body: bytes, read: Callable[[object], T]) -> T:
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidJson("the body is not valid JSON", hint="send UTF-8 encoded JSON") from None
    return read(raw)


def described(**examples: Mapping[str, Any]) -> dict[str, Any]:
    """What the description of the API says of such a body, with *examples* by their titles."""
    shown = {name: {"value": dict(example)} for name, example in examples.items()}
    content = {"application/json": {"schema": {"type": "object"}, "examples": shown}}
    return {"requestBody": {"required": True, "content": content}}
