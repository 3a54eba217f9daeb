"""Questions of agents, put to their users by the backends that have asked for the runs.

They are seen in the log, and so is that they are resolved, whoever has answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from executor.delivery.event_log import EventLog, LoggedEvent
from executor.modes.docker.receiver_client import ReceiverClient, retry_delays
from executor.modes.docker.user_question import POLL_S, Asking, UserQuestion
from shared.logging import get_logger
from shared.protocol.events import EventType, RunRef
from shared.protocol.http import CallbackTarget
from shared.protocol.local import Input, InputAck

logger = get_logger("user_input")


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
            poll_s: See :data:`executor.modes.docker.user_question.POLL_S`.
            delays: How long to wait after each failure in a row, in seconds.
            sleep: Waits for so long.
        """
        self._log = log
        self._asking = Asking(client, answer, warn, poll_s, delays, sleep)
        self._followed: dict[str, _Followed] = {}

    def expect(self, run: RunRef, target: CallbackTarget) -> None:
        """A run was accepted, or asked for again: its questions go to *target* from now on."""
        run_id = run.key[0]
        followed = self._followed.get(run_id)
        if followed is not None and _same(followed.target, target):
            return
        self._stop(run_id)
        if target.base_url is not None:
            task = asyncio.create_task(self._follow(run_id, target), name="user input")
            self._followed[run_id] = _Followed(target, task)

    async def close(self) -> None:
        """Ask nobody any more."""
        tasks = {followed.task for followed in self._followed.values()}
        for run_id in list(self._followed):
            self._stop(run_id)
        if tasks:
            await asyncio.wait(tasks)

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
                            question = UserQuestion(event, target, self._asking)
                            asked[request_id] = asyncio.create_task(
                                question.put(), name=f"user input question {request_id}"
                            )
        except Exception:
            # They can still be answered here; nothing else of the run depends on it.
            logger.exception("the questions of run %s reach nobody any more", run_id)
        finally:
            followed = self._followed.get(run_id)
            if followed is not None and followed.task is asyncio.current_task():
                del self._followed[run_id]  # at once: another attempt may be expected meanwhile
            for task in asked.values():
                task.cancel()
            if asked:
                await asyncio.wait(asked.values())

    async def _read(self, run_id: str) -> AsyncGenerator[Mapping[str, LoggedEvent]]:
        """The questions that wait for an answer, by their ids, whenever that may have changed."""
        unresolved: dict[str, LoggedEvent] = {}
        position = attempt = 0
        with self._log.hub.follow(run_id) as wake_up:
            while True:
                page = await self._log.after(run_id, position)
                for event in page:
                    position = event.sequence
                    if event.run.attempt != attempt:
                        attempt = event.run.attempt
                        unresolved.clear()  # nobody waits for answers to the one before
                    if event.type == EventType.INPUT_REQUIRED:
                        unresolved[str(event.data.get("request_id"))] = event
                    elif event.type == EventType.INPUT_RESOLVED:
                        unresolved.pop(str(event.data.get("request_id")), None)
                    if event.ends_run:
                        return
                if not page:
                    yield unresolved
                    await wake_up.wait()


def _same(one: CallbackTarget, other: CallbackTarget) -> bool:
    """Whether questions go to the same backend; each request has a trace of its own."""
    return (one.base_url, one.token) == (other.base_url, other.token)
