"""Reads the bodies of requests, and describes them.

Not left to the framework: a body may have 32 MiB, and is then read off the event loop; and it is
JSON whatever its ``Content-Type`` says, which ``curl -d`` gets wrong.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from shared.errors import ProtocolError, WegentError
from shared.protocol.execution import MAX_DEPTH, nests_deeper, protocol_error

LARGE_BYTES: Final = 64 * 1024
"""A body of this size is parsed and checked in about a millisecond."""

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


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


async def read_model(request: Request, model: type[Model], *, empty: Model | None = None) -> Model:
    """The body as *model*; *empty* when there is none, or ``null``.

    Raises:
        InvalidJson: It is no JSON.
        ProtocolError: It is no such object; says which fields are at fault, never a value.
    """
    if empty is not None and not await request.body():
        return empty
    return await read_body(request, partial(_checked, model, empty))


def _checked(model: type[Model], empty: Model | None, raw: object) -> Model:
    if raw is None and empty is not None:
        return empty
    if not isinstance(raw, dict):
        raise ProtocolError("the request must be an object")
    if nests_deeper(raw, MAX_DEPTH):
        raise ProtocolError(f"the request must not nest deeper than {MAX_DEPTH}")
    try:
        return model.model_validate(raw)
    except ValidationError as exc:
        raise protocol_error(exc) from None


def _read(body: bytes, read: Callable[[object], T]) -> T:
    try:
        # NaN, which only Python takes for JSON, says nothing, as on the wire of local mode.
        raw = json.loads(body, parse_constant=lambda _name: None)
    except (ValueError, RecursionError):
        raise InvalidJson("the body is not valid JSON", hint="send UTF-8 encoded JSON") from None
    return read(raw)


def described(**examples: Mapping[str, Any]) -> dict[str, Any]:
    """What the description of the API says of such a body, with *examples* by their titles."""
    shown = {name: {"value": dict(example)} for name, example in examples.items()}
    return _described({"schema": {"type": "object"}, "examples": shown}, required=True)


def described_model(model: type[BaseModel], *, required: bool) -> dict[str, Any]:
    """The same of a body that is a *model*."""
    return _described({"schema": model.model_json_schema()}, required=required)


def _described(content: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    return {"requestBody": {"required": required, "content": {"application/json": content}}}
