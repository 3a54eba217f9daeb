"""How the API of a model is asked, and when once more."""

from __future__ import annotations

import httpx2
import pytest
from agno.exceptions import ModelProviderError

from executor.agents.agno.model_api import ModelApi, Provider
from executor.agents.agno.models import LONGEST_PAUSE_S, MAX_RETRIES, make_model, pause_s


class Answer(Exception):
    def __init__(self, status: int, code: str = "", **headers: str) -> None:
        super().__init__()
        self.body = {"code": code}
        self.status_code = status
        self.response = self
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def refused(answer: Exception | None) -> ModelProviderError:
    error = ModelProviderError("?")
    error.__cause__ = answer
    return error


@pytest.mark.parametrize("status", [408, 429, 500, 503, 529])
def test_what_passes_is_asked_again(status: int) -> None:
    pause = pause_s(refused(Answer(status)), 0)

    assert pause is not None
    assert 0 < pause <= 1


def test_without_a_connection_it_is_asked_again_later_each_time() -> None:
    first, second = (pause_s(refused(ConnectionError()), attempt) for attempt in (0, 1))

    assert first is not None
    assert second is not None
    assert first <= second


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413])
def test_what_stays_is_not_asked_again(status: int) -> None:
    assert pause_s(refused(Answer(status)), 0) is None


def test_who_must_be_paid_first_is_not_asked_again() -> None:
    assert pause_s(refused(Answer(429, "insufficient_quota")), 0) is None


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
async def test_the_longest_answer_is_that_of_the_request(provider: Provider) -> None:
    async with httpx2.AsyncClient() as http:
        api = ModelApi(provider, "m", "k", None, "http://here", max_tokens=7)
        model = make_model(api, http, lambda _: None)

    assert 7 in model.get_request_params().values()  # type: ignore[attr-defined] # both have it


def test_nobody_is_asked_for_ever() -> None:
    assert pause_s(refused(Answer(500)), MAX_RETRIES) is None


def test_a_short_limit_is_waited_for_and_a_long_one_is_the_runs() -> None:
    short = pause_s(refused(Answer(429, retry_after="5")), 0)

    assert short is not None
    assert short > 4
    assert pause_s(refused(Answer(429, retry_after=str(LONGEST_PAUSE_S + 5))), 0) is None
