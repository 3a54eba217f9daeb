"""The runs of docker mode: how they are taken, looked at, followed, answered and cancelled."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Final

import structlog
from sse_starlette import ServerSentEvent

from executor.delivery.event_log import EventLog, LogStanding
from executor.modes.docker.callbacks import Callbacks
from executor.modes.docker.errors import Conflict, QuestionExpired, UnknownQuestion
from executor.modes.docker.sessions import Sessions
from executor.modes.docker.user_input import UserInputRequests
from executor.modes.docker.views import Accepted, Answer, CallbackView, RunStateName, RunView
from executor.tasks.supervisor import Supervisor
from executor.tasks.whereabouts import Whereabouts
from shared.errors import Refusal
from shared.logging import get_logger
from shared.protocol.execution import ExecutionRequest
from shared.protocol.http import Task
from shared.protocol.local import Cancel, Input
from shared.web.errors import BadRequest, NotFound
from shared.web.streams import Streams

logger = get_logger("task_executor")

_SEQUENCE: Final = re.compile(r"[0-9]{1,9}")


class Runs:
    """What the routes ask about runs; nothing here is kept that is known elsewhere."""

    def __init__(
        self,
        supervisor: Supervisor,
        log: EventLog,
        callbacks: Callbacks,
        questions: UserInputRequests,
        streams: Streams,
        sessions: Sessions,
        *,
        user_id: str | None,
    ) -> None:
        """Take the parts.

        Args:
            supervisor: Has the runs.
            log: What they have told.
            callbacks: Tells their receivers.
            questions: Puts what agents ask to their users.
            streams: Shows them to those who follow.
            sessions: Lists a session again that has a new run.
            user_id: Whose runs these are, for the log.
        """
        self._supervisor = supervisor
        self._log = log
        self._callbacks = callbacks
        self._questions = questions
        self._streams = streams
        self._sessions = sessions
        self._user_id = user_id

    async def execute(self, task: Task) -> Accepted:
        """Take a run, or recognise one that is known; returns when that is safe on the disk.

        Raises:
            Refusal: It is not taken, and nothing was made; in the words of the task's body.
            Conflict: The run is known, and belongs to another session.
        """
        request, target = task.request, task.target
        run = request.run
        names = {"task_id": run.task_id, "subtask_id": run.subtask_id}
        if self._user_id is not None:
            names["user_id"] = self._user_id
        with structlog.contextvars.bound_contextvars(**names):
            self._check_session(request, await self._log.standing(run.key[0]))
            try:
                submission = self._supervisor.submit(request)
            except Refusal as exc:
                refusal = task.in_its_words(exc)
                logger.warning("refused: %s: %s", refusal.error_code, refusal.message)
                raise refusal from None
            if not submission.duplicate:
                self._sessions.reopen(run.session)
            how = " before: a duplicate" if submission.duplicate else ""
            logger.info("accepted%s", ", to go on" if submission.resumed else how)
            if target is not None:
                self._questions.expect(run, target)
                await self._callbacks.expect(run, target)
            await submission.written()
        return Accepted(
            session_id=run.session,
            run_id=run.key[0],
            task_id=run.task_id,
            subtask_id=run.subtask_id,
            attempt=run.attempt,
            duplicate=submission.duplicate or None,
            resumed=submission.resumed or None,
        )

    async def view(self, run_id: str) -> RunView:
        """A run as it is now.

        Raises:
            NotFound: There is no such run.
        """
        standing = await self._standing(run_id)
        callback = await self._callbacks.standing(run_id)
        live = self._live(run_id) if standing.verdict is None else None
        verdict = standing.verdict.data if standing.verdict is not None else {}
        return RunView(
            run_id=run_id,
            session_id=standing.run.session,
            attempt=standing.run.attempt,
            state=standing.state if live is None else _state(live),
            waits_for=live.waits_for if live is not None else None,
            sequence=standing.sequence,
            begins_after=standing.begins_after,
            progress=standing.progress,
            result=verdict.get("result"),
            error=verdict.get("error"),
            error_code=verdict.get("error_code"),
            reason=verdict.get("reason"),
            statistics=verdict.get("statistics"),
            workspace=verdict.get("workspace"),
            callback=None
            if callback is None
            else CallbackView(state=callback.state, acked=callback.acked, error=callback.error),
        )

    async def follow(
        self, run_id: str, last_event_id: str | None, after: str | None = None
    ) -> AsyncGenerator[ServerSentEvent]:
        """The run's events that follow the one of this number, then its new ones.

        *after* counts when there is no *last_event_id*.

        Raises:
            NotFound: There is no such run.
            BadRequest: No event of the run has this number.
        """
        standing = await self._standing(run_id)
        text = last_event_id or after or "0"
        if not _SEQUENCE.fullmatch(text) or int(text) > self._log.last_sequence(run_id):
            raise BadRequest(
                f"{'Last-Event-ID' if last_event_id else 'after'} is not the number of an event of "
                "this run",
                hint="leave it out to read from the beginning",
            )
        return self._streams.follow(
            self._log, run_id, after=int(text), finished_at=standing.finished_at
        )

    async def cancel(self, run_id: str, reason: str | None) -> bool:
        """Cancel a run; returns before it has ended, and whether it had not.

        Raises:
            NotFound: There is no such run.
        """
        run = (await self._standing(run_id)).run
        cancel = Cancel(task_id=run.task_id, subtask_id=run.subtask_id, reason=reason)
        state = self._supervisor.cancel(cancel)
        logger.info("cancel: %s", state, task_id=run.task_id, subtask_id=run.subtask_id)
        return state == "cancelling"

    async def answer(self, run_id: str, answer: Answer) -> None:
        """Pass the user's answer on to the agent.

        Raises:
            NotFound: There is no such run.
            ProtocolError: It does not answer this question, which stays open.
            UnknownQuestion: Nobody waits for it.
            QuestionExpired: The agent has gone on without it.
        """
        run = (await self._standing(run_id)).run
        ack = await self._supervisor.answer(
            Input(task_id=run.task_id, subtask_id=run.subtask_id, **answer.model_dump())
        )
        if ack.success:
            return
        if ack.code == "expired":
            raise QuestionExpired("the agent has gone on without an answer")
        raise UnknownQuestion(
            "the run does not wait for this answer",
            hint="the events of the run tell what is asked: agent.input_required",
        )

    def _check_session(self, request: ExecutionRequest, known: LogStanding | None) -> None:
        run_id = request.run.key[0]
        # What is accepted at this moment is not yet in the log.
        accepted = (run for run in self._supervisor.unfinished() if run.key[0] == run_id)
        run = known.run if known is not None else next(accepted, None)
        if run is not None and run.session != request.run.session:
            raise Conflict(
                "this run belongs to another session",
                hint="give every run an id of its own",
            )

    async def _standing(self, run_id: str) -> LogStanding:
        standing = await self._log.standing(run_id)
        if standing is None:
            raise NotFound("there is no such run", hint="it was never taken, or is forgotten")
        return standing

    def _live(self, run_id: str) -> Whereabouts | None:
        there = (run for run in self._supervisor.whereabouts() if run.ref.key[0] == run_id)
        return max(there, key=lambda run: run.ref.attempt, default=None)


def _state(live: Whereabouts) -> RunStateName:
    match live.state:
        case "waiting_for_input" | "paused":
            return "running"  # whom it waits for is told beside it
        case state:
            return state
