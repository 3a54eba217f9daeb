"""The turns of one run, each taken in a live session that is warm or ended afterwards."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from executor.agents.protocol import Agent, AgentJob, AgentSession, Ask, TurnEnd
from executor.tasks.cancellation import Cancellation
from executor.tasks.disk_room import with_room
from executor.tasks.liveness import watched
from executor.tasks.pausing import Pause
from executor.tasks.spending import Spent
from executor.tasks.stall import StallClock
from executor.tasks.warm_sessions import WarmSessions
from shared.protocol.events import AgentEvent
from shared.shielding import finish


class Turns:
    """Takes turns, one at a time."""

    def __init__(
        self,
        warm: WarmSessions,
        *,
        ask: Ask,
        cancellation: Cancellation,
        pause: Pause,
        clock: StallClock,
        spent: Spent,
        warn: Callable[[str], None],
    ) -> None:
        """Take the parts of one run.

        Args:
            warm: Has one from an earlier turn, perhaps, and gets it back.
            ask: Puts questions to the user.
            cancellation: Ends what is in progress.
            pause: Takes on the process of the turn.
            clock: Says when a turn has been silent for too long.
            spent: Is kept up to date.
            warn: Tells the user something.
        """
        self._warm = warm
        self._ask = ask
        self._cancellation = cancellation
        self._pause = pause
        self._clock = clock
        self._spent = spent
        self._warn = warn
        self._session: AgentSession | None = None
        self.keep_warm = True
        """Whether the session may stay warm after its turn."""

    async def interrupt(self) -> None:
        """Ask the turn in progress to stop; returns at once."""
        if self._session is not None:
            await self._session.interrupt()

    async def take(self, agent: Agent, job: AgentJob) -> AsyncGenerator[AgentEvent | TurnEnd]:
        """One turn.

        After a cancel its session is always ended, with everything it has started.

        Raises:
            Cancelled: The run was cancelled before the turn began.
            RunError: The session could not be opened.
        """
        warm, task_id = self._warm, str(job.request.task_id)
        if job.resume is None:
            await warm.close_session(task_id)
        session = self._session = await warm.take(task_id, job.fingerprint)
        reusable = False
        try:
            if session is not None and session.session_id != job.resume:
                await session.close()
                session = self._session = None
            if session is None:
                await self._cancellation.unless(self._open(agent, job))
                session = self._session
            self._cancellation.check()
            assert session is not None  # noqa: S101 - it was opened, or that has raised
            await self._pause.attach(session.pid)
            self._cancellation.check()
            self._spent.note(0, cost_usd := session.cost_usd)
            turn = watched(session, job.request, self._ask, self._clock)
            async with aclosing(turn) as items:
                async for item in items:
                    if isinstance(item, TurnEnd):
                        reusable = item.reusable
                    self._spent.note(session.answered, cost_usd)
                    yield item
        finally:
            session, self._session = self._session, None
            try:
                await finish(self._pause.detach())  # it could not end gracefully otherwise
            finally:
                # What a cancelled run has left in the background would live on with its agent.
                keep = reusable and self.keep_warm and not self._cancellation.asked
                if session is not None and keep:
                    await warm.park(task_id, session, job.fingerprint)
                elif session is not None:
                    await session.close()

    async def _open(self, agent: Agent, job: AgentJob) -> None:
        await agent.load()

        async def open_session() -> None:
            # Kept before anything else can happen, so that no process is left behind.
            self._session = await agent.open(job)

        await with_room(open_session, unpaused=self._pause.over, warn=self._warn)
