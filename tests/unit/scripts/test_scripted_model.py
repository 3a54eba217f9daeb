from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from scripts.scripted_model import MAX_RECORDS, ScriptedModel
from scripts.scripted_record import MAX_TEXT, fingerprint
from tests.fakes.model import error_step, scenario, step, text_step, tool_step

KEY = "sk-secret-of-this-test"


class Client:
    """Speaks to one model as the CLI does."""

    def __init__(self, model: ScriptedModel, http: aiohttp.ClientSession) -> None:
        self.model, self.http = model, http

    def request(self, prompt: str, *, stream: bool, **fields: Any) -> Any:
        fields.setdefault("messages", [{"role": "user", "content": prompt}])
        body = {"model": "claude-x", "max_tokens": 100, "stream": stream, **fields}
        url = f"{self.model.url}/v1/messages?beta=true"
        return self.http.post(url, json=body, headers={"x-api-key": KEY})

    async def ask(self, prompt: str, **fields: Any) -> tuple[int, dict[str, Any]]:
        async with self.request(prompt, stream=False, **fields) as response:
            return response.status, await response.json()

    async def stream(self, prompt: str, **fields: Any) -> list[dict[str, Any]]:
        """All events; the connection's error is added as ``{"type": "cut"}``."""
        events: list[dict[str, Any]] = []
        async with self.request(prompt, stream=True, **fields) as response:
            try:
                async for line in response.content:
                    events += [json.loads(line[6:])] if line.startswith(b"data: ") else []
            except aiohttp.ClientPayloadError:
                events.append({"type": "cut"})
        return events


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        yield session


def text_of(message: dict[str, Any]) -> str:
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def deltas(events: list[dict[str, Any]], kind: str) -> list[str]:
    return [
        str(next(value for key, value in event["delta"].items() if key != "type"))
        for event in events
        if event["type"] == "content_block_delta" and event["delta"]["type"] == kind
    ]


async def test_a_streamed_step_has_the_events_of_the_messages_api(
    http: aiohttp.ClientSession,
) -> None:
    played = scenario(
        step(
            {"thinking": "I think"},
            {"text": "I say "},
            {"text": "more"},
            {"tool": "Read", "input": {"file_path": "/a"}},
            {"tool": "Bash", "input": {}},
            delta_chars=4,
        )
    )
    async with ScriptedModel([played]) as model:
        events = await Client(model, http).stream("hi")
    assert [event["content_block"]["type"] for event in events if "content_block" in event] == [
        "thinking",
        "text",
        "tool_use",
        "tool_use",
    ]
    assert deltas(events, "thinking_delta") == ["I th", "ink"]
    assert deltas(events, "signature_delta") == ["c2NyaXB0ZWQ="]
    assert deltas(events, "text_delta") == ["I sa", "y ", "more"]
    assert "".join(deltas(events, "input_json_delta")) == '{"file_path": "/a"}{}'
    assert events[0]["message"]["id"].startswith("msg_scripted_")
    assert events[0]["message"]["model"] == "claude-x"
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert events[-2]["usage"]["output_tokens"] > 0
    assert events[-1]["type"] == "message_stop"
    for index in range(4):
        about = [event["type"] for event in events if event.get("index") == index]
        assert (about[0], about[-1]) == ("content_block_start", "content_block_stop")


async def test_without_stream_the_same_step_is_one_message(http: aiohttp.ClientSession) -> None:
    played = scenario(
        step({"text": "hello"}, {"tool": "Read", "input": {"file_path": "/a"}}, delta_chars=2)
    )
    async with ScriptedModel([played]) as model:
        status, message = await Client(model, http).ask("hi")
    assert status == 200
    assert text_of(message) == "hello"
    assert message["content"][1]["input"] == {"file_path": "/a"}
    assert message["stop_reason"] == "tool_use"


async def test_usage_and_stop_reason_can_be_given(http: aiohttp.ClientSession) -> None:
    played = scenario(
        step(
            {"text": "cut off"},
            usage={"input_tokens": 7, "output_tokens": 9, "cache_read_input_tokens": 5},
            stop_reason="max_tokens",
        )
    )
    async with ScriptedModel([played]) as model:
        _, message = await Client(model, http).ask("hi")
    assert message["stop_reason"] == "max_tokens"
    assert message["usage"] == {
        "input_tokens": 7,
        "output_tokens": 9,
        "cache_read_input_tokens": 5,
    }


