"""The questions of one run, with time that passes when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from executor.agents.protocol import ToolDecision
from executor.tasks.questions import Questions, UserInput
from shared.errors import ProtocolError
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.local import Input
from tests.fakes.clock import ManualClock

QUESTION = {"questions": [{"question": "Which?", "options": [{"label": "a"}, {"label": "b"}]}]}


class User:
    """Questions of a run, who hears of them, and who waits for the answers."""

    def __init__(
        self,
        *,
        timeout_s: float = 600,
        run_timeout_s: float = 3600,
        answerable: bool = True,
        of_request_s: float | None = None,
    ) -> None:
        self.time = ManualClock()
        self.told: list[AgentEvent] = []
        self.holds = 0
        self.can_answer = answerable
        rules = UserInput(timeout_s, run_timeout_s, lambda: self.can_answer)
        self.questions = Questions(
            rules,
            self.told.append,
            timeout_s=of_request_s,
            held=self._held,
            now=self.time.now,
            sleep=self.time.sleep,
        )
        self.waiting: list[asyncio.Task[ToolDecision | None]] = []

    async def asked(
        self, kind: Any = "permission", tool: str = "Bash", arguments: dict[str, Any] | None = None
    ) -> asyncio.Task[ToolDecision | None]:
        """Somebody who has asked."""
        asking = asyncio.create_task(self.questions.ask(kind, tool, arguments or {}))
        self.waiting.append(asking)
        await self.time.advance(0)
        return asking

    def answers(self, request_id: str | None = None, decision: str = "allow", **more: Any) -> str:
        if request_id is None:
            request_id = self.told[-1].data["request_id"]
        raw = {"task_id": 1, "subtask_id": 2, "request_id": request_id, "decision": decision}
        return self.questions.answer(Input.model_validate(raw | more))

    @property
    def outcomes(self) -> list[str]:
        return [e.data["outcome"] for e in self.told if e.type == EventType.INPUT_RESOLVED]

    @contextmanager
    def _held(self) -> Iterator[None]:
        self.holds += 1
        try:
            yield
        finally:
            self.holds -= 1


@pytest.fixture
async def user() -> AsyncIterator[User]:
    user = User()
    yield user
    for task in user.waiting:
        task.cancel()
    await asyncio.gather(*user.waiting, return_exceptions=True)


async def test_a_question_is_told_waits_and_ends_with_its_answer(user: User) -> None:
    before = datetime.now(UTC)
    asking = await user.asked("permission", "Bash", {"command": "make"})
    (event,) = user.told
    assert event.type == EventType.INPUT_REQUIRED
    data = dict(event.data)
    expires_at = datetime.fromisoformat(data.pop("expires_at"))
    assert 595 < (expires_at - before).total_seconds() < 660
    request_id = data.pop("request_id")
    assert data == {
        "kind": "permission",
        "tool_name": "Bash",
        "tool_input": {"command": "make"},
    }
    assert (user.questions.waiting, user.holds, asking.done()) == (True, 1, False)
    assert user.answers(request_id) == "accepted"
    assert await asking == ToolDecision(allowed=True)
    assert (user.questions.waiting, user.holds) == (False, 0)
    assert user.told[1].data == {"request_id": request_id, "outcome": "answered"}


async def test_a_repeated_answer_is_accepted_and_changes_nothing(user: User) -> None:
    asking = await user.asked()
    request_id = user.told[0].data["request_id"]
    assert user.answers(request_id, "deny", message="no") == "accepted"
    assert user.answers(request_id, "deny", message="no") == "accepted"
    decision = await asking
    assert user.answers(request_id, "allow") == "accepted"
    assert decision is not None
    assert not decision.allowed
    assert "no" in decision.message
    assert user.outcomes == ["denied"]


async def test_an_answer_to_nothing_is_unknown(user: User) -> None:
    await user.asked()
    assert user.answers("somebody else's") == "unknown_request"
    assert user.outcomes == []


@pytest.mark.parametrize(
    ("kind", "told"),
    [("question", "has not answered in time"), ("permission", "has not answered in time")],
)
async def test_without_an_answer_in_time_the_agent_is_told_so_and_goes_on(
    user: User, kind: str, told: str
) -> None:
    asking = await user.asked(kind)
    request_id = user.told[0].data["request_id"]
    await user.time.advance(599)
    assert not asking.done()
    await user.time.advance(1)
    decision = await asking
    assert decision is not None
    assert not decision.allowed
    assert told in decision.message
    assert "what you assumed" in decision.message
    assert (user.outcomes, user.holds) == (["expired"], 0)
    assert user.answers(request_id) == "expired"


async def test_a_plan_without_an_answer_in_time_is_the_policys_to_decide(user: User) -> None:
    asking = await user.asked("plan", "ExitPlanMode")
    await user.time.advance(600)
    assert await asking is None
    assert user.outcomes == ["expired"]


async def test_several_wait_at_once_and_each_gets_its_own_answer(user: User) -> None:
    first, second = await user.asked(tool="Bash"), await user.asked(tool="Write")
    ids = [event.data["request_id"] for event in user.told]
    assert len(set(ids)) == 2
    assert user.answers(ids[1], "deny") == "accepted"
    assert user.answers(ids[0]) == "accepted"
    decisions = await asyncio.gather(first, second)
    assert [decision is not None and decision.allowed for decision in decisions] == [True, False]


async def test_an_answer_that_does_not_fit_leaves_the_question_open(user: User) -> None:
    asking = await user.asked("question", "AskUserQuestion", QUESTION)
    request_id = user.told[0].data["request_id"]
    for wrong, more in [("allow", {}), ("answer", {}), ("answer", {"answers": {"Why?": "a"}})]:
        with pytest.raises(ProtocolError):
            user.answers(request_id, wrong, **more)
    assert (asking.done(), user.outcomes) == (False, [])
    assert user.answers(request_id, "answer", answers={"Which?": "b"}) == "accepted"
    decision = await asking
    assert decision is not None
    assert decision.updated_input == QUESTION | {"answers": {"Which?": "b"}}


async def test_a_request_says_how_long_its_questions_wait() -> None:
    user = User(timeout_s=0, of_request_s=30)

    asking = await user.asked()
    await user.time.advance(29)
    assert not asking.done()
    await user.time.advance(1)
    await asking

    assert user.outcomes == ["expired"]


@pytest.mark.parametrize(
    "options", [{"timeout_s": 0}, {"answerable": False}, {"timeout_s": 600, "of_request_s": 0}]
)
async def test_where_nobody_can_answer_nothing_is_asked(options: dict[str, Any]) -> None:
    user = User(**options)
    assert await (await user.asked()) is None
    assert user.told == []


async def test_whether_the_backend_can_answer_is_looked_up_for_every_question() -> None:
    user = User(answerable=False)
    assert await (await user.asked()) is None
    user.can_answer = True
    asking = await user.asked()
    user.can_answer = False  # a disconnect, or another backend: what was asked waits on
    assert user.answers() == "accepted"
    assert await asking is not None


async def test_no_question_outlives_its_run() -> None:
    user = User(timeout_s=600, run_timeout_s=100)
    await user.time.advance(90)
    asking = await user.asked()
    expires_at = datetime.fromisoformat(user.told[0].data["expires_at"])
    assert (expires_at - datetime.now(UTC)).total_seconds() <= 10
    await user.time.advance(10)
    assert asking.done()
    assert await (await user.asked()) is None
    assert user.outcomes == ["expired"]


async def test_time_that_earlier_processes_have_used_shortens_its_questions() -> None:
    user = User(timeout_s=600, run_timeout_s=100)
    user.questions.time_used(90)
    asking = await user.asked()
    await user.time.advance(10)
    assert asking.done()
    assert user.outcomes == ["expired"]


async def test_a_question_that_the_agent_takes_back_expires(user: User) -> None:
    asking = await user.asked()
    request_id = user.told[0].data["request_id"]
    asking.cancel()
    assert user.answers(request_id) == "expired"  # also before the agent's task has noticed
    await asyncio.wait({asking})
    assert asking.cancelled()
    assert (user.outcomes, user.holds, user.questions.waiting) == (["expired"], 0, False)
    assert user.answers(request_id) == "expired"


async def test_at_the_end_of_the_run_nobody_waits_and_the_verdict_resolves_what_is_open(
    user: User,
) -> None:
    asking = await user.asked()
    request_id = user.told[0].data["request_id"]
    user.questions.close()
    user.questions.close()
    assert user.answers(request_id) == "expired"
    decision = await asking
    assert decision is not None
    assert not decision.allowed
    assert await (await user.asked()) is None
    assert [event.type for event in user.told] == [EventType.INPUT_REQUIRED]
