"""Why an update is refused, or was taken back."""

from __future__ import annotations

from shared.errors import WegentError


class UpdateError(WegentError):
    """The program was not exchanged, or has been put back; the message says which."""

    code = "update_failed"


class TasksRunning(UpdateError):
    """Tasks are running, and nobody has said that they may be interrupted."""

    code = "tasks_running"
