"""From the CLI's account of a turn to the turn's end."""

from __future__ import annotations

from typing import Any

import pytest
from claude_agent_sdk import ResultMessage

from executor.agents.claude_code.verdict import interrupted, read_result
from executor.agents.protocol import TurnEnd
from shared.status import ErrorCode


def read(api_error: str | None = None, **fields: Any) -> TurnEnd:
    values: dict[str, Any] = {
        "subtype": "success",
        "duration_ms": 10,
        "duration_api_ms": 5,
        "is_error": True,
        "num_turns": 1,
        "session_id": "s",
    }
    message = ResultMessage(**(values | fields))
    return read_result(message, api_error=api_error, model="m1", cost_usd=0.5)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"api_error_status": 401, "result": "API Error: 401"}, ErrorCode.AUTH_ERROR),
        ({"api_error_status": 403, "result": "API Error: 403"}, ErrorCode.AUTH_ERROR),
        ({"result": "Not logged in · Please run /login"}, ErrorCode.AUTH_ERROR),
        ({"api_error": "authentication_failed", "result": "No"}, ErrorCode.AUTH_ERROR),
        ({"api_error_status": 429, "result": "Slow down"}, ErrorCode.RATE_LIMITED),
        ({"api_error_status": 529, "result": "Overloaded"}, ErrorCode.RATE_LIMITED),
        ({"result": "Claude usage limit reached"}, ErrorCode.RATE_LIMITED),
        ({"api_error_status": 500, "result": "API Error: 500"}, ErrorCode.API_ERROR),
        ({"api_error": "server_error", "result": "ECONNREFUSED"}, ErrorCode.API_ERROR),
        ({"api_error": "model_not_found", "result": "No model"}, ErrorCode.API_ERROR),
        ({"terminal_reason": "prompt_too_long", "result": "Too long"}, ErrorCode.API_ERROR),
        ({"subtype": "error_max_turns", "errors": ["Reached"]}, ErrorCode.MAX_TURNS),
        ({"subtype": "error_max_budget_usd", "errors": ["Spent"]}, ErrorCode.BUDGET_EXCEEDED),
        ({"subtype": "error_during_execution", "errors": ["Broke"]}, ErrorCode.AGENT_ERROR),
        ({"result": "Whatever"}, ErrorCode.AGENT_ERROR),
    ],
)
def test_every_failure_has_its_code_and_the_agents_own_words(
    fields: dict[str, Any], code: ErrorCode
) -> None:
    end = read(**fields)
    words = fields.get("result") or fields["errors"][0]
    assert end.error_code == code
    assert (end.error or "").startswith(words)
    assert ("log in with" in (end.error or "")) == (code == ErrorCode.AUTH_ERROR)
    assert end.reusable == (code != ErrorCode.BUDGET_EXCEEDED)
    assert end.statistics["num_turns"] == 1


def test_a_failure_without_words_names_its_kind() -> None:
    assert (
        read(subtype="error_during_execution", errors=["", " "]).error == "error_during_execution"
    )


def test_an_aborted_turn_is_an_interrupted_one() -> None:
    end = read(subtype="error_during_execution", terminal_reason="aborted_tools")
    assert interrupted(end)
    assert end.reusable


def test_a_success_is_one_even_without_an_answer() -> None:
    end = read(is_error=False, result=None)
    assert (end.result, end.error_code, end.error) == ("", None, None)
