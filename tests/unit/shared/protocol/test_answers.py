"""What may be answered to what is asked."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import ProtocolError
from shared.protocol.answers import Answers, read_answers

ASKED = {
    "questions": [
        {"question": "Which?", "multiSelect": False, "options": [{"label": "a"}]},
        {"question": "How many?", "multiSelect": True, "options": [{"label": "a"}]},
        "no question",
    ]
}


def read(kind: str = "question", decision: str = "answer", **given: Any) -> Answers:
    fields: dict[str, Any] = {"answers": None, "message": None} | given
    return read_answers(kind, ASKED, decision=decision, **fields)


@pytest.mark.parametrize(
    ("answers", "chosen", "notes"),
    [
        ({"Which?": "a"}, {"Which?": "a"}, {}),
        ({"Which?": "words of my own"}, {"Which?": "words of my own"}, {}),
        ({"1": "a", "2": ["a", "b"]}, {"Which?": "a", "How many?": "a, b"}, {}),
        ({"Which?": ["a"]}, {"Which?": "a"}, {}),
        ({"Which?": {"answer": "a"}}, {"Which?": "a"}, {}),
        ({"2": {"answer": ["a", "b"], "notes": "n"}}, {"How many?": "a, b"}, {"How many?": "n"}),
        ({"Which?": {"notes": "n"}}, {}, {"Which?": "n"}),
    ],
)
def test_a_question_is_answered_by_text_or_number(
    answers: dict[str, Any], chosen: dict[str, str], notes: dict[str, str]
) -> None:
    assert read(answers=answers) == Answers(chosen, notes)


def test_a_message_alone_stands_for_all_answers() -> None:
    assert read(message="none of them") == Answers({}, {})


@pytest.mark.parametrize(("kind", "decision"), [("permission", "allow"), ("plan", "allow")])
def test_what_needs_no_answers_takes_none(kind: str, decision: str) -> None:
    assert read(kind, decision) == Answers({}, {})
    assert read(kind, "deny", message="why not") == Answers({}, {})


@pytest.mark.parametrize(
    ("kind", "decision", "given", "field"),
    [
        ("question", "allow", {}, "decision"),
        ("permission", "answer", {"answers": {"Which?": "a"}}, "decision"),
        ("plan", "answer", {"message": "well"}, "decision"),
        ("of tomorrow", "allow", {}, "decision"),
        ("question", "deny", {"answers": {"Which?": "a"}}, "answers"),
        ("permission", "allow", {"answers": {}}, "answers"),
        ("permission", "allow", {"message": "but be quick"}, "message"),
        ("question", "answer", {}, "answers"),
        ("question", "answer", {"answers": {}}, "answers"),
        ("question", "answer", {"answers": {"Which?": "a"}, "message": "m"}, "answers"),
        ("question", "answer", {"answers": {"Why?": "a"}}, "answers"),
        ("question", "answer", {"answers": {"3": "a"}}, "answers"),
        ("question", "answer", {"answers": {"Which?": 7}}, "answers"),
        ("question", "answer", {"answers": {"Which?": None}}, "answers"),
        ("question", "answer", {"answers": {"Which?": "  "}}, "answers"),
        ("question", "answer", {"answers": {"Which?": []}}, "answers"),
        ("question", "answer", {"answers": {"Which?": ["a", "b"]}}, "answers"),
        ("question", "answer", {"answers": {"2": ["a", 7]}}, "answers"),
        ("question", "answer", {"answers": {"Which?": {}}}, "answers"),
        ("question", "answer", {"answers": {"Which?": {"answer": "a", "x": 1}}}, "answers"),
        ("question", "answer", {"answers": {"Which?": {"notes": ""}}}, "answers"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field_and_without_its_value(
    kind: str, decision: str, given: dict[str, Any], field: str
) -> None:
    with pytest.raises(ProtocolError) as refused:
        read(kind, decision, **given)
    assert refused.value.fields == (field,)
    assert refused.value.code == "invalid_request"
    assert "Why?" not in str(refused.value)


def test_a_tool_that_has_asked_nothing_readable_takes_words_only() -> None:
    for tool_input in ({}, {"questions": None}, {"questions": [7]}):
        given: dict[str, Any] = {"decision": "answer", "message": None}
        with pytest.raises(ProtocolError):
            read_answers("question", tool_input, answers={"1": "a"}, **given)
