"""Questions of agents, put to a user by the backend that has asked for the run.

Created at ``{base_url}/api/v1/user-input-requests`` and looked at there until somebody has
answered, here or there. What fails is tried again for as long as the agent waits: a request that
was lost is no answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from executor.delivery.event_log import EventLog, LoggedEvent
from executor.modes.docker.given_answers import Given, NoAnswer, read_given
from executor.modes.docker.receiver_client import (
    ReceiverClient,
    Reply,
    Unanswered,
    origin_of,
    retry_delays,
)
from shared.errors import ProtocolError
from shared.logging import get_logger
from shared.protocol.events import EventType, RunKey, RunRef
from shared.protocol.http import CallbackTarget
from shared.protocol.local import Input, InputAck

logger = get_logger("user_input")

PATH: Final = "/api/v1/user-input-requests"

POLL_S: Final = 2.0
"""How often is looked for an answer."""

MISSING_TIMES: Final = 3
"""After how many answers of 404 a question is created once more: the backend has forgotten it."""


@dataclass(slots=True)
class _Followed:
    target: CallbackTarget
    task: asyncio.Task[None]


class UserInputRequests:
    """Puts the questions of all runs to their users. :meth:`close` ends it."""

    def __init__(
        self,
        log: EventLog,
        client: ReceiverClient,
        answer: Callable[[Input], Awaitable[InputAck]],
        *,
        warn: Callable[[RunRef, str], None],
        poll_s: float = POLL_S,
        delays: Callable[[], Iterator[float]] = retry_delays,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take the parts.

        Args:
            log: Where questions are seen, and that they are resolved.
            client: Sends; it is the caller's to close, after :meth:`close`.
            answer: Gives an answer to the run that asks; raises ``ProtocolError`` for one that
                does not answer its question.
            warn: Puts a warning among the events of a run that goes on.
            poll_s: See :data:`POLL_S`.
            delays: How long to wait after each failure in a row, in seconds.
            sleep: Waits for so long.
        """
        self._log = log
        self._client = client
        self._answer = answer
        self._warn = warn
        self._poll_s = poll_s
        self._delays = delays
        self._sleep = sleep
        self._followed: dict[str, _Followed] = {}
        self._expected_before: tuple[RunKey, _Followed | None] | None = None
        """Where the questions of the run that was expected last had gone until then."""

    def expect(self, run: RunRef, target: CallbackTarget) -> None:
        """A run is about to be accepted, or asked for again: its questions go to *target* now."""
        run_id, attempt = run.key
        self._expected_before = None
        if attempt >= self._log.newest_attempt(run_id):
            self._expected_before = (run.key, self._followed.get(run_id))
            self._begin(run_id, target)

    def forget(self, key: RunKey) -> None:
        """The run that was expected just now is not accepted: all is as before."""
        if self._expected_before is None or self._expected_before[0] != key:
            return
        before = self._expected_before[1]
        self._expected_before = None
        if before is not None:
            self._begin(key[0], before.target)
        else:
            self._stop(key[0])

    async def close(self) -> None:
        """Ask nobody any more."""
        tasks = {followed.task for followed in self._followed.values()}
        for run_id in list(self._followed):
            self._stop(run_id)
        if tasks:
            await asyncio.wait(tasks)

    def _begin(self, run_id: str, target: CallbackTarget) -> None:
        followed = self._followed.get(run_id)
        if followed is not None and followed.target == target:
            return
        self._stop(run_id)
        if target.base_url is not None:
            task = asyncio.create_task(self._follow(run_id, target), name="user input")
            self._followed[run_id] = _Followed(target, task)

    def _stop(self, run_id: str) -> None:
        followed = self._followed.pop(run_id, None)
        if followed is not None:
            followed.task.cancel()

    # --- One run --------------------------------------------------------------------------------

    async def _follow(self, run_id: str, target: CallbackTarget) -> None:
        asked: dict[str, asyncio.Task[None]] = {}
        try:
            async with aclosing(self._read(run_id)) as events:
                async for unresolved in events:
                    for request_id in asked.keys() - unresolved.keys():
                        asked.pop(request_id).cancel()
                    for request_id, event in unresolved.items():
                        if request_id not in asked:
                            question = _Question.of(event, target)
                            asked[request_id] = asyncio.create_task(
                                self._put(question), name=f"user input question {request_id}"
                            )
        except Exception:
            logger.exception("the questions of run %s reach nobody any more", run_id)
        finally:
            for task in asked.values():
                task.cancel()
            if asked:
                await asyncio.wait(asked.values())
            followed = self._followed.get(run_id)
            if followed is not None and followed.task is asyncio.current_task():
                del self._followed[run_id]

    async def _read(self, run_id: str) -> Any:
        """The questions that wait for an answer, by their ids, whenever that may have changed."""
        unresolved: dict[str, LoggedEvent] = {}
        position = 0
        with self._log.hub.follow(run_id) as wake_up:
            while True:
                page = await self._log.after(run_id, position)
                for event in page:
                    position = event.sequence
                    if event.type == EventType.INPUT_REQUIRED:
                        unresolved[str(event.data.get("request_id"))] = event
                    elif event.type == EventType.INPUT_RESOLVED:
                        unresolved.pop(str(event.data.get("request_id")), None)
                    if event.ends_run:
                        return
                if not page:
                    yield unresolved
                    await wake_up.wait()

    # --- One question ---------------------------------------------------------------------------

    async def _put(self, question: _Question) -> None:
        try:
            await self._ask(question)
        except Exception:
            logger.exception("a question reaches nobody any more", **question.names)

    async def _ask(self, question: _Question) -> None:
        """Ask, and look for the answer, until there is one or nobody is to be asked any more."""
        delays = self._delays()
        misses = 0
        refused: str | None = None
        """The answer that the agent could not use."""
        while True:
            creating = question.id is None
            try:
                reply = await self._send(question)
            except Unanswered as exc:
                logger.warning("a question is tried again: %s", exc, **question.names)
                await self._sleep(next(delays))
                continue
            if reply.status == 409 and creating:
                question.id = question.request_id  # it has arrived before
                continue
            if reply.status == 404 and not creating:
                misses += 1
                question.id = None if misses % MISSING_TIMES == 0 else question.id
                await self._sleep(reply.retry_after_s or next(delays))
                continue
            match reply.means:
                case "later":
                    logger.warning(
                        "a question is tried again: HTTP %d", reply.status, **question.names
                    )
                    await self._sleep(reply.retry_after_s or next(delays))
                    continue
                case "gone" | "refused":
                    self._give_up(question, reply)
                    return
                case "done":
                    delays, misses = self._delays(), 0
            if creating:
                question.created(reply.json())
                continue  # what it was answered with is about the request, not from the user
            given = read_given(question.kind, question.tool_input, reply.json())
            if given is NoAnswer.EXPIRED:
                logger.info("the backend does not ask any more", **question.names)
                return
            if isinstance(given, Given):
                answer = json.dumps(reply.json(), sort_keys=True)
                if answer != refused and await self._accepted(question, given):
                    return
                refused = answer
            await self._sleep(max(self._poll_s, reply.retry_after_s or 0.0))

    async def _send(self, question: _Question) -> Reply:
        base, token = question.target.base_url or "", question.target.token
        headers = {"Idempotency-Key": question.request_id}
        if question.target.trace_id is not None:
            headers["X-Trace-ID"] = question.target.trace_id
        secret = token.get_secret_value() if token is not None else None
        if question.id is None:
            return await self._client.send(
                "POST", base + PATH, token=secret, headers=headers, body=question.body
            )
        url = f"{base}{PATH}/{quote(question.id, safe='')}"
        return await self._client.send("GET", url, token=secret, headers=headers)

    async def _accepted(self, question: _Question, given: Given) -> bool:
        """Give the answer to the agent; whether nothing is left to be asked."""
        run = question.run
        answer = Input(
            task_id=run.task_id,
            subtask_id=run.subtask_id,
            request_id=question.request_id,
            decision=given.decision,
            answers=None if given.answers is None else dict(given.answers),
            message=given.message,
        )
        try:
            ack = await self._answer(answer)
        except ProtocolError as exc:
            logger.warning("this is no answer: %s", exc.message, **question.names)
            return False
        if not ack.success:
            logger.info("the answer came too late: %s", ack.code, **question.names)
        return True

    def _give_up(self, question: _Question, reply: Reply) -> None:
        where = origin_of(question.target.base_url or "")
        message = f"the user cannot be asked: {where} answered HTTP {reply.status}"
        logger.error(message, **question.names)
        self._warn(question.run, message)


