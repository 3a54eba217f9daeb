"""Who wants to know how the connection to the backend stands."""

from __future__ import annotations

from executor.modes.local.heartbeat import Rhythm


class LinkObserver:
    """Is told what happens, as it happens; this one does not care.

    No method may wait or raise.
    """

    def connecting(self) -> None:
        """The executor is set up; the first attempt to connect follows."""

    def registered(self, rhythm: Rhythm) -> None:
        """The backend has taken this executor in and is to hear heartbeats in *rhythm*."""

    def heartbeat_heard(self) -> None:
        """The backend has answered a heartbeat.

        Of one that answers none: it was sent on a connection that the transport's ping vouches for.
        """

    def lost(self, cause: str) -> None:
        """The connection on which the executor was registered is gone."""

    def attempt_failed(self, cause: str) -> None:
        """An attempt to connect and to register was made, and has failed."""

    def stopping(self) -> None:
        """The executor was told to stop; runs may still finish."""


class Observers(LinkObserver):
    """Several of them, told one after the other."""

    def __init__(self, *observers: LinkObserver) -> None:
        self._observers = observers

    def connecting(self) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.connecting()

    def registered(self, rhythm: Rhythm) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.registered(rhythm)

    def heartbeat_heard(self) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.heartbeat_heard()

    def lost(self, cause: str) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.lost(cause)

    def attempt_failed(self, cause: str) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.attempt_failed(cause)

    def stopping(self) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.stopping()
