"""Which calls a run's events lead to."""

from __future__ import annotations

from typing import Any

from executor.hooks.base import AgentState, TaskConfig, Todo
from executor.hooks.calls import RunCalls
from shared.protocol.events import AgentEvent, EventType, Source

MAIN = Source("main")
CONFIG = TaskConfig(run_id="2", session_id="1", attempt=1, prompt="go", agent_type="claude_code")


def tell(kind: str, source: Source | None = MAIN, **data: Any) -> AgentEvent:
    return AgentEvent(kind, data, source)


def call(tool_id: str, source: Source = MAIN, name: str = "Bash", **arguments: Any) -> AgentEvent:
    return tell(EventType.TOOL_CALL, source, tool_id=tool_id, tool_name=name, arguments=arguments)


def result(tool_id: str, text: str = "ok", source: Source = MAIN) -> AgentEvent:
    return tell(
        EventType.TOOL_RESULT,
        source,
        tool_id=tool_id,
        tool_name="Bash",
        result=text,
        is_error=False,
    )


def piece() -> AgentEvent:
    return tell(EventType.LLM_STREAM, message_id="m", content="so", offset=0)


def taken(*events: AgentEvent) -> list[tuple[str, list[Any]]]:
    """All calls of a run that tells *events*: names and arguments."""
    calls = RunCalls(CONFIG)
    found = [made for event in events for made in calls.take(event)]
    return [(made.name, list(made.arguments.values())) for made in found]


def test_a_run_begins_with_what_it_was_asked_to_do() -> None:
    begin = RunCalls(CONFIG).begin()
    assert (begin.name, dict(begin.arguments)) == ("before_execution", {"config": CONFIG})


def test_a_tool_call_is_told_with_its_result_when_that_comes() -> None:
    assert taken(call("a", command="ls")) == [("on_agent_turn", [1, AgentState()])]
    told = taken(call("a", command="ls"), result("a", "README"))
    assert told[-1] == ("on_tool_call", [1, "Bash", {"command": "ls"}, "README"])


def test_tools_of_one_answer_belong_to_one_turn_in_whatever_order_they_end() -> None:
    told = taken(call("a"), call("b"), result("b", "second"), result("a", "first"))
    assert [name for name, _ in told] == ["on_agent_turn", "on_tool_call", "on_tool_call"]
    assert [arguments[0] for _, arguments in told] == [1, 1, 1]
    assert [arguments[-1] for _, arguments in told[1:]] == ["second", "first"]


def test_what_an_agent_says_after_all_its_results_is_the_next_turn() -> None:
    told = taken(call("a"), call("b"), result("a"), piece(), result("b"), piece(), piece())
    turns = [arguments for name, arguments in told if name == "on_agent_turn"]
    assert [(turn, state.tool_calls) for turn, state in turns] == [(1, 0), (2, 2)]


def test_an_answer_after_a_complete_one_is_the_next_turn() -> None:
    done = tell(EventType.LLM_DONE, message_id="m", content="so")
    again = tell(EventType.LLM_START, message_id="n", model="x")
    told = taken(piece(), done, again, piece())
    assert [arguments[0] for name, arguments in told if name == "on_agent_turn"] == [1, 2]
    assert ("on_response", [1, "so"]) in told


def test_a_message_without_text_and_one_that_failed_are_no_responses() -> None:
    empty = tell(EventType.LLM_DONE, message_id="m", content="")
    failed = tell(EventType.LLM_ERROR, message_id="m", error="gone", code="interrupted")
    assert taken(empty, failed) == []


def test_what_a_worker_does_belongs_to_the_turn_that_goes_on() -> None:
    worker = Source("w", agent_type="worker")
    told = taken(call("task"), call("a", worker), result("a", "x", worker), call("b", worker))
    assert [name for name, _ in told] == ["on_agent_turn", "on_tool_call"]
    assert told[1][1][0] == 1


def test_a_worker_that_acts_first_acts_in_turn_one() -> None:
    worker = Source("w", agent_type="worker")
    assert [name for name, _ in taken(call("a", worker))] == ["on_agent_turn"]


def test_a_turn_tells_how_far_the_run_is() -> None:
    todo = {"content": "test", "status": "pending", "active_form": "Testing"}
    told = taken(
        tell(EventType.WORKSPACE_PREPARED, None, path="/w/1"),
        tell(EventType.SESSION, sdk_session_id="conversation"),
        call("a"),
        tell(EventType.TODOS, todos=[todo]),
        result("a"),
        piece(),
    )
    first, second = (arguments[1] for name, arguments in told if name == "on_agent_turn")
    assert first == AgentState(sdk_session_id="conversation", workspace="/w/1")
    assert second.todos == (Todo("test", "pending", "Testing"),)
    assert second.tool_calls == 1


def test_a_result_without_its_call_is_told_as_far_as_it_is_known() -> None:
    assert taken(result("lost", "out")) == [("on_tool_call", [0, "Bash", {}, "out"])]


def test_every_verdict_ends_the_calls_with_success_or_the_reason() -> None:
    ends = {
        (EventType.COMPLETED, ()): [True, None],
        (EventType.FAILED, (("error", "out of tea"),)): [False, "out of tea"],
        (EventType.FAILED, ()): [False, "the run failed"],
        (EventType.CANCELLED, (("reason", "enough"),)): [False, "cancelled: enough"],
        (EventType.CANCELLED, ()): [False, "cancelled"],
    }
    for (kind, data), arguments in ends.items():
        assert taken(tell(kind, None, **dict(data))) == [("after_execution", arguments)]


def test_a_tool_that_never_ended_is_told_before_the_end_without_output() -> None:
    told = taken(call("a", command="sleep"), tell(EventType.CANCELLED, None))
    assert told[1:] == [
        ("on_tool_call", [1, "Bash", {"command": "sleep"}, None]),
        ("after_execution", [False, "cancelled"]),
    ]


def test_nothing_follows_the_end() -> None:
    calls = RunCalls(CONFIG)
    calls.take(tell(EventType.COMPLETED, None))
    assert calls.ended
    assert calls.take(call("a")) == []
    assert calls.break_off("too late") == []


def test_a_run_without_a_verdict_ends_with_the_reason_given() -> None:
    calls = RunCalls(CONFIG)
    calls.take(call("a"))
    assert [made.name for made in calls.break_off("gone")] == ["on_tool_call", "after_execution"]
    assert calls.ended
