"""The sessions of docker mode: which there are, and how their processes are ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from executor.delivery.known_sessions import close_sessions, known_sessions, reopen_session
from executor.delivery.state import StateStore
from executor.modes.docker.views import SessionsEnded, SessionView
from executor.tasks.supervisor import Supervisor
from executor.tasks.warm_sessions import WarmSessions
from executor.tasks.whereabouts import Whereabouts
from shared.protocol.local import Cancel
from shared.web.errors import NotFound


class Sessions:
    """Looks at sessions and ends them. Ids are compared as text: ``1`` and ``"1"`` are the same.

    What is ended here begins again with the session's next task: its conversation and its
    workspace stay.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        state: StateStore,
        warm: WarmSessions,
        *,
        agent_of: Callable[[str], str],
    ) -> None:
        """Take what to look at.

        Args:
            supervisor: Has the runs.
            state: Remembers the sessions.
            warm: Has the processes that wait.
            agent_of: An agent's own name, by what a request calls it.
        """
        self._supervisor = supervisor
        self._state = state
        self._warm = warm
        self._agent_of = agent_of

    async def all(self) -> list[SessionView]:
        """Every session but those that were closed and have had no run since; with runs first."""
        known = {session.session_id: session for session in await known_sessions(self._state)}
        live = self._live()
        views = []
        for session_id in dict.fromkeys([*live, *self._warm.sessions, *known]):
            runs, there = live.get(session_id, []), known.get(session_id)
            warm = session_id in self._warm.sessions
            if there is not None and there.closed and not runs and not warm:
                continue
            views.append(
                SessionView(
                    task_id=runs[0].ref.task_id if runs else session_id,
                    session_id=session_id,
                    state="running" if runs else "warm" if warm else "parked",
                    runs=[run.ref.key[0] for run in runs],
                    agent_type=(there and there.agent_type) or self._agent_type(runs),
                    sdk_session_id=there.sdk_session_id if there else None,
                    cwd=there.cwd if there else None,
                    updated_at=there.updated_at if there else None,
                )
            )
        return views

    async def cancel(self, session_id: str, reason: str | None = None) -> bool:
        """Cancel every run of a session that has no verdict; returns before they have ended.

        Returns:
            Whether there was one.

        Raises:
            NotFound: There is no such session.
        """
        state = self._supervisor.cancel(Cancel(task_id=session_id, reason=reason))
        if state == "unknown":
            await self._check_known(session_id)
        return state == "cancelling"

    async def end(self, session_id: str) -> SessionsEnded:
        """Cancel a session's runs, end its process, and list it no more; again does no harm.

        Raises:
            NotFound: There is no such session.
        """
        await self._check_known(session_id)
        return await self._end([session_id])

    async def end_all(self, agent: str | None = None) -> SessionsEnded:
        """Do that for every session that is listed; of one kind of *agent*, or all (``None``)."""
        # Of a session in which no agent has begun, nobody may know which it asks for.
        kinds = {None, agent}
        return await self._end(
            [
                view.session_id
                for view in await self.all()
                if agent is None or view.agent_type in kinds
            ]
        )

    def reopen(self, session_id: str) -> None:
        """It has a new run: it is listed again, if it was closed."""
        reopen_session(self._state, session_id)

    async def _end(self, session_ids: Sequence[str]) -> SessionsEnded:
        # Noted and cancelled at once: a run that is taken from here on is a new one.
        close_sessions(self._state, session_ids)
        live = self._live()
        runs = [run for session_id in session_ids for run in live.get(session_id, [])]
        for run in reversed(runs):  # none begins because the one before it has ended
            reason = "its session was closed"
            cancel = Cancel(task_id=run.ref.task_id, subtask_id=run.ref.subtask_id, reason=reason)
            self._supervisor.cancel(cancel)
        for session_id in session_ids:
            await self._supervisor.close_session(session_id)
        return SessionsEnded(
            sessions=sorted(session_ids), cancelled=[run.ref.key[0] for run in runs]
        )

    async def _check_known(self, session_id: str) -> None:
        known = {session.session_id for session in await known_sessions(self._state)}
        if session_id not in known | self._live().keys() | set(self._warm.sessions):
            raise NotFound("there is no such session", hint="GET /api/tasks/sessions lists them")

    def _agent_type(self, runs: Sequence[Whereabouts]) -> str | None:
        """The agent that the first of them asks for; ``None``: not known."""
        return self._agent_of(runs[0].agent) if runs and runs[0].agent else None

    def _live(self) -> dict[str, list[Whereabouts]]:
        """The runs without a verdict, by session."""
        found: dict[str, list[Whereabouts]] = defaultdict(list)
        for run in self._supervisor.whereabouts():
            found[run.ref.session].append(run)
        return dict(found)
