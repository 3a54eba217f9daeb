"""The service manager that started this process (systemd): told how things stand, kept content.

The protocol of sd_notify(3): datagrams to the socket that ``NOTIFY_SOCKET`` names. When its
watchdog is on, the service manager restarts a program that does not say ``WATCHDOG=1`` often
enough. Here only contact with the backend says it, never a timer: ``docs/adr/0014``.
"""

from __future__ import annotations

import faulthandler
import os
import socket
from collections.abc import MutableMapping
from typing import Final, Self

from executor.modes.local.heartbeat import Rhythm
from executor.modes.local.observer import LinkObserver
from shared.logging import get_logger

logger = get_logger("service")

VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""What a service manager sets. Of no use to any other process, which could only disturb."""

MARGIN_S: Final = 90.0
"""Beyond the longest silence of a sound executor: an attempt to connect and to register takes 20 s
at most, a base backend's connection is dead after 45 s without a ping, the machine may be slow."""

_MICROSECONDS: Final = 1_000_000


class ServiceManager(LinkObserver):
    """Tells the service manager what it observes; without one, nothing happens.

    Messages are sent without waiting. One that cannot be sent is lost, with a line in the log.
    """

    def __init__(
        self,
        address: str | None,
        *,
        watchdog_us: int | None,
        backend: str,
        heartbeat_timeout_s: float,
        longest_pause_s: float,
        stop_within_s: float,
    ) -> None:
        """Take what is known before the first connection.

        Args:
            address: Where messages go, as in ``NOTIFY_SOCKET``; ``None``: nowhere.
            watchdog_us: How long the service manager bears silence; ``None``: for ever.
            backend: The backend's address, without credentials; it is shown to people.
            heartbeat_timeout_s: How long heartbeats go unanswered on a connection until it is given
                up, unless the backend says otherwise.
            longest_pause_s: The longest pause between two attempts to connect.
            stop_within_s: How long a stop may take.
        """
        self._address = address
        self._watchdog_us = watchdog_us
        self._backend = backend
        self._heartbeat_timeout_s = heartbeat_timeout_s
        self._longest_pause_s = longest_pause_s
        self._stop_within_s = stop_within_s
        self._socket: socket.socket | None = None

    @classmethod
    def of_this_process(
        cls,
        environ: MutableMapping[str, str],
        *,
        backend: str,
        heartbeat_timeout_s: float,
        longest_pause_s: float,
        stop_within_s: float,
    ) -> Self:
        """The one that *environ* names; its variables are taken out of *environ*.

        So no child of this process can speak in its name, whatever it inherits.
        """
        address, watchdog_us, watched = (environ.pop(name, "") for name in VARIABLES)
        # A one-file program is the child of the process that has unpacked it, and that is watched.
        ours = watched in {"", str(os.getpid()), str(os.getppid())}
        if ours and watchdog_us and not faulthandler.is_enabled():
            # The watchdog kills by SIGABRT: the journal then has where each thread was.
            faulthandler.enable()
        if not hasattr(socket, "AF_UNIX"):  # Windows: nobody there speaks this
            address = ""
        return cls(
            address or None,
            watchdog_us=int(watchdog_us) if ours and watchdog_us.isdecimal() else None,
            backend=backend,
            heartbeat_timeout_s=heartbeat_timeout_s,
            longest_pause_s=longest_pause_s,
            stop_within_s=stop_within_s,
        )

    def connecting(self) -> None:
        """Started: a backend that is down is no failure of ours, so none is waited for."""
        self._bear_silence_of(self._heartbeat_timeout_s)
        self._tell("READY=1", f"STATUS=connecting to {self._backend}")

    def registered(self, rhythm: Rhythm) -> None:
        """Contact; the backend's own rhythm may need more patience."""
        self._bear_silence_of(rhythm.timeout_s or rhythm.interval_s)
        self._tell(f"STATUS=connected to {self._backend}", *self._alive)

    def heartbeat_heard(self) -> None:
        """Contact."""
        self._tell(*self._alive)

    def lost(self, cause: str) -> None:
        """No contact: the next attempt to connect is."""
        self._tell(f"STATUS=not connected: {cause}")

    def attempt_failed(self, cause: str) -> None:
        """An attempt that has really been made is a sign of life, too."""
        self._tell(f"STATUS=not connected: {cause}", *self._alive)

    def stopping(self) -> None:
        """Runs may take their time; the settings may say more of it than the unit does."""
        self._tell(
            "STOPPING=1",
            f"EXTEND_TIMEOUT_USEC={round(self._stop_within_s * _MICROSECONDS)}",
            "STATUS=stopping; runs may finish first",
        )

    def close(self) -> None:
        """Send nothing more."""
        self._address = None
        if self._socket is not None:
            self._socket.close()

    @property
    def _alive(self) -> tuple[str, ...]:
        return () if self._watchdog_us is None else ("WATCHDOG=1",)

    def _bear_silence_of(self, unanswered_s: float) -> None:
        """Have the watchdog wait longer if a sound executor may be silent for longer."""
        longest_us = round((unanswered_s + self._longest_pause_s + MARGIN_S) * _MICROSECONDS)
        if self._watchdog_us is not None and longest_us > self._watchdog_us:
            self._watchdog_us = longest_us
            self._tell(f"WATCHDOG_USEC={longest_us}")

    def _tell(self, *lines: str) -> None:
        if self._address is None or not lines:
            return
        message = "\n".join(" ".join(line.split()) for line in lines)
        # A leading @ stands for the zero byte of a name that is no file.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            self._socket.sendto(message.encode(errors="replace"), address)
        except OSError as exc:
            logger.warning("the service manager was not told %s: %s", lines[0], exc)
