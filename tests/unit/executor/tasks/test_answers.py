"""What an agent gets of a user's answer."""

from __future__ import annotations

from typing import Any

import pytest

from executor.tasks.answers import decision_of
from shared.protocol.local import Input

QUESTION = {"questions": [{"question": "Which?"}, {"question": "Why?"}], "metadata": {"a": 1}}


def answer(decision: str, **more: Any) -> Input:
    raw = {"task_id": 1, "subtask_id": 2, "request_id": "r", "decision": decision}
    return Input.model_validate(raw | more)


def test_answers_go_back_with_the_questions_in_the_shape_that_the_tool_takes() -> None:
    given = answer("answer", answers={"1": "a", "Why?": {"answer": "b", "notes": "n"}})
    decision = decision_of("question", QUESTION, given)
    assert decision.allowed
    assert decision.updated_input == QUESTION | {
        "answers": {"Which?": "a", "Why?": "b"},
        "annotations": {"Why?": {"notes": "n"}},
    }


def test_words_for_all_of_them_go_back_as_the_response() -> None:
    decision = decision_of("question", QUESTION, answer("answer", message="neither"))
    assert decision.updated_input == QUESTION | {"answers": {}, "response": "neither"}


@pytest.mark.parametrize("kind", ["permission", "plan"])
def test_what_is_allowed_is_done_as_it_was_asked(kind: Any) -> None:
    decision = decision_of(kind, {"command": "ls"}, answer("allow"))
    assert (decision.allowed, decision.updated_input) == (True, None)


@pytest.mark.parametrize("kind", ["question", "permission", "plan"])
def test_a_denial_reaches_the_agent_with_the_users_words(kind: Any) -> None:
    silent = decision_of(kind, QUESTION, answer("deny"))
    assert not silent.allowed
    assert "user" in silent.message
    told = decision_of(kind, QUESTION, answer("deny", message="use tabs"))
    assert not told.allowed
    assert told.message == f"{silent.message} The user says: use tabs"
