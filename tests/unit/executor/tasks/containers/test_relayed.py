from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from executor.tasks.containers.relayed import Relayed
from shared.protocol.events import AgentEvent, EventType

HERE = Path("/w/7")


def told(kind: EventType, origin: int = 1, **data: Any) -> AgentEvent:
    return AgentEvent(kind, data, origin=origin)


@pytest.mark.parametrize(
    ("inside", "here"),
    [
        ("/workspace", "/w/7"),
        ("/workspace/repo/src", "/w/7/repo/src"),
        ("/workspaces/x", "/workspaces/x"),
        ("/tmp/x", "/tmp/x"),
    ],
)
def test_paths_in_the_workspace_are_told_as_they_are_called_here(inside: str, here: str) -> None:
    relayed = Relayed(HERE)
    prepared = relayed.pass_on(told(EventType.WORKSPACE_PREPARED, path=inside, branch="b"))
    assert dict(prepared.data) == {"path": here, "branch": "b"}
    verdict = relayed.pass_on(told(EventType.FAILED, workspace={"path": inside, "files": []}))
    assert verdict.data["workspace"] == {"path": here, "files": []}


def test_everything_else_passes_as_it_is() -> None:
    call = told(EventType.TOOL_CALL, 5, arguments={"path": "/workspace/a"})
    assert Relayed(HERE).pass_on(call) is call


def test_it_knows_how_far_it_has_come() -> None:
    relayed = Relayed(HERE, origin=4)
    relayed.pass_on(told(EventType.TOOL_CALL, 5))
    assert relayed.origin == 5


def test_a_question_is_open_until_it_is_resolved_or_answered() -> None:
    relayed = Relayed(HERE, open_questions=["old"])
    assert relayed.asks
    assert relayed.standing("old") is None
    relayed.pass_on(told(EventType.INPUT_RESOLVED, request_id="old", outcome="expired"))
    assert (relayed.asks, relayed.standing("old")) == (False, "expired")
    relayed.pass_on(told(EventType.INPUT_REQUIRED, request_id="new"))
    relayed.answered("new")
    assert (relayed.asks, relayed.standing("new")) == (False, "accepted")
    assert relayed.standing("never") == "unknown_request"


def test_what_is_open_at_the_end_expires_whatever_is_told_later() -> None:
    relayed = Relayed(HERE)
    relayed.pass_on(told(EventType.INPUT_REQUIRED, request_id="q"))
    relayed.close_questions()
    relayed.pass_on(told(EventType.INPUT_RESOLVED, request_id="q", outcome="denied"))
    assert relayed.standing("q") == "expired"


def test_a_run_that_the_api_has_refused_waits_until_it_tells_something_else() -> None:
    relayed = Relayed(HERE)
    relayed.pass_on(told(EventType.WARNING, message="so and so"))
    assert not relayed.refused
    relayed.pass_on(told(EventType.WARNING, message="later", waits_for="api"))
    assert relayed.refused
    relayed.pass_on(told(EventType.LLM_STREAM, content="x"))
    assert not relayed.refused


def test_the_account_of_a_run_without_a_verdict_is_what_it_has_used() -> None:
    relayed = Relayed(HERE)
    assert relayed.account({}) == {"workspace": None, "statistics": {}}
    for tokens in (2, 3):
        usage = {"input_tokens": tokens, "service_tier": "standard", "cache": {"x": 1}}
        relayed.pass_on(told(EventType.LLM_DONE, usage=usage))
    assert relayed.account({})["statistics"] == {"usage": {"input_tokens": 5}}


def test_the_account_of_a_run_with_a_verdict_is_what_that_says() -> None:
    relayed = Relayed(HERE)
    data: dict[str, Any] = {"workspace": {"path": "/workspace"}, "statistics": {"num_turns": 3}}
    verdict = relayed.pass_on(told(EventType.COMPLETED, **data))
    assert relayed.verdict is verdict
    assert relayed.account(verdict.data) == {
        "workspace": {"path": "/w/7"},
        "statistics": {"num_turns": 3},
    }
