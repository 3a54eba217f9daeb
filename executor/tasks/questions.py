"""What the agent of a run asks its user, and what becomes of it.

A question belongs to the run, not to the connection: it waits through disconnects, and ends with
an answer, when its time is over, when the agent does not wait any more, or with the run.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from executor.agents.protocol import ToolDecision
from executor.tasks.answers import decision_of
from shared.logging import get_logger
from shared.protocol.answers import QuestionKind
from shared.protocol.events import AgentEvent, EventType, Source
from shared.protocol.local import Input

logger = get_logger("questions")

AnswerStanding = Literal["accepted", "unknown_request", "expired"]
"""What becomes of a user's answer."""

Outcome = Literal["answered", "denied", "expired"]

_NO_ANSWER: Final[Mapping[QuestionKind, ToolDecision | None]] = {
    "question": ToolDecision(
        allowed=False,
        message="The user was asked and has not answered in time. Decide yourself, choose what is "
        "safest and easiest to undo, and say in your final answer what you assumed.",
    ),
    "permission": ToolDecision(
        allowed=False,
        message="The user was asked for permission and has not answered in time. Do what is "
        "possible without it, and say in your final answer what you assumed and what is left to "
        "do.",
    ),
    # An agent that is told to decide by itself would present its plan again, and wait again.
    "plan": None,
}
"""What an agent hears when the time is over; ``None``: the policy's own decision."""

_OVER: Final = ToolDecision(allowed=False, message="The run ends before the user has answered.")


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class UserInput:
    """How users are asked: the same for every run."""

    timeout_s: float
    """How long a question waits for its answer; 0: nobody is ever asked."""
    run_timeout_s: float
    """Bounds a run that names no limit of its own, and with it its questions."""
    answerable: Callable[[], bool] = _always
    """Whether the backend can pass answers on."""


@dataclass(slots=True, eq=False)
class _Question:
    kind: QuestionKind
    arguments: dict[str, Any]
    source: Source | None
    """Who asks."""
    decided: asyncio.Future[ToolDecision | None] = field(repr=False)


class Questions:
    """The questions of one run."""

    def __init__(
        self,
        rules: UserInput,
        tell: Callable[[AgentEvent], None],
        *,
        timeout_s: float | None = None,
        run_timeout_s: float | None = None,
        held: Callable[[], AbstractContextManager[None]] = nullcontext,
        now: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Make them when the run begins.

        Args:
            rules: How users are asked.
            tell: Takes events into the run's stream.
            timeout_s: How long a question waits, 0: nobody is asked; ``None``: as the rules say.
            run_timeout_s: How long the run may take in all; ``None``: as the rules say.
            held: Entered while a question waits, by each of them.
            now: A monotonic clock in seconds; ``None``: the event loop's.
            sleep: Waits that many seconds of *now*.
        """
        self._rules = rules
        self._timeout_s = rules.timeout_s if timeout_s is None else timeout_s
        self._tell = tell
        self._held = held
        self._now = now or asyncio.get_running_loop().time
        self._sleep = sleep
        self._run_ends_at = self._now() + (run_timeout_s or rules.run_timeout_s)
        self._open: dict[str, _Question] = {}
        self._ended: dict[str, AnswerStanding] = {}
        """What a further answer to each question is told."""
        self._closed = False

    @property
    def waiting(self) -> bool:
        """Whether the user is being asked something."""
        return bool(self._open)

    def time_used(self, seconds: float) -> None:
        """Earlier processes have used so much of the run's time."""
        self._run_ends_at -= seconds

    async def ask(
        self,
        kind: QuestionKind,
        tool: str,
        arguments: dict[str, Any],
        source: Source | None = None,
    ) -> ToolDecision | None:
        """Ask the user and wait; see :class:`executor.agents.protocol.Ask`."""
        wait_s = min(self._timeout_s, self._run_ends_at - self._now())
        if self._closed or wait_s <= 0 or not self._rules.answerable():
            return None
        request_id = str(uuid.uuid4())
        question = _Question(kind, arguments, source, asyncio.get_running_loop().create_future())
        self._open[request_id] = question
        expires_at = datetime.now(UTC) + timedelta(seconds=wait_s)
        self._tell(
            AgentEvent(
                EventType.INPUT_REQUIRED,
                {
                    "request_id": request_id,
                    "kind": kind,
                    "tool_name": tool,
                    "tool_input": arguments,
                    "expires_at": expires_at.isoformat(timespec="milliseconds").replace(
                        "+00:00", "Z"
                    ),
                },
                source,
            )
        )
        logger.info("the user is asked", kind=kind, tool=tool, request_id=request_id)
        expiry = asyncio.create_task(self._expire(request_id, wait_s), name="question expires")
        try:
            with self._held():
                return await question.decided
        finally:
            expiry.cancel()
            self._end(request_id, "expired")

    def answer(self, answer: Input) -> AnswerStanding:
        """Give the user's answer to the agent that waits for it; a repeat changes nothing.

        Raises:
            ProtocolError: It does not answer this question, which stays open.
        """
        question = self._open.get(answer.request_id)
        if question is None:
            return self._ended.get(answer.request_id, "unknown_request")
        if question.decided.done():
            return "expired"  # the agent has taken it back just now
        decision = decision_of(question.kind, question.arguments, answer)
        self._end(answer.request_id, "denied" if answer.decision == "deny" else "answered")
        question.decided.set_result(decision)
        return "accepted"

    def close(self) -> None:
        """The run ends: nothing more is asked or answered; harmless again.

        What is open is not told as resolved here: that comes with the verdict.
        """
        self._closed = True
        for question in self._open.values():
            if not question.decided.done():
                question.decided.set_result(_OVER)
        self._ended |= dict.fromkeys(self._open, "expired")
        self._open.clear()

    async def _expire(self, request_id: str, wait_s: float) -> None:
        await self._sleep(wait_s)
        question = self._open.get(request_id)
        if question is not None and not question.decided.done():
            self._end(request_id, "expired")
            question.decided.set_result(_NO_ANSWER[question.kind])

    def _end(self, request_id: str, outcome: Outcome) -> None:
        """Resolve a question, unless it is resolved already."""
        question = self._open.pop(request_id, None)
        if question is None:
            return
        self._ended[request_id] = "expired" if outcome == "expired" else "accepted"
        logger.info("the question was %s", outcome, request_id=request_id)
        data = {"request_id": request_id, "outcome": outcome}
        self._tell(AgentEvent(EventType.INPUT_RESOLVED, data, question.source))
