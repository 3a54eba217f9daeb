"""The HTTP API of docker mode as one application."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, FastAPI, Security
from fastapi.security import HTTPBearer
from pydantic import SecretStr
from starlette.types import Lifespan

from executor.modes.docker import run_routes, task_routes
from executor.modes.docker.errors import add_handlers
from executor.modes.docker.services import Injected
from executor.modes.docker.views import Health
from executor.modes.docker.walls import LoopbackOnly
from shared.version import __version__
from shared.web.errors import ErrorBody
from shared.web.gate import BodyLimit, RequestBoundary, TokenGate

OPEN_PATHS: Final = frozenset({"/health"})
"""What answers everybody."""

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
"""The largest body of a request: as large as the message that brings a task in local mode."""

_health = APIRouter(tags=["health"])


@_health.get("/health")
async def get_health(services: Injected) -> Health:
    """That the executor works, and whether it has room; needs no token."""
    return services.health()


def create_app(token: SecretStr | None, lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """The application; its ``state.services`` have to be there before the first request.

    Args:
        token: What callers have to show; ``None``: they have to be on this machine.
        lifespan: Makes the services, where no caller does.
    """
    bearer = HTTPBearer(auto_error=False, description="EXECUTOR_API_TOKEN of the executor")
    app = FastAPI(
        title="Executor",
        version=__version__,
        description="Runs coding agents: takes tasks, and tells what happens.",
        redirect_slashes=False,
        redoc_url=None,
        lifespan=lifespan,
        # The walls below decide; this only tells readers of the description.
        dependencies=[Security(bearer)],
        responses={"default": {"model": ErrorBody, "description": "What went wrong"}},
    )
    add_handlers(app)
    for router in (task_routes.router, run_routes.router, _health):
        app.include_router(router)
    # The last one added is the first to see a request.
    app.add_middleware(BodyLimit, limit=MAX_BODY_BYTES)
    if token is None:
        app.add_middleware(LoopbackOnly, open_paths=OPEN_PATHS)
    else:
        app.add_middleware(
            TokenGate,
            token=token,
            open_paths=OPEN_PATHS,
            realm="wegent-executor",
            where="it is the executor's EXECUTOR_API_TOKEN",
        )
    app.add_middleware(RequestBoundary, program="executor")
    return app
