"""Callbacks: where each run is told, and that it is told there, also after a restart.

Each run has a task of its own, so that one receiver that is away delays nobody else's. Its place in
the log is written down; the log keeps what is still to be told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from pydantic import SecretStr

from executor.delivery.callback_book import CallbackBook, CallbackState
from executor.delivery.event_log import EventLog
from executor.delivery.state import StateStore
from executor.modes.docker.callback_delivery import CallbackDelivery, Post
from executor.modes.docker.receiver_client import ReceiverClient, retry_delays
from shared.logging import get_logger
from shared.protocol.events import RunKey, RunRef
from shared.protocol.http import CallbackTarget
from shared.redaction import Redactor, RunRedactor

logger = get_logger("callbacks")


@dataclass(frozen=True, slots=True)
class CallbackStanding:
    """How a run's callbacks stand."""

    state: CallbackState
    acked: int
    """The sequence of the last event whose callback was acknowledged; 0: none was."""
    error: str | None
    """What stood in the way last; ``None``: nothing."""


@dataclass(slots=True)
class _Running:
    target: CallbackTarget
    delivery: CallbackDelivery
    task: asyncio.Task[None]
    secrets: RunRedactor
    """Keeps the token out of the logs."""


class Callbacks:
    """The callbacks of all runs. One event loop; :meth:`close` ends it."""

    def __init__(
        self,
        log: EventLog,
        store: StateStore,
        client: ReceiverClient,
        redactor: Redactor,
        *,
        warn: Callable[[RunRef, str], None],
        delays: Callable[[], Iterator[float]] = retry_delays,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Send nothing before :meth:`resume`.

        Args:
            log: What is told.
            store: Where it is written down how far that has come.
            client: Sends; it is the caller's to close, after :meth:`close`.
            redactor: Learns the tokens, for the logs.
            warn: Puts a warning among the events of a run that goes on.
            delays: How long to wait before each further try of a callback, in seconds.
            sleep: Waits for so long.
        """
        self._book = CallbackBook(store)
        self._post = Post(log, self._book, client, warn, store.now, delays, sleep)
        self._redactor = redactor
        self._running: dict[str, _Running] = {}
        self._changed = asyncio.Event()

    async def resume(self) -> None:
        """Go on with what earlier processes have left; before any run is taken."""
        for record in await self._book.unsettled():
            token = SecretStr(record.token) if record.token is not None else None
            target = CallbackTarget(record.url, token, trace_id=record.trace_id)
            self._start(record.run_id, target)

    async def expect(self, run: RunRef, target: CallbackTarget) -> None:
        """A run was accepted, or asked for again: it is told to *target* from now on.

        Takes effect at once; returns when it is safe on the disk. Callbacks that a receiver has
        refused are tried again. Whoever asks for a run again and again interrupts nothing.
        """
        run_id = run.key[0]
        token = target.token.get_secret_value() if target.token is not None else None
        running = self._running.get(run_id)
        if running is None or running.delivery.parked or not _same(running.target, target):
            written = self._book.expect(run_id, target.url, token, target.trace_id)
            self._stop(run_id)
            self._start(run_id, target)
            await written

    async def standing(self, run_id: str) -> CallbackStanding | None:
        """How a run's callbacks stand; ``None``: it has none."""
        record = await self._book.read(run_id)
        return (
            None if record is None else CallbackStanding(record.state, record.acked, record.error)
        )

    async def wait_settled(self, key: RunKey) -> None:
        """Wait until nothing is left to send of a run that ends or has ended."""
        running = self._running.get(key[0])
        if running is not None:
            await asyncio.wait({running.task})

    async def close(self, grace_s: float) -> None:
        """Send for at most so many seconds what receivers take, and stop.

        What is left, the next process sends.
        """
        try:
            async with asyncio.timeout(grace_s):
                while any(running.delivery.busy for running in self._running.values()):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        tasks = {running.task for running in self._running.values()}
        for run_id in list(self._running):
            self._stop(run_id)
        if tasks:
            await asyncio.wait(tasks)

    def _start(self, run_id: str, target: CallbackTarget) -> None:
        delivery = CallbackDelivery(run_id, self._post, on_change=self._changed.set)
        task = asyncio.create_task(self._deliver(run_id, delivery), name=f"callbacks of {run_id}")
        secrets = [target.token.get_secret_value()] if target.token is not None else []
        self._running[run_id] = _Running(target, delivery, task, self._redactor.open_run(secrets))

    def _stop(self, run_id: str) -> None:
        running = self._running.pop(run_id, None)
        if running is not None:
            running.task.cancel()
            running.secrets.close()

    async def _deliver(self, run_id: str, delivery: CallbackDelivery) -> None:
        try:
            await delivery.run()
        except Exception:
            # What is left, the next process sends.
            logger.exception("callbacks of run %s have stopped", run_id)
        running = self._running.get(run_id)
        if running is not None and running.delivery is delivery:
            del self._running[run_id]
            running.secrets.close()
        self._changed.set()


def _same(one: CallbackTarget, other: CallbackTarget) -> bool:
    """Whether callbacks go to the same receiver; each request has a trace of its own."""
    return (one.url, one.token) == (other.url, other.token)
