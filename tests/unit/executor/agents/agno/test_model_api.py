"""Which model a member asks, where, and with whose key."""

from __future__ import annotations

from typing import Any

import pytest

from executor.agents.agno.members import read_members
from executor.agents.agno.model_api import ModelApi, OwnApi, OwnApis, model_apis
from executor.agents.agno.prices import Price
from shared.errors import RunError
from shared.status import ErrorCode
from tests.fakes.agent_jobs import make_request

OWN: OwnApis = {
    "anthropic": OwnApi(api_key="own-a", model="claude-own"),
    "openai": OwnApi(api_key="own-o", base_url="https://proxy.example/v1"),
}
ANTHROPIC = "https://api.anthropic.com"


def apis(*envs: dict[str, Any], own: OwnApis = OWN, **fields: Any) -> list[ModelApi]:
    bots = [{"name": f"m{i}", "agent_config": {"env": env}} for i, env in enumerate(envs)]
    request = make_request(bot=bots, **fields)
    return list(model_apis(read_members(request), request, own).values())


def test_the_executors_own_key_serves_requests_without_one() -> None:
    assert apis({}) == [ModelApi("anthropic", "claude-own", "own-a", None, ANTHROPIC)]


def test_what_the_request_brings_counts_more() -> None:
    given = {"model_id": "claude-9", "api_key": "k", "base_url": "http://here"}

    assert apis(given) == [ModelApi("anthropic", "claude-9", "k", None, "http://here")]


def test_a_model_of_the_request_counts_more_than_that_of_its_first_bot() -> None:
    first, second = apis({"model_id": "claude-9"}, {"model_id": "claude-8"}, model="claude-7")

    assert (first.model, second.model) == ("claude-7", "claude-8")


@pytest.mark.parametrize(
    "env",
    [
        {"model_id": "gpt-5"},
        {"model": "o4-mini"},
        {"model": "openai", "model_id": "whatever"},
        {"provider": "OpenAI", "model": "whatever"},
        {"OPENAI_MODEL": "whatever"},
    ],
)
def test_models_of_openai_are_told_by_name_word_or_variable(env: dict[str, Any]) -> None:
    [api] = apis(env)

    assert api.provider == "openai"
    assert api.model == (env.get("model_id") or env.get("OPENAI_MODEL") or env["model"])
    assert (api.api_key, api.base_url) == ("own-o", "https://proxy.example/v1")


@pytest.mark.parametrize(
    "env",
    [
        {"model": "claude", "model_id": "whatever"},
        {"model": "claude-9", "OPENAI_API_KEY": "x"},
        {"model_id": "own-fine-tune"},
        {"ANTHROPIC_MODEL": "whatever"},
    ],
)
def test_other_models_are_asked_as_anthropics(env: dict[str, Any]) -> None:
    [api] = apis(env)

    assert (api.provider, api.api_key) == ("anthropic", "own-a")


def test_a_key_of_openai_goes_to_openai() -> None:
    assert apis({"OPENAI_API_KEY": "k"}, own={}) == [
        ModelApi("openai", None, "k", None, "https://api.openai.com/v1")
    ]


def test_an_auth_token_is_as_good_as_a_key() -> None:
    [api] = apis({"auth_token": "t"})

    assert (api.api_key, api.auth_token) == (None, "t")


def test_a_foreign_address_gets_no_key_of_the_executor() -> None:
    with pytest.raises(RunError) as failed:
        apis({"base_url": "http://elsewhere"})

    assert failed.value.error_code == ErrorCode.CREDENTIALS_MISSING
    assert "elsewhere" not in str(failed.value)


def test_the_executors_own_address_gets_its_key() -> None:
    assert apis({"base_url": f"{ANTHROPIC}/"})[0].api_key == "own-a"


def test_without_any_key_the_run_fails_and_says_what_to_do() -> None:
    with pytest.raises(RunError) as failed:
        apis({}, own={})

    assert failed.value.error_code == ErrorCode.CREDENTIALS_MISSING
    assert "ANTHROPIC_API_KEY" in str(failed.value)


def test_a_member_asks_as_its_leader_does() -> None:
    given = {"model_id": "claude-9", "api_key": "k", "base_url": "http://here"}

    leader, member = apis(given, {})
    assert member == leader


def test_a_member_with_an_address_of_its_own_gets_no_key_of_its_leader() -> None:
    with pytest.raises(RunError):
        apis({"api_key": "k", "base_url": "http://here"}, {"base_url": "http://elsewhere"})


def test_a_member_of_another_provider_gets_no_key_of_its_leader() -> None:
    leader, member = apis({"api_key": "k", "base_url": "http://here"}, {"model_id": "gpt-5"})

    assert (leader.api_key, member.api_key) == ("k", "own-o")
    assert member.base_url == "https://proxy.example/v1"


def test_values_that_are_no_text_say_nothing() -> None:
    assert apis({"api_key": 5, "base_url": "", "model": " "})[0].api_key == "own-a"


PRICED = {"input_usd_per_million": 3, "output_usd_per_million": "15.5"}


def test_a_price_is_that_of_the_model_and_goes_with_it() -> None:
    found = apis(
        {"model_id": "claude-9", **PRICED},
        {},
        {"model_id": "claude-9", "api_key": "k"},
        {"model_id": "claude-8"},
        {"model_id": "gpt-5"},
    )

    assert [api.price for api in found] == [Price(3, 15.5)] * 3 + [None] * 2


def test_a_price_is_per_million_tokens() -> None:
    assert Price(3, 15.5).of({"input_tokens": 1_000_000, "output_tokens": 2_000_000}) == 34


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_usd_per_million": 3},
        {**PRICED, "output_usd_per_million": "cheap"},
        {**PRICED, "output_usd_per_million": -1},
        {**PRICED, "output_usd_per_million": "nan"},
        {**PRICED, "output_usd_per_million": True},
        {**PRICED, "output_usd_per_million": ["cheap"]},
    ],
)
def test_what_is_no_price_is_refused_and_not_shown(wrong: dict[str, Any]) -> None:
    with pytest.raises(RunError) as failed:
        apis(wrong)

    assert failed.value.error_code == ErrorCode.INVALID_REQUEST
    assert "cheap" not in str(failed.value)


def test_the_longest_answer_goes_with_the_model() -> None:
    found = apis({"model_id": "claude-9", "max_tokens": "32000"}, {}, {"model_id": "claude-8"})

    assert [api.max_tokens for api in found] == [32_000, 32_000, None]


@pytest.mark.parametrize("wrong", ["many", 0, -1, 1.5, True, [1]])
def test_what_is_no_number_of_tokens_is_refused(wrong: object) -> None:
    with pytest.raises(RunError, match="max_tokens"):
        apis({"max_tokens": wrong})


def test_keys_do_not_show() -> None:
    assert "own-a" not in repr((apis({}), OWN))
