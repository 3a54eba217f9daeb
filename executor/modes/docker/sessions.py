"""The sessions of docker mode: which there are, and how their processes are ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from executor.delivery.known_sessions import known_sessions
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
        """Every session that is known, those with runs first."""
        known = {session.session_id: session for session in await known_sessions(self._state)}
        live = self._live()
        views = []
        for session_id in dict.fromkeys([*live, *self._warm.sessions, *known]):
            runs, there = live.get(session_id, []), known.get(session_id)
            waits = "warm" if session_id in self._warm.sessions else "parked"
            views.append(
                SessionView(
                    task_id=runs[0].ref.task_id if runs else session_id,
                    session_id=session_id,
                    state="running" if runs else waits,
                    runs=[run.ref.key[0] for run in runs],
                    agent_type=(there and there.agent_type) or (runs[0].agent if runs else None),
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
        if state == "unknown" and all(view.session_id != session_id for view in await self.all()):
            raise _unknown()
        return state == "cancelling"

    async def end(self, session_id: str) -> SessionsEnded:
        """Cancel a session's runs and end its process.

        Raises:
            NotFound: There is no such session.
        """
        if all(view.session_id != session_id for view in await self.all()):
            raise _unknown()
        return await self._end({session_id}, self._live().get(session_id, []))

    async def end_all(self, agent: str | None = None) -> SessionsEnded:
        """Cancel all runs and end all processes; of one kind of *agent*, or of all (``None``)."""
        known = await known_sessions(self._state)
        kinds = {one.session_id: one.agent_type for one in known if one.agent_type is not None}
        runs = [run for runs in self._live().values() for run in runs]
        warm = set(self._warm.sessions)
        if agent is not None:
            # Of a run that waits to be sent again, nobody knows what it asks for.
            asked = {run: self._agent_of(run.agent) if run.agent else agent for run in runs}
            runs = [run for run in runs if kinds.get(run.ref.session, asked[run]) == agent]
            warm = {session for session in warm if kinds.get(session, agent) == agent}
        return await self._end(warm | {run.ref.session for run in runs}, runs)

    async def _end(self, sessions: Iterable[str], runs: list[Whereabouts]) -> SessionsEnded:
        for run in reversed(runs):  # none begins because the one before it has ended
            reason = "its session was closed"
            cancel = Cancel(task_id=run.ref.task_id, subtask_id=run.ref.subtask_id, reason=reason)
            self._supervisor.cancel(cancel)
        ended = sorted(sessions)
        for session_id in ended:
            await self._supervisor.close_session(session_id)
        return SessionsEnded(sessions=ended, cancelled=[run.ref.key[0] for run in runs])

    def _live(self) -> dict[str, list[Whereabouts]]:
        """The runs without a verdict, by session."""
        found: dict[str, list[Whereabouts]] = defaultdict(list)
        for run in self._supervisor.whereabouts():
            found[run.ref.session].append(run)
        return dict(found)


def _unknown() -> NotFound:
    return NotFound("there is no such session", hint="GET /api/tasks/sessions lists them")
