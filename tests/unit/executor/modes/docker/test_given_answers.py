"""Answers of any shape are understood, and none that leaves doubt becomes a permission."""

from __future__ import annotations

from typing import Any

import pytest

from executor.modes.docker.given_answers import Given, NoAnswer, read_given
from shared.protocol.answers import read_answers

ONE = {"questions": [{"question": "Which library?", "header": "Library", "options": []}]}
SEVERAL = {"questions": [{"question": "Which tests?", "multiSelect": True}]}
TWO = {"questions": [{"question": "Which library?"}, {"question": "Which branch?"}]}

YET, EXPIRED, UNREADABLE = NoAnswer.YET, NoAnswer.EXPIRED, NoAnswer.UNREADABLE


def answers(**by_number: Any) -> Given:
    return Given("answer", answers={name[1:]: value for name, value in by_number.items()})


@pytest.mark.parametrize(
    "body",
    [
        "httpx",
        ["httpx"],
        {"answer": "httpx"},
        {"answer": ["httpx"]},
        {"answers": ["httpx"]},
        {"answers": "httpx"},
        {"answers": {"Which library?": "httpx"}},
        {"answers": {"1": "httpx"}},
        {"answers": {"library": "httpx"}},
        {"answers": [{"question": "Which library?", "answer": "httpx"}]},
        {"answers": [{"question": "Which library?", "selected": ["httpx"]}]},
        {"answers": {"Which library?": {"answer": "httpx"}}},
        {"answers": {"Which library?": {"label": "httpx", "description": "a client"}}},
        {"answers": {"Which library?": [{"label": "httpx"}]}},
        {"status": "answered", "answer": "httpx"},
        {"status": "ANSWERED", "response": "httpx"},
        {"status": "completed", "value": "httpx"},
        {"status": "resolved", "user_input": {"answer": "httpx"}},
        {"state": "answered", "content": "httpx"},
        {"status": "answered", "message": "httpx"},
        {"decision": "answer", "answers": {"1": "httpx"}},
        {"success": True, "data": {"status": "answered", "answer": "httpx"}},
        {"status": "success", "data": {"status": "answered", "answer": "httpx"}},
        {"code": 0, "data": {"answer": "httpx"}},
        {"user_input_request": {"id": 1, "status": "answered", "response": {"value": "httpx"}}},
        [{"id": 1, "status": "answered", "answer": "httpx"}],
        {
            "id": 1,
            "status": "answered",
            "answer": {"text": "httpx"},
            "options": ["httpx", "aiohttp"],
        },
    ],
)
def test_the_answer_to_one_question_is_found(body: Any) -> None:
    given = read_given("question", ONE, body)
    assert given == answers(_1="httpx")
    read = read_answers(
        "question", ONE, decision="answer", answers=dict(given.answers or {}), message=None
    )
    assert read.chosen == {"Which library?": "httpx"}


@pytest.mark.parametrize(
    ("tool_input", "body", "expected"),
    [
        (SEVERAL, {"answers": ["unit", "e2e"]}, answers(_1=["unit", "e2e"])),
        (SEVERAL, {"answers": {"1": ["unit", "e2e"]}}, answers(_1=["unit", "e2e"])),
        (ONE, {"answers": ["unit", "e2e"]}, answers(_1="unit, e2e")),
        (TWO, {"answers": ["httpx", "main"]}, answers(_1="httpx", _2="main")),
        (TWO, {"answer": {"1": "httpx", "2": "main"}}, answers(_1="httpx", _2="main")),
        (TWO, {"answers": {"Which branch?": "main"}}, answers(_2="main")),
        (TWO, {"answer": "httpx on main"}, Given("answer", message="httpx on main")),
        (
            TWO,
            [{"question": "Which branch?", "answer": "main"}, {"id": "1", "value": "httpx"}],
            answers(_1="httpx", _2="main"),
        ),
        (
            ONE,
            {"answers": {"1": {"answer": "httpx", "notes": "for now"}}},
            answers(_1={"answer": "httpx", "notes": "for now"}),
        ),
        (ONE, {"answer": 3}, answers(_1="3")),
        (ONE, {"answer": False}, answers(_1="no")),
        (TWO, {"answer": {"lib": "httpx"}}, Given("answer", message="lib: httpx")),
        ({}, {"answer": "httpx"}, Given("answer", message="httpx")),
    ],
)
def test_the_answers_to_several_questions_find_theirs(
    tool_input: dict[str, Any], body: Any, expected: Given
) -> None:
    given = read_given("question", tool_input, body)
    assert given == expected
    read_answers(
        "question",
        tool_input,
        decision="answer",
        answers=None if expected.answers is None else dict(expected.answers),
        message=expected.message,
    )


