"""What the routes work with; there from the start of the application to its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from executor.modes.docker.runs import Runs
from executor.modes.docker.sessions import Sessions
from executor.modes.docker.views import Health
from shared.protocol.http import CallbackTarget
from shared.web.streams import Streams


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of docker mode that its HTTP API shows."""

    runs: Runs
    sessions: Sessions
    streams: Streams
    """Whoever serves them closes them before waiting for open connections."""
    callback: CallbackTarget | None
    """Where runs are told of whose requests name no address."""
    health: Callable[[], Health]


def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


Injected = Annotated[Services, Depends(_services)]
