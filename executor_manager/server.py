"""uvicorn as the manager needs it."""

from __future__ import annotations

from executor_manager.app import Manager
from shared.protocol.local import MAX_MESSAGE_BYTES
from shared.web.server import Server


class ManagerServer(Server):
    """Serves a manager until :meth:`stop`."""

    def __init__(self, manager: Manager) -> None:
        super().__init__(
            manager.asgi,
            manager.streams,
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_ping_interval=None,  # Engine.IO has pings of its own
            ws_per_message_deflate=False,  # many small messages: costs more than it saves
        )
