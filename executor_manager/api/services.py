"""What the routes work with; there from the start of the application to its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from executor_manager.store.store import Store
from executor_manager.streams.hub import Hub
from shared.redaction import Redactor
from shared.web.streams import Streams


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the manager that the HTTP API shows."""

    store: Store
    streams: Streams
    hub: Hub
    redactor: Redactor
    """Masks the logs; it has to learn what a request must not show there."""


def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


Injected = Annotated[Services, Depends(_services)]