@pytest.mark.parametrize("kind", ["permission", "plan"])
@pytest.mark.parametrize(
    "body",
    [
        "yes",
        "Allow",
        {"answer": "yes"},
        {"answer": True},
        {"answers": ["approve"]},
        {"answers": {"Allow this?": "yes"}},
        {"approved": True},
        {"response": {"status": "approved"}},
        {"status": "answered", "text": "yes"},
        {"allowed": "yes"},
        {"decision": "allow"},
        {"decision": "approved", "message": "go"},
        {"status": "approved"},
        {"status": "answered", "decision": "allow"},
        {"status": "answered", "answer": "ok"},
        {"status": "answered", "response": {"decision": "allow"}},
        {"status": "answered", "response": {"approved": True}},
        {"status": "success", "data": {"decision": "allow"}},
    ],
)
def test_a_permission_in_words_is_a_permission(kind: str, body: Any) -> None:
    assert read_given(kind, {}, body) == Given("allow")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("no", None),
        ({"answer": False}, None),
        ({"decision": "deny", "message": "not on main"}, "not on main"),
        ({"approved": False, "reason": "too much"}, "too much"),
        ({"status": "rejected"}, None),
        ({"status": "answered", "answer": "no"}, None),
        ({"status": "answered", "answer": "use a branch"}, "use a branch"),
        ({"status": "cancelled"}, None),
    ],
)
def test_a_denial_says_what_the_user_says(body: Any, message: str | None) -> None:
    assert read_given("permission", {}, body) == Given("deny", message=message)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"decision": "deny"}, Given("deny")),
        ({"status": "skipped"}, Given("deny")),
        ({"status": "answered", "answer": ""}, Given("deny")),
        ({"answer": "no"}, answers(_1="no")),
    ],
)
def test_a_question_may_be_left_to_the_agent(body: Any, expected: Given) -> None:
    assert read_given("question", ONE, body) == expected


@pytest.mark.parametrize("kind", ["question", "permission", "plan"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (None, YET),
        ("", YET),
        ({}, YET),
        ([], YET),
        ("pending", YET),
        (["pending"], YET),
        ({"status": "pending"}, YET),
        ({"status": "pending", "answer": None}, YET),
        ({"status": "pending", "response": {}}, YET),
        ({"status": "waiting", "content": "Which library?"}, YET),
        ({"id": 1, "content": "Which library?", "choices": ["a", "b"]}, YET),
        ({"id": 1, "answer": None}, YET),
        ({"status": "success", "data": {"status": "pending"}}, YET),
        ({"status": "ok", "data": None}, YET),
        ({"status": "accepted", "id": 1}, YET),
        ({"error": "database is locked"}, YET),
        ({"status": "expired"}, EXPIRED),
        ({"status": "timeout"}, EXPIRED),
        ({"expired": True}, EXPIRED),
        ({"data": {"status": "timed_out"}}, EXPIRED),
        ("ok", UNREADABLE),
        (True, UNREADABLE),
        (1, UNREADABLE),
        ({"status": "answered"}, UNREADABLE),
    ],
)
def test_what_is_no_answer_is_none(kind: str, body: Any, expected: NoAnswer) -> None:
    assert read_given(kind, ONE, body) is expected


@pytest.mark.parametrize(
    "body",
    [
        {"status": "ok"},
        {"status": "success"},
        {"status": "accepted"},
        {"status": "received"},
        {"status": "answered", "answer": ""},
        {"success": True},
        {"answered": True},
        "true",
        ["ok"],
        {"status": "completed", "result": "ok"},
        {"response": {"status": "ok"}},
        {"answers": {"Delete the branch?": "yes", "Push it?": "no"}},
        {"answer": {"first": "deny", "second": "allow"}},
    ],
)
def test_what_speaks_of_the_request_is_no_permission(body: Any) -> None:
    assert read_given("permission", {}, body) != Given("allow")
