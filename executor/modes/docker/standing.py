"""How docker mode can be reached, for whoever asks on this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from shared.protocol.events import utc_timestamp


@dataclass(slots=True)
class ServerStanding:
    """There from when runs can be taken; see :class:`executor.control.desk.Standing`."""

    address: str | None = None
    """Set when the server listens; it stays ``None`` when the server is somebody else's."""
    since: str = field(default_factory=utc_timestamp)
    state: Final[Literal["serving"]] = "serving"
    last_error: Final[None] = None
    last_heartbeat: Final[None] = None
