"""What the APIs of models answer, as the end of a turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from agno.exceptions import ModelAuthenticationError, ModelProviderError, ModelRateLimitError

from executor.agents.agno.verdict import MAX_ERROR_CHARS, lifted_at, read_failure
from executor.agents.protocol import TurnEnd

NOW = 1_000_000.0


class Answer(Exception):
    """An error of an SDK, as far as it is looked at."""

    def __init__(self, status: int, body: object = None, headers: Mapping[str, str] = {}) -> None:
        super().__init__("Error code")
        self.status_code = status
        self.body = body
        self.response = self
        self.headers = headers


def failure(error: Exception, answer: Exception | None = None) -> TurnEnd:
    error.__cause__ = answer
    return read_failure(error, "ann", now=lambda: NOW)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "auth_error"),
        (403, "auth_error"),
        (429, "rate_limited"),
        (529, "rate_limited"),
        (400, "api_error"),
        (404, "api_error"),
        (500, "api_error"),
    ],
)
def test_the_status_tells_the_code(status: int, code: str) -> None:
    end = failure(ModelProviderError("?"), Answer(status))

    assert end.error_code == code
    assert f"(HTTP {status})" in str(end.error)


def test_errors_without_an_answer_are_told_by_their_kind() -> None:
    assert failure(ModelAuthenticationError("no key")).error_code == "auth_error"
    assert failure(ModelRateLimitError("slow down")).error_code == "rate_limited"
    assert failure(ModelProviderError("no connection")).error_code == "api_error"
    assert failure(ValueError("odd")).error_code == "agent_error"


@pytest.mark.parametrize("nested", [True, False])
def test_the_words_are_those_of_the_api(nested: bool) -> None:
    body: Any = {"message": "too hot"}
    end = failure(ModelProviderError("?"), Answer(500, {"error": body} if nested else body))

    assert end.error == "ann: too hot (HTTP 500)"


def test_a_page_of_what_is_between_is_not_told_as_a_whole() -> None:
    end = failure(ModelProviderError("<html>" + "x" * 100_000), Answer(502))

    assert len(str(end.error)) < MAX_ERROR_CHARS + 100


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"type": "error", "error": {"type": "overloaded_error"}}, "rate_limited"),
        ({"error": {"code": "rate_limit_exceeded"}}, "rate_limited"),
        ({"code": 401}, "auth_error"),
        ({"code": "odd", "type": ["odd"]}, "api_error"),
    ],
)
def test_an_error_inside_of_an_answer_is_told_by_its_kind(
    body: dict[str, object], code: str
) -> None:
    assert failure(ModelProviderError("?"), Answer(200, body)).error_code == code


def test_no_time_lifts_a_limit_of_money() -> None:
    answer = Answer(429, {"code": "insufficient_quota", "message": "no money"})

    assert failure(ModelProviderError("?"), answer).error_code == "api_error"


@pytest.mark.parametrize(
    ("headers", "when"),
    [
        ({"retry-after": "30"}, NOW + 30),
        ({"retry-after": "0.5"}, NOW + 0.5),
        ({"retry-after-ms": "1500", "retry-after": "30"}, NOW + 1.5),
        ({"anthropic-ratelimit-unified-reset": "1000100", "retry-after": "3"}, 1_000_100),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, 1792567680),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_when_a_limit_is_lifted(headers: dict[str, str], when: float | None) -> None:
    assert lifted_at(headers, NOW) == when
    end = failure(ModelRateLimitError("?"), Answer(429, headers=headers))
    assert end.retry_at == when


@pytest.mark.parametrize("value", ["inf", "nan", "1e999"])
def test_a_limit_without_a_real_time_is_told_without_one(value: str) -> None:
    assert lifted_at({"anthropic-ratelimit-unified-reset": value}, NOW) is None
    assert lifted_at({"retry-after-ms": value}, NOW) is None
