"""Agents of agno whose models are OpenAI's, or speak its protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from executor.agents.agno.model_api import OwnApi
from shared.protocol.events import EventType
from shared.status import ErrorCode
from tests.fakes.agent_jobs import take_turn
from tests.fakes.agno import Playing, ask_again_at_once, fake_server, playing_in, says, texts
from tests.fakes.openai_api import OpenAIApi, openai_api, part_of


@pytest.fixture
async def playing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Playing:
    await ask_again_at_once(monkeypatch)
    return playing_in(tmp_path)


def asking(api: OpenAIApi, **env: str) -> dict[str, Any]:
    return {"env": {"model_id": "gpt-x", "base_url": api.url, "api_key": "sk-of-openai", **env}}


async def test_an_agent_asks_openai_with_its_own_key(playing: Playing) -> None:
    use = {"tool": "mcp__fake__run", "input": {"command": "echo seen"}}
    async with playing() as agno, openai_api(use, "It is seen", "Still there") as api:
        bot = agno.bot("solo", agent_config=asking(api), mcp_servers=fake_server())
        async with agno.opened(bot) as session:
            first = await take_turn(session, "Hi", bot=[bot])
            second = await take_turn(session, "And now?", bot=[bot])

    assert first.end.result == "It is seen "
    assert "seen" in first.results[0][0]
    assert first.end.statistics["usage"]["input_tokens"] == 22
    assert first.end.statistics["num_turns"] == 2
    assert second.end.result == "Still there "
    assert api.keys == ["Bearer sk-of-openai"] * 3
    roles = [message["role"] for message in api.requests[-1]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, ErrorCode.AUTH_ERROR),
        (429, ErrorCode.RATE_LIMITED),
        (400, ErrorCode.API_ERROR),
    ],
)
async def test_refusals_of_openai_are_told_alike(
    playing: Playing, status: int, code: ErrorCode
) -> None:
    async with (
        playing() as agno,
        openai_api(status) as api,
        agno.opened(agno.bot("solo", agent_config=asking(api))) as session,
    ):
        turn = await take_turn(session, "Hi")

    assert turn.end.error_code == code
    assert f"refused (HTTP {status})" in str(turn.end.error)
    assert (turn.end.retry_at is not None) == (code == ErrorCode.RATE_LIMITED)


@pytest.mark.parametrize(
    ("last", "code", "words"),
    [
        ([], ErrorCode.API_ERROR, "broke off its answer"),
        ([part_of({}, "length")], ErrorCode.API_ERROR, "limit of its tokens; max_tokens"),
        ([part_of({}, "content_filter")], ErrorCode.API_ERROR, "refused to answer"),
        (
            [part_of({"refusal": "I can"}), part_of({"refusal": "not."}), part_of({}, "stop")],
            ErrorCode.API_ERROR,
            "refused to answer",
        ),
        ([{"error": {"message": "slow down", "code": 429}}], ErrorCode.RATE_LIMITED, "slow down"),
        ([{"error": {"message": "odd", "code": "odd"}}], ErrorCode.API_ERROR, "odd"),
    ],
)
async def test_what_is_not_a_whole_answer_is_none(
    playing: Playing, last: list[dict[str, Any]], code: ErrorCode, words: str
) -> None:
    parts = [part_of({"content": "I th"}), *last]
    async with (
        playing() as agno,
        openai_api(parts) as api,
        agno.opened(agno.bot("solo", agent_config=asking(api))) as session,
    ):
        turn = await take_turn(session, "Hi")

    assert turn.end.error_code == code
    assert words in str(turn.end.error)
    assert len(turn.of(EventType.LLM_ERROR)) == 1
    assert len(api.requests) == 1  # what was said would be told twice


async def test_a_key_does_not_follow_to_another_address(playing: Playing) -> None:
    async with playing() as agno, openai_api("Hello") as other, openai_api(307) as api:
        api.elsewhere = f"{other.url}/chat/completions"
        async with agno.opened(agno.bot("solo", agent_config=asking(api))) as session:
            turn = await take_turn(session, "Hi")

    assert turn.end.error_code == ErrorCode.API_ERROR
    assert not other.requests


async def test_an_api_that_says_nothing_is_asked_again(playing: Playing) -> None:
    async with (
        playing() as agno,
        openai_api([part_of({"role": "assistant", "content": ""})], "Hello") as api,
        agno.opened(agno.bot("solo", agent_config=asking(api))) as session,
    ):
        turn = await take_turn(session, "Hi")

    assert turn.end.result == "Hello "


async def test_half_a_character_costs_neither_its_turn_nor_the_next(playing: Playing) -> None:
    async with (
        playing() as agno,
        openai_api("Hello") as api,
        agno.opened(agno.bot("solo", agent_config=asking(api))) as session,
    ):
        turns = [await take_turn(session, prompt) for prompt in ("Half \ud83d, 研究", "Again")]

    assert [turn.end.error for turn in turns] == [None, None]
    assert [request["messages"][1]["content"] for request in api.requests] == ["Half ?, 研究"] * 2


async def test_tokens_that_are_counted_along_are_counted_once(playing: Playing) -> None:
    counts = [{"prompt_tokens": 11, "completion_tokens": n, "total_tokens": 11 + n} for n in (1, 2)]
    parts = [
        part_of({"content": "Hel"}, usage=counts[0]),
        part_of({"content": "lo"}, "stop", usage=counts[1]),
    ]
    async with (
        playing() as agno,
        openai_api(parts) as api,
        agno.opened(agno.bot("solo", agent_config=asking(api))) as session,
    ):
        turn = await take_turn(session, "Hi")

    assert turn.end.result == "Hello"
    usage = turn.end.statistics["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (11, 2)


async def test_members_of_one_team_may_have_models_of_both(playing: Playing) -> None:
    use = {"tool": "delegate_task_to_member", "input": {"member_id": "ann", "task": "Say A"}}
    async with playing(says("ann", "A!")) as agno, openai_api(use, "Ann said A") as api:
        bots = [agno.bot("lead", agent_config=asking(api)), agno.bot("ann")]
        async with agno.opened(*bots) as session:
            turn = await take_turn(session, "Hi", bot=bots)

    assert texts(turn) == {"lead": "Ann said A ", "ann": "A!"}
    assert turn.of(EventType.DISPATCH_WORKER)


async def test_the_executors_own_key_serves_openai_too(playing: Playing) -> None:
    async with playing() as agno, openai_api("Hello") as api:
        agno.own = {"openai": OwnApi("sk-own", base_url=api.url)}
        bot = agno.bot("solo", agent_config={"env": {"model_id": "gpt-x"}})
        async with agno.opened(bot) as session:
            turn = await take_turn(session, "Hi")

    assert turn.end.result == "Hello "
    assert api.keys == ["Bearer sk-own"]


async def test_nothing_of_the_environment_reaches_openai(
    playing: Playing, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "ORG_ID", "PROJECT_ID", "ADMIN_KEY", "BASE_URL", "CUSTOM_HEADERS"):
        monkeypatch.setenv(f"OPENAI_{name}", "x-from-environment: yes")
    async with (
        playing() as agno,
        openai_api("Hello") as api,
        agno.opened(agno.bot("solo", agent_config=asking(api))) as session,
    ):
        turn = await take_turn(session, "Hi")

    assert turn.end.result == "Hello "
    assert "environment" not in str(api.headers)
