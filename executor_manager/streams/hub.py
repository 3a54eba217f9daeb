"""What wakes the parts of this process: changes of runs, and of the queue."""

from __future__ import annotations

from shared.web import hub
from shared.web.hub import WakeUp


class Hub(hub.Hub):
    """Passes the store's changes on to those who follow them."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = WakeUp()
        """There may be something to claim or to tell a node."""

    def queue_changed(self) -> None:
        """Wake the dispatcher."""
        self.queue.set()
