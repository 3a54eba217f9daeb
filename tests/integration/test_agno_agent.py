"""The agno agent with the real library: one agent alone."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from shared.errors import RunError
from shared.protocol.events import EventType, Source
from shared.status import ErrorCode
from tests.fakes.agent_jobs import nobody, take_turn
from tests.fakes.agno import Agno, Playing, ask_again_at_once, fake_server, playing_in, says, told
from tests.fakes.model import Step, error_step, scenario, step, text_step, tool_step


@pytest.fixture
async def playing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Playing:
    await ask_again_at_once(monkeypatch)
    return playing_in(tmp_path)


_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ"
    "RU5ErkJggg=="
)


async def test_an_agent_alone_answers_in_one_message(playing: Playing) -> None:
    async with playing(says("solo", "Hello, world")) as agno, agno.opened() as session:
        turn = await take_turn(session, "Hi")

    assert turn.end.error is None
    assert turn.end.result == "Hello, world"
    assert turn.end.statistics["num_turns"] == 1
    assert turn.end.statistics["usage"]["output_tokens"] > 0
    assert turn.end.statistics["model"] == "claude-x"
    assert told(turn) == [
        ("", "agent.session"),
        ("solo", "llm.start"),
        ("solo", "llm.stream"),
        ("solo", "llm.done"),
    ]
    [done] = turn.of(EventType.LLM_DONE)
    assert done.data["content"] == "Hello, world"
    assert done.source == Source("id-solo", "agent", "solo")


async def test_deltas_join_to_the_whole_message_with_their_offsets(playing: Playing) -> None:
    async with playing(says("solo", "Hello, world! " * 20)) as agno, agno.opened() as session:
        turn = await take_turn(session, "Hi")

    parts = turn.data(EventType.LLM_STREAM)
    assert len(parts) > 3
    position = 0
    for part in parts:
        assert part["offset"] == position
        position += len(part["content"])
    assert "".join(part["content"] for part in parts) == "Hello, world! " * 20


async def test_a_thought_is_told_once_and_before_what_follows_it(playing: Playing) -> None:
    thinking = step({"thinking": "What would the world like to hear? " * 5}, {"text": "Hello"})
    async with playing(scenario(thinking)) as agno, agno.opened() as session:
        turn = await take_turn(session, "Hi")

    assert [data["content"] for data in turn.data(EventType.REASONING)] == [
        "What would the world like to hear? " * 5
    ]
    kinds = [kind for _, kind in told(turn)]
    assert kinds.index("llm.reasoning") < kinds.index("llm.stream")
    assert turn.end.result == "Hello"


async def test_the_next_turn_knows_the_one_before(playing: Playing) -> None:
    first = scenario(text_step("I shall remember 17."), name="first", prompt="Remember 17")
    second = scenario(
        text_step("It was 17."), name="second", prompt="Which", history="I shall remember 17."
    )
    async with playing(first, second) as agno, agno.opened() as session:
        await take_turn(session, "Remember 17")
        turn = await take_turn(session, "Which number?")

    assert turn.end.result == "It was 17."


async def test_a_conversation_is_continued_by_a_new_process(playing: Playing) -> None:
    first = scenario(text_step("I shall remember 17."), name="first", prompt="Remember 17")
    second = scenario(text_step("It was 17."), name="second", history="I shall remember 17.")
    async with playing(first, second) as agno:
        async with agno.opened() as session:
            await take_turn(session, "Remember 17")
            conversation = session.session_id
        async with agno.opened(resume=conversation) as session:
            turn = await take_turn(session, "Which number?")

    assert turn.end.result == "It was 17."
    assert turn.data(EventType.SESSION) == [{"sdk_session_id": conversation}]
    assert not turn.of(EventType.WARNING)


async def test_a_conversation_that_is_gone_is_begun_anew_and_says_so(playing: Playing) -> None:
    async with (
        playing(says("solo", "Hello")) as agno,
        agno.opened(resume="never-heard-of") as session,
    ):
        turn = await take_turn(session, "Hi")
        conversation = session.session_id

    assert turn.end.result == "Hello"
    [warning] = turn.data(EventType.WARNING)
    assert "a new one was begun" in warning["message"]
    assert conversation != "never-heard-of"


async def test_an_executor_that_is_never_restarted_forgets_old_conversations_too(
    playing: Playing,
) -> None:
    async with playing() as agno:
        agent = agno.agent()
        job = await asyncio.to_thread(agno.job)
        await (await agent.open(job)).close()
        [old] = agno.conversations.iterdir()
        os.utime(old, (0, 0))
        await (await agent.open(job)).close()

        assert not old.exists()


async def test_another_session_cannot_continue_a_conversation(playing: Playing) -> None:
    async with playing(says("solo", "The password is x", "?")) as agno:
        async with agno.opened() as session:
            await take_turn(session, "Hi")
            conversation = session.session_id
        async with agno.opened(resume=conversation, task_id=2) as session:
            turn = await take_turn(session, "Hi", task_id=2)

    assert turn.of(EventType.WARNING)
    assert turn.data(EventType.SESSION) != [{"sdk_session_id": conversation}]


async def test_an_interrupted_turn_ends_at_once_and_its_request_too(playing: Playing) -> None:
    endless = scenario(step({"text": "I think"}, {"gate": "never"}), name="endless", prompt="Hi")
    after = scenario(text_step("Here I am"), name="after", history="I think\n\n[cut off here")
    async with playing(endless, after) as agno, agno.opened() as session:
        spoken = asyncio.Event()
        taking = asyncio.create_task(take_turn(session, "Hi", spoken=spoken))
        await spoken.wait()
        await session.interrupt()
        turn = await taking
        await agno.model.wait_for_request(lambda request: request.outcome == "client left")
        again = await take_turn(session, "Go on")

    assert turn.end.error == "the turn was interrupted"
    [error] = turn.data(EventType.LLM_ERROR)
    assert error["code"] == "cancelled"
    assert again.end.result == "Here I am"


async def test_a_session_whose_turn_does_not_end_in_time_is_not_used_again(
    playing: Playing, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = scenario(step({"text": "I think"}, {"gate": "never"}), name="endless")
    async with playing(endless) as agno, agno.opened() as session:
        spoken = asyncio.Event()
        taking = asyncio.create_task(take_turn(session, "Hi", spoken=spoken))
        await spoken.wait()
        monkeypatch.setattr("executor.agents.agno.session.END_TIMEOUT_S", 0)
        await session.interrupt()
        turn = await taking
        await agno.model.wait_for_request(lambda request: request.outcome == "client left")

    assert not turn.end.reusable


async def test_what_a_turn_has_done_is_known_when_it_ends_early(playing: Playing) -> None:
    use = tool_step("mcp__fake__run", {"command": "echo made $((6 * 7))"})
    first = scenario(use, error_step(400), name="first", prompt="Hi")
    after = scenario(text_step("It is made."), name="after", history="made 42")
    async with (
        playing(after, first) as agno,
        agno.opened(agno.bot("solo", mcp_servers=fake_server())) as session,
    ):
        failed = await take_turn(session, "Hi")
        again = await take_turn(session, "Go on")

    assert failed.end.error_code == ErrorCode.API_ERROR
    assert again.end.result == "It is made."


async def test_what_a_turn_has_done_is_known_after_a_kill(playing: Playing) -> None:
    use = tool_step("mcp__fake__run", {"command": "echo made $((6 * 7))"})
    rest = step({"text": "And now"}, {"gate": "never"})
    killed = scenario(use, rest, name="killed", prompt="Hi")
    after = scenario(text_step("It is made."), name="after", history=["made 42", "[cut off here"])
    async with playing(after, killed) as agno:
        bot = priced(agno, "solo")
        async with agno.opened(bot) as session:
            turn = session.turn(agno.job(bot, prompt="Hi").request, nobody)
            async for item in turn:
                if getattr(item, "type", None) == EventType.LLM_STREAM:
                    break  # from here on nothing is written down any more
            job = await asyncio.to_thread(agno.job, bot, resume=session.session_id)
            cost_usd = await agno.agent().past_cost_usd(job)
            async with agno.opened(bot, resume=session.session_id) as resumed:
                again = await take_turn(resumed, "Go on")
            await turn.aclose()

    assert again.end.result == "It is made."
    assert cost_usd > 0


async def test_a_turn_that_nobody_reads_to_its_end_leaves_no_request(playing: Playing) -> None:
    endless = scenario(step({"text": "I think"}, {"gate": "never"}), name="endless")
    async with playing(endless) as agno, agno.opened() as session:
        turn = session.turn(agno.job(prompt="Hi").request, nobody)
        async for item in turn:
            if getattr(item, "type", None) == EventType.LLM_STREAM:
                break
        await turn.aclose()
        await agno.model.wait_for_request(lambda request: request.outcome == "client left")


async def test_a_closed_session_ends_its_turn_and_is_not_alive(playing: Playing) -> None:
    endless = scenario(step({"text": "I think"}, {"gate": "never"}), name="endless")
    async with playing(endless) as agno, agno.opened() as session:
        spoken = asyncio.Event()
        taking = asyncio.create_task(take_turn(session, "Hi", spoken=spoken))
        await spoken.wait()
        await session.close()
        turn = await taking
        assert not session.alive

    assert turn.end.error_code == ErrorCode.AGENT_ERROR


async def test_agno_stands_still_while_nobody_reads(
    playing: Playing, monkeypatch: pytest.MonkeyPatch
) -> None:
    use = tool_step("mcp__fake__run", {"command": "true"}, text="I look.")
    async with playing(scenario(use, text_step("Well."))) as agno:
        bot = agno.bot("solo", mcp_servers=fake_server())
        async with agno.opened(bot) as session:
            monkeypatch.setattr("executor.agents.agno.work.MAX_WAITING", 0)
            turn = session.turn(agno.job(prompt="Hi").request, nobody)
            async for item in turn:
                if getattr(item, "type", None) == EventType.LLM_STREAM:
                    break
            second = asyncio.create_task(
                agno.model.wait_for_request(lambda _: len(agno.model.requests) == 2)
            )
            early, _ = await asyncio.wait({second}, timeout=0.5)
            rest = [item async for item in turn]
            await second

    assert not early
    assert getattr(rest[-1], "result", None) == "Well."


async def test_too_many_turns_end_the_run(playing: Playing) -> None:
    use = tool_step("mcp__fake__run", {"command": "true"})
    async with playing(scenario(use, use, use, text_step("done"))) as agno:
        bot = agno.bot("solo", mcp_servers=fake_server())
        async with agno.opened(bot) as session:
            turn = await take_turn(session, "Hi", max_turns=2)

    assert turn.end.error_code == ErrorCode.MAX_TURNS
    assert turn.end.statistics["num_turns"] == 2
    assert len(turn.results) == 2
    assert len(agno.model.requests) == 2


PRICED = {"input_usd_per_million": 1_000_000, "output_usd_per_million": "2000000"}
"""A dollar for each token of the prompt, two for each of the answer."""


def using(tokens: int) -> Step:
    call = {"tool": "mcp__fake__run", "input": {"command": "true"}}
    return step(call, usage={"input_tokens": tokens, "output_tokens": tokens})


def priced(agno: Agno, name: str, **fields: Any) -> dict[str, Any]:
    bot = agno.bot(name, mcp_servers=fake_server(), **fields)
    bot["agent_config"]["env"] |= PRICED
    return bot


async def test_a_run_ends_when_its_budget_is_spent(playing: Playing) -> None:
    async with playing(scenario(using(1), using(1), using(1), text_step("done"))) as agno:
        bot = priced(agno, "solo")
        async with agno.opened(bot, max_budget_usd=6) as session:
            turn = await take_turn(session, "Hi", max_budget_usd=6)
            cost_usd = session.cost_usd

    assert turn.end.error_code == ErrorCode.BUDGET_EXCEEDED
    assert turn.end.error == "Reached maximum budget ($6)"
    assert turn.end.statistics["total_cost_usd"] == cost_usd == 6
    assert len(agno.model.requests) == 2


async def test_an_answer_that_has_been_paid_for_is_given(playing: Playing) -> None:
    last = step({"text": "done"}, usage={"input_tokens": 5, "output_tokens": 5})
    async with (
        playing(scenario(using(1), last)) as agno,
        agno.opened(priced(agno, "solo"), max_budget_usd=4) as session,
    ):
        turn = await take_turn(session, "Hi", max_budget_usd=4)

    assert turn.end.result == "done"
    assert turn.end.statistics["total_cost_usd"] == 18


async def test_members_spend_the_budget_of_the_run(playing: Playing) -> None:
    call = {"member_id": "ann", "task": "Say A"}
    once = {"input_tokens": 1, "output_tokens": 1}
    leader = scenario(
        step({"tool": "delegate_task_to_member", "input": call}, usage=once), system="LEAD"
    )
    ann = scenario(step({"text": "A!"}, usage=once), system="ANN")
    async with playing(leader, ann) as agno:
        bots = [priced(agno, "lead"), agno.bot("ann")]
        async with agno.opened(*bots, max_budget_usd=5) as session:
            turn = await take_turn(session, "Hi", bot=bots, max_budget_usd=5)

    assert turn.end.error_code == ErrorCode.BUDGET_EXCEEDED
    assert turn.end.statistics["total_cost_usd"] == 6
    assert len(agno.model.requests) == 2


async def test_what_a_conversation_has_cost_outlives_the_process(playing: Playing) -> None:
    answer = step({"text": "Hello"}, usage={"input_tokens": 1, "output_tokens": 1})
    async with playing(scenario(answer)) as agno:
        bot = priced(agno, "solo")
        async with agno.opened(bot) as session:
            await take_turn(session, "Hi")
            conversation = session.session_id
        job = await asyncio.to_thread(agno.job, bot, resume=conversation)
        assert await agno.agent().past_cost_usd(job) == 3
        async with agno.opened(bot, resume=conversation) as session:
            turn = await take_turn(session, "Hi")
            assert session.cost_usd == 6

    assert turn.end.statistics["total_cost_usd"] == 3


async def test_a_budget_is_refused_when_a_price_is_missing(playing: Playing) -> None:
    async with playing() as agno:
        job = await asyncio.to_thread(agno.job, agno.bot("solo"), max_budget_usd=1)
        with pytest.raises(RunError, match="what the model of 'solo' costs") as refused:
            await agno.agent().open(job)

    assert refused.value.error_code == ErrorCode.INVALID_REQUEST


async def test_without_prices_nobody_says_what_a_turn_has_cost(playing: Playing) -> None:
    async with playing(says("solo", "Hello")) as agno, agno.opened() as session:
        turn = await take_turn(session, "Hi")

    assert turn.end.statistics["total_cost_usd"] is None


async def test_braces_in_prompts_are_what_they_say(playing: Playing) -> None:
    async with playing(says("solo", "Hello")) as agno:
        async with agno.opened(agno.bot("solo", system_prompt="SOLO {session_state}")) as session:
            turn = await take_turn(session, "Hi {user_id}")
        [request] = agno.model.requests

    assert turn.end.result == "Hello"
    assert request.system.count("SOLO {session_state}") == 1
    assert request.prompt == "Hi {user_id}"


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # agno reads pictures with it
async def test_pictures_reach_the_model(playing: Playing) -> None:
    picture = {"type": "base64", "media_type": "image/png", "data": _PIXEL}
    prompt = [{"type": "text", "text": "Look"}, {"type": "image", "source": picture}]
    async with playing(says("solo", "I see", "Nothing")) as agno:
        async with agno.opened() as session:
            first = await take_turn(session, prompt)
            conversation = session.session_id
        async with agno.opened(resume=conversation) as session:
            second = await take_turn(session, "And now?")

    assert (first.end.error, second.end.error) == (None, None)
    assert _PIXEL in (agno.conversations / f"{conversation}.json").read_text()


async def test_pictures_that_are_only_named_are_left_out_and_told(playing: Playing) -> None:
    picture = {"type": "url", "url": "http://127.0.0.1:9/picture.png"}
    prompt = [{"type": "text", "text": "Look"}, {"type": "image", "source": picture}]
    async with playing(says("solo", "I see nothing")) as agno, agno.opened() as session:
        turn = await take_turn(session, prompt)
        file = agno.conversations / f"{session.session_id}.json"
        [[asked, _]] = json.loads(await asyncio.to_thread(file.read_text))["turns"]

    assert turn.end.error is None
    [warning] = turn.data(EventType.WARNING)
    assert "given as an address" in warning["message"]
    assert not asked.get("images")


# --- what APIs refuse ------------------------------------------------------------------------


async def test_a_refused_key_is_an_auth_error_that_shows_no_key(playing: Playing) -> None:
    async with playing(scenario(error_step(401))) as agno, agno.opened() as session:
        turn = await take_turn(session, "Hi")

    assert turn.end.error_code == ErrorCode.AUTH_ERROR
    assert turn.end.error is not None
    assert "invalid x-api-key (HTTP 401)" in turn.end.error
    [error] = turn.data(EventType.LLM_ERROR)
    assert error["code"] == "auth_error"


async def test_a_rate_limit_says_when_it_is_lifted(playing: Playing) -> None:
    limited = error_step(429, headers={"anthropic-ratelimit-unified-reset": "4102444800"})
    async with playing(scenario(limited)) as agno, agno.opened() as session:
        turn = await take_turn(session, "Hi")

    assert turn.end.error_code == ErrorCode.RATE_LIMITED
    assert turn.end.retry_at == 4102444800


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_another_refusal_is_an_api_error(playing: Playing, status: int) -> None:
    async with playing(scenario(error_step(status))) as agno, agno.opened() as session:
        turn = await take_turn(session, "Hi")

    assert turn.end.error_code == ErrorCode.API_ERROR
    assert f"(HTTP {status})" in str(turn.end.error)


async def test_an_overloaded_api_is_asked_again(playing: Playing) -> None:
    steps = error_step(529, times=2, then="Here I am")
    async with playing(scenario(steps)) as agno, agno.opened() as session:
        turn = await take_turn(session, "Hi")

    assert turn.end.result == "Here I am"


async def test_an_api_that_breaks_off_is_an_api_error(playing: Playing) -> None:
    cut = scenario(step({"text": "I th"}, {"cut": True}))
    async with playing(cut) as agno, agno.opened() as session:
        turn = await take_turn(session, "Hi")

    assert turn.end.error_code == ErrorCode.API_ERROR
    assert len(turn.of(EventType.LLM_ERROR)) == 1
    assert len(agno.model.requests) == 1  # what was said would be told twice


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("overloaded_error", ErrorCode.RATE_LIMITED),
        ("rate_limit_error", ErrorCode.RATE_LIMITED),
        ("authentication_error", ErrorCode.AUTH_ERROR),
        ("api_error", ErrorCode.API_ERROR),
    ],
)
async def test_a_refusal_inside_of_an_answer_is_told_as_one_before_it(
    playing: Playing, kind: str, code: ErrorCode
) -> None:
    refused = scenario(step({"text": "I th"}, {"stream_error": kind}))
    async with playing(refused) as agno, agno.opened() as session:
        turn = await take_turn(session, "Hi")

    assert turn.end.error_code == code
    assert "HTTP 200" not in str(turn.end.error)
    assert len(agno.model.requests) == 1


async def test_a_refusal_before_anything_was_said_is_asked_again(playing: Playing) -> None:
    failing = step({"text": ""}, {"stream_error": "api_error", "times": 1}, {"text": "Here I am"})
    async with playing(scenario(failing)) as agno, agno.opened() as session:
        turn = await take_turn(session, "Hi")

    assert turn.end.result == "Here I am"


@pytest.mark.parametrize(
    ("reason", "words"), [("max_tokens", "max_tokens in agent_config"), ("refusal", "refused")]
)
async def test_half_an_answer_is_none(playing: Playing, reason: str, words: str) -> None:
    half = scenario(step({"text": "I th"}, stop_reason=reason))
    async with playing(half) as agno, agno.opened() as session:
        turn = await take_turn(session, "Hi")

    assert turn.end.error_code == ErrorCode.API_ERROR
    assert words in str(turn.end.error)


async def test_an_api_that_is_not_there_is_an_api_error(playing: Playing) -> None:
    async with playing() as agno:
        env = {"base_url": "http://127.0.0.1:9", "api_key": "sk-x"}
        async with agno.opened(agno.bot("solo", agent_config={"env": env})) as session:
            turn = await take_turn(session, "Hi")

    assert turn.end.error_code == ErrorCode.API_ERROR
