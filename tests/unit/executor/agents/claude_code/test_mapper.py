"""From the SDK's messages to events."""

from __future__ import annotations

from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    Message,
    RateLimitEvent,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)
from claude_agent_sdk.types import RateLimitInfo, TaskStartedMessage

from executor.agents.claude_code.mapper import TurnMapper
from executor.agents.protocol import TurnEnd
from shared.protocol.events import AgentEvent, EventType, Source
from shared.status import ErrorCode

MAIN = Source("bot-7", agent_name="helper")


def mapped(*messages: Message) -> tuple[list[AgentEvent], TurnEnd | None]:
    mapper = TurnMapper(MAIN)
    events = [event for message in messages for event in mapper.map(message)]
    return [event for event in events if event.type != EventType.SESSION], mapper.end


def kinds(events: list[AgentEvent]) -> list[str]:
    return [event.type for event in events]


def stream(event: dict[str, Any], parent: str | None = None) -> StreamEvent:
    return StreamEvent(uuid="u", session_id="s", event=event, parent_tool_use_id=parent)


def start() -> StreamEvent:
    return stream({"type": "message_start", "message": {"model": "m1"}})


def block() -> StreamEvent:
    return stream({"type": "content_block_start", "content_block": {"type": "text"}})


def delta(text: str) -> StreamEvent:
    return stream({"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}})


def says(*blocks: Any, parent: str | None = None, **fields: Any) -> AssistantMessage:
    return AssistantMessage(list(blocks), model="m1", parent_tool_use_id=parent, **fields)


def result(**fields: Any) -> ResultMessage:
    values: dict[str, Any] = {
        "subtype": "success",
        "duration_ms": 10,
        "duration_api_ms": 5,
        "is_error": False,
        "num_turns": 1,
        "session_id": "s",
        "total_cost_usd": 0.5,
        "usage": {"output_tokens": 3},
        "result": "the answer",
    }
    return ResultMessage(**(values | fields))


def text_of(events: list[AgentEvent]) -> str:
    return "".join(e.data["content"] for e in events if e.type == EventType.LLM_STREAM)


def test_streamed_text_is_one_message_and_is_not_repeated() -> None:
    events, end = mapped(
        start(), block(), delta("Hel"), delta("lo"), says(TextBlock("Hello")), result()
    )
    assert kinds(events) == ["llm.start", "llm.stream", "llm.stream", "llm.done"]
    assert events[0].data["model"] == "m1"
    assert [event.data.get("offset") for event in events] == [None, 0, 3, None]
    assert len({event.data["message_id"] for event in events}) == 1
    assert events[-1].data["content"] == text_of(events) == "Hello"
    assert events[-1].data["usage"] == {"output_tokens": 3}
    assert all(event.source == MAIN for event in events)
    assert end is not None
    assert (end.result, end.error_code) == ("the answer", None)
    assert end.statistics["total_cost_usd"] == 0.5


def test_text_without_partials_still_comes() -> None:
    events, _ = mapped(says(TextBlock("Hello")), says(TextBlock("again")), result())
    assert text_of(events) == "Hello\n\nagain"
    assert kinds(events).count("llm.start") == 1


def test_blocks_of_text_are_set_apart_and_offsets_count_that() -> None:
    events, _ = mapped(
        start(),
        block(),
        delta("a"),
        says(TextBlock("a")),
        block(),
        delta("b"),
        delta("c"),
        result(),
    )
    chunks = [event.data for event in events if event.type == EventType.LLM_STREAM]
    assert [(c["offset"], c["content"]) for c in chunks] == [(0, "a"), (1, "\n\nb"), (4, "c")]


def test_the_fallback_of_a_broken_stream_adds_only_what_was_missing() -> None:
    events, _ = mapped(start(), block(), delta("Hel"), says(TextBlock("Hello")), result())
    assert text_of(events) == "Hello"


def test_another_text_than_was_streamed_comes_whole() -> None:
    events, _ = mapped(start(), block(), delta("Hel"), says(TextBlock("Good day")), result())
    assert text_of(events) == "Hel\n\nGood day"


def test_thinking_comes_in_whole_blocks_only() -> None:
    thinking = {"type": "thinking_delta", "thinking": "I "}
    events, _ = mapped(
        start(),
        stream({"type": "content_block_delta", "delta": thinking}),
        says(ThinkingBlock("I think.", "sig"), ThinkingBlock(" ", "sig")),
    )
    assert [e.data for e in events if e.type == EventType.REASONING] == [{"content": "I think."}]
    assert text_of(events) == ""


def test_tool_results_know_their_tool_and_pictures_are_left_out() -> None:
    content: list[dict[str, Any]] = [
        {"type": "text", "text": "seen"},
        {"type": "image", "source": {"data": "x" * 99}},
    ]
    events, _ = mapped(
        says(ToolUseBlock("t1", "Read", {"file_path": "a.png"})),
        UserMessage([TextBlock("<system-reminder>"), ToolResultBlock("t1", content, None)]),
        UserMessage("[Request interrupted by user]"),
    )
    assert [event.data for event in events[1:]] == [
        {"tool_id": "t1", "tool_name": "Read", "arguments": {"file_path": "a.png"}},
        {"tool_id": "t1", "tool_name": "Read", "result": "seen\n[image]", "is_error": False},
    ]


def test_a_subagent_has_its_own_source_and_message() -> None:
    call = ToolUseBlock("t1", "Agent", {"subagent_type": "Explore", "prompt": "look"})
    events, _ = mapped(
        says(call),
        says(TextBlock("I look."), parent="t1"),
        UserMessage([ToolResultBlock("t1", "report", False)]),
        result(),
    )
    worker = Source("t1", agent_type="worker", agent_name="Explore")
    own = [event for event in events if event.source == worker]
    assert kinds(own) == ["llm.start", "llm.stream", "llm.done"]
    assert own[-1].data["content"] == "I look."
    assert events[-1].type == EventType.LLM_DONE
    assert events[-1].source == MAIN
    assert events[-1].data["content"] == ""


def test_who_asks_is_known_by_the_clis_own_ids() -> None:
    mapper = TurnMapper(MAIN)
    mapper.map(says(ToolUseBlock("t1", "Agent", {"subagent_type": "Explore", "prompt": "look"})))
    started = {"task_id": "a1", "description": "look", "uuid": "u", "session_id": "s"}
    mapper.map(TaskStartedMessage("task_started", started, **started, tool_use_id="t1"))
    assert mapper.source_of(None) == MAIN
    assert mapper.source_of("a1") == Source("t1", agent_type="worker", agent_name="Explore")
    assert mapper.source_of("of an earlier turn").agent_type == "worker"


def test_malformed_todos_are_no_event_and_those_of_subagents_neither() -> None:
    todos = {"todos": [{"content": "a"}]}
    events, _ = mapped(
        says(ToolUseBlock("t1", "TodoWrite", {"todos": "all"})),
        says(ToolUseBlock("t2", "TodoWrite", {"todos": ["a"]})),
        says(ToolUseBlock("t3", "TodoWrite", todos), parent="t0"),
        says(ToolUseBlock("t4", "TodoWrite", todos)),
    )
    assert [event.data for event in events if event.type == EventType.TODOS] == [
        {"todos": [{"content": "a", "status": "pending", "active_form": ""}]}
    ]


def test_the_session_is_told_once_per_id() -> None:
    mapper = TurnMapper(MAIN)
    init = SystemMessage("init", {"session_id": "s1"})
    events = [*mapper.map(init), *mapper.map(init), *mapper.map(result(session_id="s2"))]
    told = [event.data["sdk_session_id"] for event in events if event.type == EventType.SESSION]
    assert told == ["s1", "s2"]
    assert mapper.session_id == "s2"


def test_retries_and_limits_are_warnings_and_the_rest_is_quiet() -> None:
    retry = {
        "attempt": 2,
        "max_retries": 10,
        "retry_delay_ms": 1200,
        "error_status": 529,
        "error": "overloaded",
    }
    events, _ = mapped(
        SystemMessage("api_retry", retry),
        RateLimitEvent(RateLimitInfo("rejected", rate_limit_type="five_hour"), "u", "s"),
        RateLimitEvent(RateLimitInfo("allowed"), "u", "s"),
        SystemMessage("status", {}),
        TaskStartedMessage("task_started", {}, "t", "d", "u", "s"),
    )
    assert [event.data["message"] for event in events] == [
        "the API does not answer (HTTP 529); attempt 2 of 10 follows in 1.2 s",
        "the usage limit of this login (five_hour) is used up",
    ]


def test_an_error_in_the_form_of_an_answer_is_not_an_answer() -> None:
    synthetic = AssistantMessage(
        [TextBlock("API Error: 500")], model="<synthetic>", error="server_error"
    )
    failed = result(is_error=True, result="API Error: 500", api_error_status=500)
    events, end = mapped(start(), block(), delta("begin"), synthetic, failed)
    assert text_of(events) == "begin"
    assert kinds(events)[-1] == EventType.LLM_ERROR
    assert (events[-1].data["error"], events[-1].data["code"]) == ("API Error: 500", "api_error")
    assert end is not None
    assert end.error == "API Error: 500"


def test_only_the_cost_of_the_turn_is_counted() -> None:
    mapper = TurnMapper(MAIN, cost_before=0.3)
    mapper.map(result(total_cost_usd=0.5))
    assert mapper.end is not None
    assert round(mapper.end.statistics["total_cost_usd"], 6) == 0.2
    assert mapper.cost == 0.5


def test_a_turn_stopped_for_refused_credentials_says_so() -> None:
    retry = {"error": "authentication_failed", "error_status": 401}
    mapper = TurnMapper(MAIN)
    for _ in range(3):
        assert not mapper.login_refused
        mapper.map(SystemMessage("api_retry", retry))
    assert mapper.login_refused
    mapper.map(
        result(is_error=True, subtype="error_during_execution", terminal_reason="aborted_streaming")
    )
    assert mapper.end is not None
    assert mapper.end.error_code == ErrorCode.AUTH_ERROR


def limited(**fields: Any) -> ResultMessage:
    refused = {"is_error": True, "result": "Slow down", "api_error_status": 429}
    return result(**(refused | fields))


def retry(delay_ms: int) -> SystemMessage:
    return SystemMessage("api_retry", {"retry_delay_ms": delay_ms, "error_status": 429})


def limited_until(*messages: Message) -> float | None:
    """When a limit is lifted, by these messages, in seconds from now."""
    mapper = TurnMapper(MAIN, now=lambda: 1_795_264_500.0)
    for message in messages:
        mapper.map(message)
    assert mapper.end is not None
    assert mapper.end.error_code == ErrorCode.RATE_LIMITED
    return None if mapper.end.retry_at is None else mapper.end.retry_at - 1_795_264_500.0


def test_the_end_at_a_limit_says_when_it_is_lifted() -> None:
    rejected = RateLimitEvent(RateLimitInfo("rejected", resets_at=1_795_268_100), "u", "s")
    words = "You've hit your limit · resets 1:35pm (UTC)"
    assert limited_until(rejected, limited()) == 3600
    assert limited_until(limited(result=words)) == 3600
    assert limited_until(retry(3000), limited()) == 3
    assert limited_until(retry(3000), start(), limited()) is None  # that pause led to an answer
    assert limited_until(limited()) is None


def test_the_pause_before_a_retry_is_known_while_it_lasts() -> None:
    mapper = TurnMapper(MAIN)
    mapper.map(retry(35_000))
    assert mapper.retry_in_s == 35
    mapper.map(start())
    assert mapper.retry_in_s == 0


def test_a_turn_that_failed_counts_only_what_was_answered() -> None:
    mapper = TurnMapper(MAIN)
    mapper.map(says(TextBlock("I call"), message_id="m1"))
    mapper.map(says(TextBlock("a tool"), message_id="m1"))
    mapper.map(says(TextBlock("from below"), message_id="m2", parent="t1"))
    mapper.map(limited(num_turns=3))
    assert mapper.end is not None
    assert mapper.end.statistics["num_turns"] == 1
