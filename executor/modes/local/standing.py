"""How the connection to the backend stands right now, for whoever asks."""

from __future__ import annotations

from typing import Literal

from executor.modes.local.heartbeat import Rhythm
from executor.modes.local.observer import LinkObserver
from shared.protocol.events import utc_timestamp


class LinkStanding(LinkObserver):
    """Remembers the last of what it is told.

    Attributes:
        state: Whether the executor is registered.
        since: Since when, as UTC; of ``connecting``: since the start, or the loss of a connection.
        last_error: Why it is not registered; ``None`` while it is, and before anything failed.
        address: ``None``: it listens nowhere.
        last_heartbeat: When the backend last acknowledged one, as UTC; ``None``: never, and a base
            backend never does.
    """

    def __init__(self) -> None:
        self.state: Literal["connecting", "registered"] = "connecting"
        self.since = utc_timestamp()
        self.last_error: str | None = None
        self.last_heartbeat: str | None = None
        self.address: str | None = None
        self._acknowledges = False

    def registered(self, rhythm: Rhythm) -> None:
        """Whether heartbeats are acknowledged depends on the backend."""
        self.state, self.since, self.last_error = "registered", utc_timestamp(), None
        self._acknowledges = rhythm.timeout_s is not None

    def heartbeat_heard(self) -> None:
        """Counts if it was acknowledged."""
        if self._acknowledges:
            self.last_heartbeat = utc_timestamp()

    def lost(self, cause: str) -> None:
        """From now on it tries to connect again."""
        self.state, self.since, self.last_error = "connecting", utc_timestamp(), cause

    def attempt_failed(self, cause: str) -> None:
        """It still tries."""
        self.last_error = cause
