"""The seam of the whole system: whoever carries out a run.

A :class:`RunHandler` takes an ExecutionRequest and yields AgentEvents. Which one serves a run, in
this process or in a container, is decided at the composition root; nothing else changes. One
contract suite (``tests/contract/test_run_handlers.py``) runs over every implementation.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal, Protocol

from executor.tasks.questions import AnswerStanding
from shared.protocol.events import AgentEvent
from shared.protocol.execution import ExecutionRequest
from shared.protocol.local import Input

WaitsFor = Literal["user", "api"]
"""For whom a run can wait: its user, who is asked something, or the model's API, which has refused
it for now."""


class Run(Protocol):
    """One run in progress."""

    @property
    def waits_for(self) -> WaitsFor | None:
        """Why it does not get on right now; ``None``: it does."""
        ...

    @property
    def goes_on_alone(self) -> bool:
        """Whether it needs this process no more: after :meth:`let_go` it goes on without it."""
        ...

    def let_go(self) -> None:
        """Have closing :meth:`events` end nothing, if the run goes on alone.

        A later process then takes it up again where the events that it has told end.
        """
        ...

    def events(self) -> AsyncGenerator[AgentEvent]:
        """Carry the run out, yielding what happens; to be iterated once.

        Ends with exactly one terminal event. Closing the iterator early, or cancelling the task
        that iterates, ends every process of the run before it returns.
        """
        ...

    async def cancel(self, reason: str | None) -> None:
        """Ask the run to stop; returns at once.

        :meth:`events` then ends with ``lifecycle.cancelled`` unless its verdict was already
        yielded. Harmless at any time, before the first event and after the last, and again.
        """
        ...

    async def account(self) -> Mapping[str, Any]:
        """``workspace`` and ``statistics``, for the verdict of a run that cannot tell its own.

        Once :meth:`events` has ended, however that came.
        """
        ...

    def conclude(self, verdict: AgentEvent | None) -> None:
        """Be told how the run has ended, for those who observe it; nothing follows.

        A cancel or a limit may have put another verdict in the place of the run's own. ``None``:
        it has none, and may go on later.
        """
        ...

    async def pause(self) -> None:
        """Stop what the run does where it stands, until :meth:`resume`; harmless again."""
        ...

    async def resume(self) -> None:
        """Let a paused run go on; harmless when it is not paused."""
        ...

    async def answer(self, answer: Input) -> AnswerStanding:
        """Give the user's answer to a question; a repeat is accepted and changes nothing.

        Raises:
            ProtocolError: It does not answer this question, which stays open.
        """
        ...


class RunHandler(Protocol):
    """Carries out runs, any number at a time."""

    def check(self, request: ExecutionRequest) -> None:
        """Refuse, before anything is created, what this handler cannot carry out.

        Raises:
            Refusal: With the code for the wire.
        """
        ...

    def start(self, request: ExecutionRequest) -> Run:
        """Prepare a run; nothing happens before its events are read."""
        ...

    async def close_session(self, task_id: int | str) -> None:
        """End the session's warm process, if any; workspace and conversation stay.

        A run in progress goes on, and leaves no warm process.
        """
        ...

    def wind_down(self) -> None:
        """Begin to end every warm process, and keep none from now on; runs in progress go on."""
        ...

    async def close(self) -> None:
        """End every warm process, as :meth:`wind_down` does, and wait for their ends."""
        ...
