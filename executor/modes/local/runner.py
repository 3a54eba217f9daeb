"""LocalRunner: stays connected to the backend until it is told to stop.

The only owner of reconnection. One connection at a time; each registers, learns what the backend
has, and then carries events, heartbeats and dispatches until it is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

from executor.delivery.outbox import Outbox
from executor.modes.local.handlers import TaskHandler
from executor.modes.local.heartbeat import HeartbeatService
from executor.modes.local.observer import LinkObserver
from executor.modes.local.outage import Delays, OutageLog
from executor.modes.local.registration import Registrar, Registration
from executor.modes.local.websocket_client import Link, WebSocketClient
from executor.tasks.supervisor import Supervisor
from shared.errors import LinkError, LinkLost, LinkRejected
from shared.logging import get_logger
from shared.shielding import finish

logger = get_logger("local_runner")

FLUSH_TIMEOUT_S: Final = 5.0
"""How long a stop waits for the last events to be acknowledged, while connected."""


CANCEL_AGAIN_S: Final = 1.0
"""After so long a task that was cancelled and goes on is cancelled again; all cleanup is bounded,
and goes on through a second cancel."""


class LocalRunner:
    """Runs local mode: one :meth:`run` per process."""

    def __init__(
        self,
        client: WebSocketClient,
        registrar: Registrar,
        supervisor: Supervisor,
        outbox: Outbox,
        handler: TaskHandler,
        heartbeat: HeartbeatService,
        *,
        delays: Delays,
        refused_delay_s: float,
        drain_grace_s: float,
        on_registered: Callable[[frozenset[str]], None] = lambda _features: None,
        observer: LinkObserver | None = None,
    ) -> None:
        """Take the parts; nothing happens before :meth:`run`.

        Args:
            client: Opens connections.
            registrar: Introduces this executor on each of them.
            supervisor: Has the runs.
            outbox: Has what is to be told.
            handler: Gets what the backend asks.
            heartbeat: Beats on each connection.
            delays: Pauses before the attempts of an outage.
            refused_delay_s: Pause after a refusal that comes once the executor has been registered.
            drain_grace_s: How long a stop lets runs go on.
            on_registered: Told the backend's features after every registration; must not wait.
            observer: Is told how the connection stands.
        """
        self._client = client
        self._registrar = registrar
        self._supervisor = supervisor
        self._outbox = outbox
        self._handler = handler
        self._heartbeat = heartbeat
        self._delays = delays
        self._refused_delay_s = refused_delay_s
        self._drain_grace_s = drain_grace_s
        self._on_registered = on_registered
        self._observer = observer or LinkObserver()
        self._link: Link | None = None
        """The connection on which this executor is registered, if it is."""
        self._registrations = 0
        self._ending = False

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until *stop* is set; then let runs finish, deliver, say goodbye and return.

        Cancelling ends every run's processes at once instead; nothing that the backend has not yet
        acknowledged is waited for.

        Raises:
            LinkRejected: The backend refused this executor before it was ever registered.
        """
        logger.info("Starting Local Executor Runner...")
        self._observer.connecting()
        serving = asyncio.create_task(self._serve_forever(), name="link")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            await self._finish()
        finally:
            await finish(self._close(serving, stopping))

    async def _close(self, *tasks: asyncio.Task[Any]) -> None:
        self._ending = True
        await _end(*tasks)
        await self._supervisor.close()
        logger.info("Local Executor Runner has stopped")

    async def _finish(self) -> None:
        """Stop in order: no new runs, the old ones end or are parked, the last word, goodbye."""
        self._observer.stopping()
        if running := self._supervisor.running_task_ids():
            logger.info(
                "stopping: %d running tasks have %g s to finish (a second signal ends them now)",
                len(running),
                self._drain_grace_s,
            )
        await self._supervisor.drain(self._drain_grace_s)
        if self._link is not None:
            await self._deliver(self._link)
        if self._outbox.depth:
            logger.warning(
                "%d events are kept for the next start: not confirmed by the backend",
                self._outbox.depth,
            )
        if self._link is not None:
            with suppress(LinkLost):
                await self._registrar.unregister(self._link, reason="shutdown")

    async def _deliver(self, link: Link) -> None:
        """Wait until everything is acknowledged, unless that takes too long or the link is lost."""
        delivered = asyncio.create_task(self._outbox.wait_empty(), name="flush")
        await link.wait_for(delivered, timeout_s=FLUSH_TIMEOUT_S)
        await _end(delivered)

    async def _serve_forever(self) -> None:
        """Serve one connection after the other until cancelled."""
        log = OutageLog()
        delays = self._delays()
        while True:
            registrations = self._registrations
            try:
                await self._serve_one_link()
            except LinkError as exc:
                # A task group whose tasks are failing swallows a cancel from outside.
                if self._ending:
                    return
                refused = isinstance(exc, LinkRejected)
                if refused and not self._registrations:
                    raise
                was_registered = self._registrations > registrations
                if was_registered:
                    delays = self._delays()
                # While refused there is no connection, so nothing new is accepted; runs go on, and
                # the outbox keeps what they tell.
                delay = self._refused_delay_s if refused else next(delays)
                (log.lost if was_registered else log.failed)(str(exc), delay)
                observer = self._observer
                (observer.lost if was_registered else observer.attempt_failed)(str(exc))
            await asyncio.sleep(delay)

    async def _serve_one_link(self) -> NoReturn:
        """Connect, register, and serve until the connection is lost.

        Raises:
            LinkLost: It could not be made, or was lost.
            LinkRejected: The backend refuses this executor.
        """
        async with self._client.connect(self._handler.handle) as link:
            registration = await self._registrar.register(link)
            self._registrations += 1
            self._handler.registered(base=registration.base)
            self._on_registered(registration.features)
            self._observer.registered(registration.rhythm)
            self._supervisor.connected(redispatches=registration.redispatches)
            self._link = link
            try:
                raise await self._serve(link, registration)
            finally:
                self._link = None
                self._supervisor.disconnected()

    async def _serve(self, link: Link, registration: Registration) -> LinkLost:
        lost = LinkLost("the connection ended")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(link.wait_lost(), name="link.wait_lost")
                group.create_task(
                    self._outbox.pump(link, acks=registration.acks_events), name="outbox"
                )
                group.create_task(self._heartbeat.run(link, registration.rhythm), name="heartbeat")
        except* LinkLost as errors:
            for error in errors.exceptions:
                lost = error if isinstance(error, LinkLost) else lost
        return lost


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for them; what they raise no longer matters to anybody.

    A cancel may be swallowed, by ``asyncio.wait_for`` of Python 3.11 when it is done in the same
    moment, and by a task group whose tasks are failing: it is repeated.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
        await asyncio.gather(*done, return_exceptions=True)  # looked at: asyncio need not complain