async def test_the_step_follows_from_the_request_and_not_from_earlier_requests(
    http: aiohttp.ClientSession,
) -> None:
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "text", "text": "x"}]},
        {"role": "user", "content": [{"type": "tool_result", "content": "42"}]},
    ]
    played = scenario(tool_step("Bash", {}), text_step("saw {last_tool_result}"), name="two")
    async with ScriptedModel([played]) as model:
        client = Client(model, http)
        for _ in range(2):
            assert text_of((await client.ask("", messages=messages))[1]) == "saw 42"
            assert (await client.ask("hi"))[1]["stop_reason"] == "tool_use"
        over = [*messages, messages[1], messages[2]]
        assert "'two' is over" in text_of((await client.ask("", messages=over))[1])


async def test_the_first_scenario_that_matches_is_played_and_one_without_match_comes_last(
    http: aiohttp.ClientSession,
) -> None:
    scenarios = [
        scenario(text_step("anything")),
        scenario(text_step("both"), prompt=["red", "blue"]),
        scenario(text_step("red"), prompt="red"),
        scenario(text_step("expert"), system="Be an expert"),
        scenario(text_step("small"), model="haiku"),
        scenario(text_step("remembers"), history="remember 7"),
    ]
    past = [
        {"role": "user", "content": "remember 7"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": "what?"},
    ]
    async with ScriptedModel(scenarios) as model:
        client = Client(model, http)
        assert text_of((await client.ask("red and blue"))[1]) == "both"
        assert text_of((await client.ask("red"))[1]) == "red"
        assert text_of((await client.ask("x", system="Be an expert."))[1]) == "expert"
        assert text_of((await client.ask("x", model="haiku", tools=[{"name": "a"}]))[1]) == "small"
        assert text_of((await client.ask("", messages=past))[1]) == "remembers"
        assert text_of((await client.ask("green"))[1]) == "anything"


async def test_without_a_match_the_answer_says_that_it_is_scripted(
    http: aiohttp.ClientSession,
) -> None:
    async with ScriptedModel() as model:
        _, message = await Client(model, http).ask("first line\nsecond line")
    assert "scripted" in text_of(message)
    assert text_of(message).endswith("first line")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_http_errors_have_the_apis_body(
    http: aiohttp.ClientSession, status: int, kind: str, stream: bool
) -> None:
    played = scenario(error_step(status, message="no", retry_after_s=1.5))
    async with ScriptedModel([played]) as model:
        async with Client(model, http).request("hi", stream=stream) as response:
            body = await response.json()
            assert (response.status, response.headers["retry-after"]) == (status, "1.5")
        assert body["error"] == {"type": kind, "message": "no"}
        assert model.requests[0].outcome == f"error {status}"


async def test_a_fault_with_times_is_over_after_so_many_tries_of_each_conversation(
    http: aiohttp.ClientSession,
) -> None:
    async with ScriptedModel([scenario(error_step(529, times=2, then="fine"))]) as model:
        client = Client(model, http)
        tries = [(await client.ask(p))[0] for p in ("a", "b", "a", "b", "a", "b")]
    assert tries == [529, 529, 529, 529, 200, 200]


async def test_an_error_in_a_running_stream_is_an_error_event(http: aiohttp.ClientSession) -> None:
    played = scenario(step({"text": "partial"}, {"stream_error": "overloaded_error"}))
    async with ScriptedModel([played]) as model:
        events = await Client(model, http).stream("hi")
        assert deltas(events, "text_delta") == ["partial"]
        assert events[-1]["error"]["type"] == "overloaded_error"
        assert "message_stop" not in [event["type"] for event in events]
        assert (await Client(model, http).ask("hi"))[0] == 529


async def test_a_cut_connection_ends_after_what_was_streamed(http: aiohttp.ClientSession) -> None:
    played = scenario(step({"text": "partial"}, {"cut": True}))
    async with ScriptedModel([played]) as model:
        events = await Client(model, http).stream("hi")
        assert deltas(events, "text_delta") == ["partial"]
        assert events[-1] == {"type": "cut"}
        assert model.requests[0].outcome == "cut"


async def test_a_cut_before_the_first_byte_answers_nothing(http: aiohttp.ClientSession) -> None:
    async with ScriptedModel([scenario(step({"cut": True}))]) as model:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await Client(model, http).ask("hi")


async def test_a_hanging_step_ends_when_the_client_leaves(http: aiohttp.ClientSession) -> None:
    async with ScriptedModel([scenario(step({"text": "so far"}, {"hang": True}))]) as model:
        async with Client(model, http).request("hi", stream=True) as response:
            await response.content.readuntil(b"so far")
            assert model.requests[0].outcome == ""
            response.close()
        await model.wait_for_request(lambda request: request.outcome == "client left")


async def test_leaving_the_context_ends_hanging_steps(http: aiohttp.ClientSession) -> None:
    async with ScriptedModel([scenario(step({"hang": True}))]) as model:
        asking = asyncio.create_task(Client(model, http).ask("hi"))
        await model.wait_for_request(lambda request: request.scenario == "test")
    with pytest.raises(aiohttp.ClientError):
        await asking


async def test_a_gate_holds_the_text_behind_it_until_it_is_released(
    http: aiohttp.ClientSession,
) -> None:
    played = scenario(step({"text": "before"}, {"gate": "door"}, {"text": "after"}))
    async with (
        ScriptedModel([played]) as model,
        Client(model, http).request("hi", stream=True) as response,
    ):
        await model.gate("door").reached.wait()
        held = await response.content.readuntil(b"before")
        assert b"after" not in held
        assert model.requests[0].outcome == ""
        model.gate("door").release()
        assert b"after" in await response.content.read()


async def test_bulk_streams_so_many_deltas_of_that_size(http: aiohttp.ClientSession) -> None:
    played = scenario(step({"bulk": 50, "chars": 30, "per_second": 10_000}, {"bulk": 2}))
    async with ScriptedModel([played]) as model:
        parts = deltas(await Client(model, http).stream("hi"), "text_delta")
    assert [len(part) for part in parts] == [30] * 50 + [20] * 2
    assert len(set(parts[:50])) == 50


async def test_an_optional_tool_is_called_only_when_the_request_offers_it(
    http: aiohttp.ClientSession,
) -> None:
    todo = {"tool": "TodoWrite", "input": {}, "optional": True}
    async with ScriptedModel([scenario(step({"text": "x"}, todo))]) as model:
        client = Client(model, http)
        assert (await client.ask("hi"))[1]["stop_reason"] == "end_turn"
        offered = (await client.ask("hi", tools=[{"name": "TodoWrite"}]))[1]
    assert offered["content"][1]["name"] == "TodoWrite"


async def test_side_requests_are_answered_without_playing_a_step(
    http: aiohttp.ClientSession,
) -> None:
    schema = {"properties": {"title": {"type": "string"}}}
    title = {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    async with ScriptedModel([scenario(error_step(500))]) as model:
        client = Client(model, http)
        status, message = await client.ask("hi", **title)
        assert (status, list(json.loads(text_of(message)))) == (200, ["title"])
        assert model.requests[0].kind == "side"
        for path in ("/", "/api/hello", "/v1/models"):
            async with http.get(model.url + path) as response:
                assert response.status == 200
            async with http.head(model.url + path) as response:
                assert response.status == 200
        async with http.get(model.url + "/v1/else") as response:
            assert (await response.json())["error"]["type"] == "not_found_error"
        async with http.post(f"{model.url}/v1/messages/count_tokens", json={"a": "x" * 400}) as r:
            assert (await r.json())["input_tokens"] >= 100


async def test_a_body_that_is_no_request_is_answered_with_400(http: aiohttp.ClientSession) -> None:
    async with ScriptedModel() as model:
        for body in (b"", b"{", b"[]", b'{"model": "m"}', b"\xff"):
            async with http.post(f"{model.url}/v1/messages", data=body) as response:
                assert response.status == 400
                assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_the_records_say_what_reached_the_api_and_never_a_key(
    http: aiohttp.ClientSession,
) -> None:
    lines: list[str] = []
    async with ScriptedModel([scenario(text_step("x"), name="s")], log=lines.append) as model:
        system = [{"type": "text", "text": "Be kind"}, {"type": "text", "text": "y" * MAX_TEXT}]
        await Client(model, http).ask("hi", system=system, tools=[{"name": "Bash"}])
        async with http.post(
            f"{model.url}/v1/messages", data=b"{", headers={"authorization": f"Bearer {KEY}"}
        ):
            pass
        async with http.get(f"{model.url}/requests") as response:
            listed = await response.text()
    turn, refused = json.loads(listed)
    assert turn["auth"] == "x-api-key"
    assert refused["auth"] == "bearer"
    assert turn["key_fingerprint"] == refused["key_fingerprint"] == fingerprint(KEY)
    assert turn["system"].startswith("Be kind")
    assert len(turn["system"]) < MAX_TEXT + 100
    assert (turn["tools"], turn["prompt"], turn["model"]) == (["Bash"], "hi", "claude-x")
    assert (turn["scenario"], turn["step"], turn["outcome"]) == ("s", 0, "answered")
    assert turn["duration_ms"] >= turn["first_byte_ms"] >= 0
    assert len(lines) == 2
    assert KEY not in listed + "".join(lines)


async def test_only_the_last_requests_are_remembered(http: aiohttp.ClientSession) -> None:
    async with ScriptedModel() as model:
        for number in range(MAX_RECORDS + 2):
            async with http.head(f"{model.url}/{number}"):
                pass
        assert len(model.requests) == MAX_RECORDS
        assert model.requests[0].path == "/2"
