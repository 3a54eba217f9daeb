"""From what a model's API answered to the end of a turn."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

from agno.exceptions import ModelAuthenticationError, ModelProviderError, ModelRateLimitError

from executor.agents.protocol import TurnEnd
from shared.status import ErrorCode

INTERRUPTED: Final = "the turn was interrupted"

FATAL: Final = frozenset({ErrorCode.AUTH_ERROR, ErrorCode.RATE_LIMITED})
"""Of a member: its leader could only go on without it, and would have to make its part up."""

_LOGIN_HINT: Final = "check the API key that this run, or the executor, was given for it"
_OUT_OF_MONEY: Final = "insufficient_quota"

MAX_ERROR_CHARS: Final = 1_000
"""Of an API's words: what is between may answer with a whole page."""

_STATUS: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "server_error": 500,
    "overloaded_error": 529,
}
"""What the kinds of errors mean that come when an answer has begun as HTTP 200."""


def read_failure(error: Exception, who: str, *, now: Callable[[], float] = time.time) -> TurnEnd:
    """The end of a turn that *error* of a model has ended.

    To be called as soon as it is raised: agno raises it anew from itself, and what the API has
    answered is lost.

    Args:
        who: Whose model it was, for the reader.
        now: The time in seconds since the epoch.
    """
    answer = error.__cause__
    status = status_of(answer)
    words = f"{who}: {_words(error, answer)}"
    if status is not None:
        words = f"{words} (HTTP {status})"
    code = _code(error, answer, status)
    if code == ErrorCode.AUTH_ERROR:
        words = f"{words} ({_LOGIN_HINT})"
    retry_at = None
    if code == ErrorCode.RATE_LIMITED:
        retry_at = lifted_at(headers_of(answer), now())
    return TurnEnd(error=words, error_code=code, retry_at=retry_at)


def status_of(answer: BaseException | None) -> int | None:
    """The HTTP status of an API's refusal, also of one inside of an answer; ``None``: it is none.

    *answer* is what its SDK has raised.
    """
    status: int | None = getattr(answer, "status_code", None)
    if status is not None and status >= 300:
        return status
    body = _body(answer)
    code = body.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return _STATUS.get(str(code)) or _STATUS.get(str(body.get("type")))


def is_out_of_money(answer: BaseException | None) -> bool:
    """Whether an API refuses until somebody pays: no time lifts this limit."""
    return _OUT_OF_MONEY in str(_body(answer).get("code"))


def headers_of(answer: BaseException | None) -> Mapping[str, str]:
    """The headers of an API's refusal, as its SDK has raised it; empty without one."""
    return getattr(getattr(answer, "response", None), "headers", None) or {}


def lifted_at(headers: Mapping[str, str], now: float) -> float | None:
    """When a limit is lifted, in seconds since the epoch; ``None``: the API does not say."""
    moment = _lifted_at(headers, now)
    return moment if moment is not None and math.isfinite(moment) else None


def _lifted_at(headers: Mapping[str, str], now: float) -> float | None:
    try:
        if reset := headers.get("anthropic-ratelimit-unified-reset"):
            return float(reset)
        if milliseconds := headers.get("retry-after-ms"):
            return now + float(milliseconds) / 1000
        wait = headers.get("retry-after")
        if wait is None:
            return None
        if wait.strip().replace(".", "", 1).isdigit():
            return now + float(wait)
        return parsedate_to_datetime(wait).timestamp()
    except (ValueError, OverflowError):
        return None


def _code(error: Exception, answer: BaseException | None, status: int | None) -> ErrorCode:
    if isinstance(error, ModelAuthenticationError) or status in (401, 403):
        return ErrorCode.AUTH_ERROR
    if is_out_of_money(answer):
        return ErrorCode.API_ERROR
    if isinstance(error, ModelRateLimitError) or status in (429, 529):
        return ErrorCode.RATE_LIMITED
    if isinstance(error, ModelProviderError):
        return ErrorCode.API_ERROR
    return ErrorCode.AGENT_ERROR


def _words(error: Exception, answer: BaseException | None) -> str:
    said = _body(answer).get("message")
    return str(said or error).strip()[:MAX_ERROR_CHARS] or type(error).__name__


def _body(answer: BaseException | None) -> Mapping[str, Any]:
    """What the API said about its error; both APIs put it into ``error``."""
    body = getattr(answer, "body", None)
    if not isinstance(body, Mapping):
        return {}
    inner = body.get("error")
    return inner if isinstance(inner, Mapping) else body
