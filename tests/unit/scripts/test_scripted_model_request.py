"""Requests as CLI 2.1.329 sends them, cut down to what is read from them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scripts.scripted_request import Conversation, read_conversation

REMINDER = {"type": "text", "text": "<system-reminder>\nAttribution …\n</system-reminder>\n"}
ENVIRONMENT = {
    "role": "system",
    "content": [
        {
            "type": "text",
            "text": "# Environment\nYou have been invoked in the following environment: \n"
            " - Primary working directory: /srv/my repo\n - Is a git repository: false\n\n"
            "The following deferred tools are now available via ToolSearch. Their schemas are "
            "NOT loaded:\nTodoWrite\nWebFetch\n\nAvailable agent types:\n- claude: …",
        }
    ],
}
INTERRUPTED = {"type": "text", "text": "[Request interrupted by user]"}
CALL = {
    "role": "assistant",
    "content": [{"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}],
}


def user(*blocks: dict[str, Any] | str) -> dict[str, Any]:
    content = [b if isinstance(b, dict) else {"type": "text", "text": b} for b in blocks]
    return {"role": "user", "content": content}


def result(text: str, **extra: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    return {"type": "tool_result", "tool_use_id": "t1", "content": content, **extra}


def read(*messages: dict[str, Any], **fields: Any) -> Conversation:
    return read_conversation({"model": "claude-x", "messages": list(messages), **fields})


def test_the_prompt_is_what_the_user_wrote_without_the_reminders() -> None:
    seen = read(user(REMINDER, "fix it"), ENVIRONMENT)
    assert (seen.prompt, seen.turn, seen.history) == ("fix it", 0, "")


def test_the_working_directory_and_the_deferred_tools_come_from_the_environment_message() -> None:
    seen = read(user("fix it"), ENVIRONMENT, tools=[{"name": "Bash"}])
    assert seen.cwd == "/srv/my repo"
    assert seen.tools == ("Bash",)
    assert seen.deferred_tools == ("TodoWrite", "WebFetch")


def test_a_plain_text_environment_message_is_read_as_well() -> None:
    plain = {"role": "system", "content": ENVIRONMENT["content"][0]["text"]}  # type: ignore[index]  # a literal above
    assert read(user("fix it"), plain).cwd == "/srv/my repo"


def test_the_turn_counts_the_assistants_turns_after_the_last_prompt() -> None:
    first = [user("one"), ENVIRONMENT, CALL, user(result("a.txt")), CALL]
    assert read(*first, user(result("b.txt"))).turn == 2
    later = read(*first, user(result("b.txt")), CALL, user("two"), CALL, user(result("c.txt")))
    assert (later.prompt, later.turn, later.last_tool_result) == ("two", 1, "c.txt")
    assert "one" in later.history
    assert "two" not in later.history


def test_a_prompt_may_come_with_the_results_of_a_turn_that_failed() -> None:
    seen = read(user("one"), CALL, user(result("a.txt"), "two"))
    assert (seen.prompt, seen.turn) == ("two", 0)


def test_what_the_cli_adds_to_a_tool_result_is_no_prompt() -> None:
    seen = read(user("one"), CALL, user(result("a.txt"), "Base directory for this skill: …"))
    assert (seen.prompt, seen.turn) == ("one", 1)


def test_what_follows_an_interruption_is_a_prompt() -> None:
    seen = read(user("one"), CALL, user(result("stopped"), INTERRUPTED, "two"))
    assert (seen.prompt, seen.turn) == ("two", 0)


@pytest.mark.parametrize(
    "nudge",
    [
        "Output token limit hit. Resume directly — no apology.",
        "Your response above was stopped by a safety classifier — this is not an error.",
        "[Your previous response had no visible output. Please continue.]",
    ],
)
def test_what_the_cli_says_by_itself_is_no_prompt(nudge: str) -> None:
    said = {"role": "assistant", "content": [{"type": "text", "text": "par"}]}
    seen = read(user("one"), said, user(nudge))
    assert (seen.prompt, seen.turn) == ("one", 1)


def test_the_session_id_comes_from_the_metadata() -> None:
    metadata = {"user_id": json.dumps({"device_id": "d", "session_id": "s-1"})}
    assert read(user("x"), metadata=metadata).session_id == "s-1"
    assert read(user("x"), metadata={"user_id": "plain"}).session_id == ""
    assert read(user("x")).session_id == ""


def test_side_requests_are_told_from_turns() -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    title = read(
        user("<session>\nfix it\n</session>"),
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert list(json.loads(title.side_answer or "")) == ["title"]
    assert read(user("quota"), max_tokens=1).side_answer
    assert read(user("Your task is to create a detailed summary of the conversation")).side_answer
    assert read(user("fix it"), output_config={"effort": "medium"}).side_answer is None


def test_only_the_known_names_in_braces_are_replaced_and_only_once() -> None:
    seen = read(user("say {cwd}"), ENVIRONMENT, CALL, user(result("{prompt}")))
    filled = seen.fill({"a": ["{cwd}/x", {"b": "{last_tool_result}"}], "c": "{other} {}", "d": 1})
    assert filled == {"a": ["/srv/my repo/x", {"b": "{prompt}"}], "c": "{other} {}", "d": 1}


def test_where_a_plan_belongs_is_read_from_what_the_cli_says() -> None:
    says = "No plan file exists yet. You should create your plan at /c/plans/a-b.md using the Write"
    seen = read(
        user("plan it"), {"role": "system", "content": f"Plan mode is active.\n{says} tool"}
    )
    assert seen.fill("{plan_file}") == "/c/plans/a-b.md"
    assert read(user("plan it")).fill("{plan_file}") == ""


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ([], "object"),
        ({"messages": [user("x")]}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": []}, "messages"),
        ({"model": "m", "messages": ["x"]}, r"messages\.0\.role"),
    ],
)
def test_a_request_without_the_needed_fields_is_refused(body: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_conversation(body)
