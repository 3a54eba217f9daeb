"""From the CLI's own account of a turn to the turn's end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from claude_agent_sdk import ResultMessage

from executor.agents.protocol import TurnEnd
from shared.status import ErrorCode

INTERRUPTED: Final = "the turn was interrupted"

_LOGIN_HINT: Final = (
    "check the API key that this run was given; without one, set ANTHROPIC_API_KEY for the "
    "executor, or log in with `claude` on its machine"
)
_LOGIN_WORDS: Final = ("not logged in", "invalid api key", "please run /login")
_LIMIT_WORDS: Final = ("usage limit", "limit reached", "rate limit", "you've hit your")
_API_REASONS: Final = frozenset({"api_error", "prompt_too_long", "image_error"})


def interrupted(end: TurnEnd) -> bool:
    """Whether *end* is that of a turn that was asked to stop."""
    return end.error == INTERRUPTED


def read_result(
    message: ResultMessage, *, api_error: str | None, model: str | None, cost_usd: float
) -> TurnEnd:
    """The end of a turn.

    Args:
        api_error: ``error`` of the message that the CLI made up before it, or ``None``.
        model: The model that answered, or ``None``.
        cost_usd: What this turn cost; the message counts the whole process.
    """
    statistics: dict[str, Any] = {
        "duration_ms": message.duration_ms,
        "duration_api_ms": message.duration_api_ms,
        "num_turns": message.num_turns,
        "total_cost_usd": cost_usd,
        "usage": message.usage,
        "model": model,
    }
    if not message.is_error:
        return TurnEnd(result=message.result or "", statistics=statistics)
    if (message.terminal_reason or "").startswith("aborted"):
        return TurnEnd(error=INTERRUPTED, error_code=ErrorCode.AGENT_ERROR, statistics=statistics)
    error = _words(message)
    code = _code(message, api_error, error.lower())
    if code == ErrorCode.AUTH_ERROR:
        error = f"{error} ({_LOGIN_HINT})"
    return TurnEnd(
        error=error,
        error_code=code,
        statistics=statistics,
        # The budget is the process's, and it is spent.
        reusable=code != ErrorCode.BUDGET_EXCEEDED,
    )


def refused_login(statistics: Mapping[str, Any]) -> TurnEnd:
    """The end of a turn whose credentials the API refuses again and again."""
    return TurnEnd(
        error=f"Failed to authenticate: the API refuses the credentials ({_LOGIN_HINT})",
        error_code=ErrorCode.AUTH_ERROR,
        statistics=statistics,
    )


def _words(message: ResultMessage) -> str:
    # `errors` for what the CLI itself ends, `result` for failures of the API.
    words = [error for error in message.errors or () if error.strip()]
    return "; ".join(words) or (message.result or "").strip() or message.subtype


def _code(message: ResultMessage, api_error: str | None, words: str) -> ErrorCode:
    status = message.api_error_status
    if message.subtype == "error_max_turns" or message.terminal_reason == "max_turns":
        return ErrorCode.MAX_TURNS
    if message.subtype == "error_max_budget_usd" or message.terminal_reason == "budget_exhausted":
        return ErrorCode.BUDGET_EXCEEDED
    if (
        status in (401, 403)
        or api_error == "authentication_failed"
        or any(part in words for part in _LOGIN_WORDS)
    ):
        return ErrorCode.AUTH_ERROR
    if (
        status in (429, 529)
        or api_error == "rate_limit"
        or any(part in words for part in _LIMIT_WORDS)
    ):
        return ErrorCode.RATE_LIMITED
    if status is not None or api_error is not None or message.terminal_reason in _API_REASONS:
        return ErrorCode.API_ERROR
    return ErrorCode.AGENT_ERROR
