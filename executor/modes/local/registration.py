"""Registrar: introduces this executor on a new connection, and takes leave at the end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from executor.delivery.outbox import Outbox
from executor.modes.local.backend_url import BackendUrl
from executor.modes.local.heartbeat import Rhythm
from executor.modes.local.websocket_client import Link
from executor.tasks.supervisor import Supervisor
from shared.errors import LinkLost, LinkRejected, ProtocolError
from shared.logging import get_logger
from shared.protocol.events import utc_timestamp
from shared.protocol.local import (
    Feature,
    LocalEvent,
    Register,
    RegisterAck,
    Unregister,
    read,
    to_wire,
)

logger = get_logger("local_runner")

REGISTER_TIMEOUT_S: Final = 10.0
"""How long the backend may take to acknowledge. Source: Delivery 7."""

UNREGISTER_TIMEOUT_S: Final = 0.2
"""A goodbye is a courtesy: an idle stop takes less than half a second in all."""


class Memory(Protocol):
    """What backends offered before, kept in the home."""

    def features(self, url: str) -> frozenset[str] | None:
        """The features that the backend offered last; ``None`` when it never did."""
        ...

    def remember(self, url: str, features: frozenset[str]) -> None:
        """Keep what it offers."""
        ...


@dataclass(frozen=True, slots=True)
class Registration:
    """What holds for one registered connection."""

    features: frozenset[str]
    rhythm: Rhythm

    @property
    def base(self) -> bool:
        """Whether this backend knows the base protocol only."""
        return not self.features

    @property
    def acks_events(self) -> bool:
        """Whether it acknowledges events by ``seq``."""
        return Feature.SEQ_ACK in self.features

    @property
    def redispatches(self) -> bool:
        """Whether it sends runs again that a restart has interrupted."""
        return Feature.REDISPATCH in self.features


class Registrar:
    """Registers and unregisters one executor at one backend."""

    def __init__(
        self,
        backend: str,
        hello: Register,
        supervisor: Supervisor,
        outbox: Outbox,
        memory: Memory,
        *,
        heartbeat: Rhythm,
        timeout_s: float = REGISTER_TIMEOUT_S,
    ) -> None:
        """Keep what a registration tells.

        Args:
            backend: The backend's URL, under which its features are remembered.
            hello: Who this executor is; runs and time are filled in at each registration.
            supervisor: Knows the runs.
            outbox: Learns what the backend has of them.
            memory: Remembers what the backend offers.
            heartbeat: For a backend that grants no rhythm of its own.
            timeout_s: How long to wait for an acknowledgement.
        """
        self._backend = str(BackendUrl.parse(backend))  # without credentials: it is logged and kept
        self._hello = hello
        self._supervisor = supervisor
        self._outbox = outbox
        self._memory = memory
        self._heartbeat = heartbeat
        self._timeout_s = timeout_s

    async def register(self, link: Link) -> Registration:
        """Tell who is here and which runs there are; learn what the backend has and can do.

        What the backend says of the runs takes effect before any message that it sent after.

        Raises:
            LinkRejected: It does not let this executor in.
            LinkLost: It did not register it; trying again may succeed.
        """
        runs = self._supervisor.reports()
        hello = self._hello.model_copy(update={"timestamp": utc_timestamp(), "runs": runs})
        known = self._memory.features(self._backend)
        try:
            ack = await link.call(
                LocalEvent.REGISTER, to_wire(hello), timeout_s=self._timeout_s, read=self._take
            )
        except TimeoutError as exc:
            if known:
                raise LinkLost(f"the backend did not answer: {exc}") from None
            ack = RegisterAck()
        registration = self._registration(ack)
        if registration.features and registration.features != known:
            await asyncio.to_thread(self._memory.remember, self._backend, registration.features)
        logger.info(
            "registered at %s as %s; agents: %s; backend: %s",
            self._backend,
            hello.executor_id,
            ", ".join(hello.capabilities) or "none",
            ", ".join(sorted(registration.features)) or "base protocol",
        )
        return registration

    async def unregister(self, link: Link, *, reason: str) -> None:
        """Say goodbye, with what is left unfinished; waits only briefly for an answer.

        Raises:
            LinkLost: The connection is gone.
        """
        goodbye = Unregister(
            executor_id=self._hello.executor_id,
            reason=reason,
            timestamp=utc_timestamp(),
            runs=self._supervisor.reports(),
        )
        with suppress(TimeoutError):
            await link.call(
                LocalEvent.UNREGISTER,
                to_wire(goodbye),
                timeout_s=UNREGISTER_TIMEOUT_S,
                read=lambda _: None,
            )

    def _take(self, raw: object) -> RegisterAck:
        """Read the answer, and apply what it says of the runs at once."""
        if not isinstance(raw, dict):
            return RegisterAck()
        try:
            # What a base backend answers has no shape to rely on, but for its failures.
            known = raw if "features" in raw or raw.get("success") is False else {}
            ack = read(RegisterAck, known)
        except ProtocolError as exc:
            raise LinkLost(f"the backend's answer to the registration is unusable: {exc}") from None
        if not ack.success:
            reason = (ack.error or ack.code or "no reason given")[:200]
            if ack.code == LinkRejected.code:
                raise LinkRejected(
                    f"the backend refused to register this executor: {reason}",
                    hint="check WEGENT_AUTH_TOKEN",
                )
            raise LinkLost(f"the backend did not register this executor: {reason}")
        self._outbox.register_standing(ack.acked)
        return ack

    def _registration(self, ack: RegisterAck) -> Registration:
        features = frozenset(ack.features)
        interval_s = ack.heartbeat_interval or self._heartbeat.interval_s
        timeout_s = ack.heartbeat_timeout or self._heartbeat.timeout_s
        return Registration(features, Rhythm(interval_s, timeout_s if features else None))
