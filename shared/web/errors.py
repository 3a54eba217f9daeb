"""How errors leave over HTTP: one envelope, the right status, never a value that came in.

``{"error": {"code", "message", "hint"}}``; ``hint`` is null when there is no next step to name.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from shared.errors import ProtocolError, WegentError

logger = logging.getLogger(__name__)


class Problem(BaseModel):
    """What went wrong."""

    code: str
    """Stable; for programs."""
    message: str
    hint: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: Problem


class NotFound(WegentError):
    """There is no such thing, or not for this caller."""

    code = "not_found"


class BadRequest(WegentError):
    """The request cannot be read at all."""

    code = "bad_request"


_STATUS_OF_CODE: Final[Mapping[str, int]] = MappingProxyType(
    {ProtocolError.code: 422, NotFound.code: 404, BadRequest.code: 400}
)
"""Which status an error that both programs know gets."""

_CODE_OF_STATUS: Final[Mapping[int, str]] = MappingProxyType(
    {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
)

_UNUSABLE: Final = frozenset({400, 422})
"""What the sender has to mend; why, the log tells as well, for whoever looks after the service."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


def error_response(
    status: int,
    code: str,
    message: str,
    hint: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The envelope with this content."""
    body = ErrorBody(error=Problem(code=code, message=message, hint=hint))
    return JSONResponse(body.model_dump(), status, headers)


def add_error_handlers(app: FastAPI, status_of_code: Mapping[str, int]) -> None:
    """Give every error that a route or the router raises the envelope.

    Args:
        status_of_code: The statuses of the program's own errors; 500 for any other.
    """
    statuses = {**_STATUS_OF_CODE, **status_of_code}

    async def own(_request: Request, exc: Exception) -> JSONResponse:
        if not isinstance(exc, WegentError) or exc.code not in statuses:
            raise exc
        status = statuses[exc.code]
        if status in _UNUSABLE:
            logger.info("refused: %s: %s", exc.code, exc.message)
        return error_response(status, exc.code, exc.message, exc.hint)

    app.add_exception_handler(WegentError, own)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _http(request: Request, exc: Exception) -> JSONResponse:
    if not isinstance(exc, HTTPException):
        raise exc
    code = _CODE_OF_STATUS.get(exc.status_code, "http_error")
    hint: str | None = None
    match exc.status_code:
        case 404:
            message, hint = "there is nothing at this address", "the addresses are listed at /docs"
        case 405:
            message, hint = f"{request.method} is not possible here", "see the Allow header"
        case _:
            message = str(exc.detail)
    return error_response(exc.status_code, code, message, hint, exc.headers)


async def _invalid(_request: Request, exc: Exception) -> JSONResponse:
    if not isinstance(exc, RequestValidationError):
        raise exc
    errors = exc.errors()
    if any(error["type"] == "json_invalid" for error in errors):
        message, hint = "the body is not valid JSON", "send UTF-8 encoded JSON"
        logger.info("refused: invalid_json: %s", message)
        return error_response(400, "invalid_json", message, hint)
    message = "; ".join(dict.fromkeys(_explain(error) for error in errors[:10]))
    logger.info("refused: %s: %s", ProtocolError.code, message)
    whole_body = any(error["loc"] == ("body",) for error in errors)
    mending = "send a JSON object with Content-Type: application/json" if whole_body else None
    return error_response(422, ProtocolError.code, message, mending)


def _explain(error: Mapping[str, Any]) -> str:
    place = field_name(error["loc"][1:]) or str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"{place}: unknown field"
    reason = str(error["msg"]).removeprefix("Value error, ")
    return f"{place}: {reason[:1].lower()}{reason[1:]}"


def field_name(parts: Iterable[object]) -> str:
    """Dotted name of a field; what does not look like a name is replaced, it may be a value."""
    return ".".join(
        str(part) if isinstance(part, int) or _NAME.fullmatch(str(part)) else "(odd name)"
        for part in parts
    )
