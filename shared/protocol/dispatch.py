"""The dispatch payload of a request, for the way into a container."""

from __future__ import annotations

from enum import Enum
from typing import Any

from pydantic import SecretStr

from shared.protocol.execution import ExecutionRequest


def dispatch_payload(request: ExecutionRequest) -> dict[str, Any]:
    """*request* as plain JSON values, with its secrets: what a reader of it makes it from again.

    For nobody but the executor that is to carry it out; never to be kept or logged.
    """
    payload: dict[str, Any] = _revealed(request.model_dump(mode="python", exclude_none=True))
    return payload


def _revealed(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {name: _revealed(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_revealed(item) for item in value]
    return value
