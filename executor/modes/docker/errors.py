"""What docker mode refuses, and with which HTTP status."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from executor.modes.docker.bodies import InvalidJson
from shared.errors import Refusal, WegentError
from shared.status import ErrorCode
from shared.web.errors import add_error_handlers, error_response

RETRY_AFTER_S: Final = 5
"""After how long a refused caller may try again; runs take minutes."""


class Conflict(WegentError):
    """The run's id is that of a run of another session."""

    code = "conflict"


class UnknownQuestion(WegentError):
    """Nobody waits for this answer."""

    code = "unknown_request"


class QuestionExpired(WegentError):
    """The agent does not wait for the answer any more."""

    code = "expired"


_STATUS_OF_CODE: Final[Mapping[str, int]] = MappingProxyType(
    {
        InvalidJson.code: 400,
        Conflict.code: 409,
        UnknownQuestion.code: 409,
        QuestionExpired.code: 409,
    }
)

_STATUS_OF_REFUSAL: Final[Mapping[ErrorCode, int]] = MappingProxyType(
    {ErrorCode.BUSY: 503, ErrorCode.DRAINING: 503, ErrorCode.SUPERSEDED: 409}
)
"""422 for any other."""


def add_handlers(app: FastAPI) -> None:
    """Give every error of docker mode its status and the envelope."""
    add_error_handlers(app, _STATUS_OF_CODE)
    app.add_exception_handler(Refusal, _refused)


async def _refused(_request: Request, exc: Exception) -> JSONResponse:
    if not isinstance(exc, Refusal):
        raise exc
    status = _STATUS_OF_REFUSAL.get(exc.error_code, 422)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
    return error_response(status, exc.error_code, exc.message, exc.hint, headers)