@dataclass(slots=True)
class _Question:
    """One question on its way to a user."""

    run: RunRef
    target: CallbackTarget
    request_id: str
    kind: str
    tool_input: Mapping[str, Any] = field(repr=False)
    body: Mapping[str, Any] = field(repr=False)
    id: str | None = None
    """What the backend calls it; ``None``: it has still to be created."""

    @classmethod
    def of(cls, event: LoggedEvent, target: CallbackTarget) -> _Question:
        data = event.data
        body = {
            **data,
            "session_id": event.run.session,
            "run_id": event.run.key[0],
            "created_at": event.event.timestamp,
        }
        request_id, kind = str(data.get("request_id")), str(data.get("kind"))
        return cls(event.run, target, request_id, kind, data.get("tool_input") or {}, body)

    @property
    def names(self) -> dict[str, int | str]:
        """What log lines about it are bound to."""
        run = self.run
        return {
            "task_id": run.task_id,
            "subtask_id": run.subtask_id,
            "request_id": self.request_id,
        }

    def created(self, answer: Any) -> None:
        """Learn its id from what creating it was answered with."""
        for part in (answer, *(answer.values() if isinstance(answer, Mapping) else ())):
            if isinstance(part, Mapping):
                for name in ("id", "request_id", "user_input_request_id", "uuid"):
                    if isinstance(part.get(name), str | int):
                        self.id = str(part[name])
                        return
        self.id = self.request_id
