"""Telling one run by callbacks: one after the other, each until it is acknowledged."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from executor.delivery.callback_book import CallbackBook, CallbackRecord, CallbackState
from executor.delivery.event_log import EventLog, LoggedEvent
from executor.hooks.callback import RunCallbacks
from executor.modes.docker.receiver_client import (
    ReceiverClient,
    Reply,
    Unanswered,
    origin_of,
)
from shared.logging import get_logger
from shared.protocol.events import EventType, RunRef

logger = get_logger("callbacks")

KEPT_FOR_S: Final = 24 * 3600.0
"""How long after its event a callback is tried, by the executor's own clock. Source: seed 000's
callbacks in the design."""


@dataclass(frozen=True, slots=True)
class Post:
    """With what callbacks are sent; the same for all runs."""

    log: EventLog
    book: CallbackBook
    client: ReceiverClient
    warn: Callable[[RunRef, str], None]
    """Puts a warning among the events of a run that goes on."""
    now: Callable[[], float]
    """Seconds by the clock of the log."""
    delays: Callable[[], Iterator[float]]
    """How long to wait before each further try."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class CallbackDelivery:
    """The callbacks of one run that are still to be sent."""

    def __init__(self, run_id: str, post: Post, *, on_change: Callable[[], None]) -> None:
        """Send nothing before :meth:`run`.

        Args:
            run_id: Whose they are.
            post: With what they are sent.
            on_change: Called when one more event is dealt with, or cannot be now.
        """
        self._run_id = run_id
        self._post = post
        self._on_change = on_change
        self._handled = 0
        """The sequence up to which all events are dealt with."""
        self._failing = False
        self._state: CallbackState = "active"
        self._error: str | None = None
        """What stood in the way last."""
        self._unwanted = False
        """The receiver wants nothing more."""

    @property
    def busy(self) -> bool:
        """Whether there is something to send that the receiver will presumably take now."""
        return not self._failing and self._handled < self._post.log.last_sequence(self._run_id)

    @property
    def parked(self) -> bool:
        """Whether the receiver has refused a callback."""
        return self._state == "parked"

    async def run(self) -> None:
        """Send them all, up to the verdict's. What is on the disk then says how that went."""
        log, book = self._post.log, self._post.book
        with log.hub.follow(self._run_id) as wake_up:
            await wake_up.wait()
            record = await book.read(self._run_id)
            if record is None or record.settled:
                return
            self._state, self._error = record.state, record.error
            callbacks = RunCallbacks()
            while True:
                page = await log.after(self._run_id, self._handled)
                for event in page:
                    if event.type == EventType.TRUNCATED and event.sequence > record.acked:
                        logger.warning(
                            "events %s to %d are gone: callbacks for them are not sent",
                            event.data.get("covers_from"),
                            event.sequence,
                            **_names(event),
                        )
                    body = callbacks.take(event.run, event.sequence, event.event)
                    if body is not None and event.sequence > record.acked:
                        await self._tell(record, event, body)
                    over = self._unwanted or event.ends_run
                    if over:
                        book.settle(self._run_id, self._state, self._error)
                    self._handled = event.sequence
                    self._on_change()
                    if over:
                        return
                if not page:
                    await wake_up.wait()

    async def _tell(self, record: CallbackRecord, event: LoggedEvent, body: dict[str, Any]) -> None:
        """Send one callback until it is acknowledged, or will never be."""
        delays = self._post.delays()
        while self._state == "active" or event.ends_run:
            if self._post.now() - event.created_at >= KEPT_FOR_S:
                self._error = self._error or "nobody has taken it for 24 hours"
                logger.error(
                    "callback %d is given up: %s", event.sequence, self._error, **_names(event)
                )
                break
            try:
                reply = await self._send(record, event, body)
            except Unanswered as exc:
                await self._wait(event, str(exc), next(delays))
                continue
            answer = f"{origin_of(record.url)} answered HTTP {reply.status}"
            match reply.means:
                case "done":
                    self._acknowledged(event)
                    break
                case "gone":
                    logger.info("no more callbacks: %s", answer, **_names(event))
                    self._unwanted, self._state, self._error = True, "ended", answer
                    break
                case "refused":
                    self._park(event, answer)
                    return
                case "later":
                    await self._wait(event, answer, reply.retry_after_s or next(delays))
        if event.ends_run:
            self._state = "ended"

    async def _send(self, record: CallbackRecord, event: LoggedEvent, body: Any) -> Reply:
        # The same for every try, so that a repeat can be seen in logs.
        name = f"{self._run_id}/{event.sequence}"
        headers = {"X-Request-ID": str(uuid.uuid5(uuid.NAMESPACE_URL, name))}
        if record.trace_id is not None:
            headers["X-Trace-ID"] = record.trace_id
        return await self._post.client.send(
            "POST", record.url, token=record.token, headers=headers, body=body
        )

    async def _wait(self, event: LoggedEvent, error: str, delay_s: float) -> None:
        if not self._failing:
            logger.warning("callback %d is tried again: %s", event.sequence, error, **_names(event))
            self._failing = True
            self._on_change()
        if self._error != error:
            self._stands(self._state, error)
        await self._post.sleep(delay_s)

    def _acknowledged(self, event: LoggedEvent) -> None:
        self._post.book.acknowledged(self._run_id, event.sequence)
        if self._failing:
            logger.info("callbacks arrive again", **_names(event))
            self._failing = False
        if self._state == "active" and self._error is not None:
            self._stands("active", None)

    def _park(self, event: LoggedEvent, error: str) -> None:
        logger.error("callback %d was refused: %s", event.sequence, error, **_names(event))
        self._failing = False
        self._stands("parked", error)
        if not event.ends_run:
            self._post.warn(
                event.run,
                f"a callback of this task was refused ({error}); only its end will be told",
            )

    def _stands(self, state: CallbackState, error: str | None) -> None:
        self._state, self._error = state, error
        self._post.book.stands(self._run_id, state, error)


def _names(event: LoggedEvent) -> dict[str, int | str]:
    return {"task_id": event.run.task_id, "subtask_id": event.run.subtask_id}
