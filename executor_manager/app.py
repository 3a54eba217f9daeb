"""The manager as one application: HTTP API and Socket.IO on one port, over one store.

The composition root: the only file that knows all parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import socketio
from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer
from pydantic import SecretStr
from starlette.types import ASGIApp

from executor_manager.api import health, nodes, sessions, tasks
from executor_manager.api.errors import STATUS_OF_CODE
from executor_manager.api.services import Services
from executor_manager.config import ManagerSettings
from executor_manager.nodes.connections import Connections
from executor_manager.nodes.messages import Messages
from executor_manager.nodes.namespace import LocalExecutorNamespace
from executor_manager.scheduler.dispatcher import CALL_TIMEOUT_S, POLL_S, Dispatcher
from executor_manager.scheduler.leases import expire_forever
from executor_manager.store.store import Store
from executor_manager.streams.hub import Hub
from executor_manager.tokens import Tokens
from shared.protocol import wire_json
from shared.protocol.local import MAX_MESSAGE_BYTES, SOCKETIO_PATH
from shared.redaction import Redactor
from shared.version import __version__
from shared.web.errors import ErrorBody, add_error_handlers
from shared.web.gate import BodyLimit, RequestBoundary, TokenGate
from shared.web.streams import KEEPALIVE_SECONDS, Streams

OPEN_PATHS: Final = frozenset({"/api/v1/health"})
"""What answers without a token."""

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
"""The largest body of an HTTP request: as large as the message that carries it on."""


@dataclass(frozen=True, slots=True)
class Manager:
    """An open manager.

    Attributes:
        asgi: Serves both doors, without lifespan events.
        api: The HTTP part of ``asgi``.
        store: What it knows.
        streams: Whoever serves ``asgi`` closes them before waiting for open connections.
    """

    asgi: ASGIApp
    api: FastAPI
    store: Store
    streams: Streams


@asynccontextmanager
async def open_manager(
    settings: ManagerSettings,
    tokens: Tokens,
    redactor: Redactor,
    *,
    keepalive_seconds: float = KEEPALIVE_SECONDS,
    call_timeout_s: float = CALL_TIMEOUT_S,
    poll_s: float = POLL_S,
) -> AsyncIterator[Manager]:
    """Open the store and run the loops for as long as the context lasts.

    A loop that ends by an error cancels the body of the context and leaves it in an
    ``ExceptionGroup``: a manager that has silently stopped to dispatch would look alive.

    Args:
        redactor: Learns the secrets that requests bring, for the logs.
        keepalive_seconds: After this long without traffic a stream gets a comment.
        call_timeout_s: How long an executor may take to answer a dispatch, a cancel or an input.
        poll_s: How long the dispatcher sleeps when nothing wakes it.
    """
    hub = Hub()
    async with Store.open(
        settings.store_url,
        tokens.encryption_key,
        hub,
        lease_seconds=settings.heartbeat_timeout,
        lost_after_seconds=settings.lost_after_seconds,
    ) as store:
        streams = Streams(hub, keepalive_seconds=keepalive_seconds)
        api = create_api(Services(store, streams, hub, redactor), tokens.api)
        connections = Connections()
        executors = LocalExecutorNamespace(
            token=tokens.executor.get_secret_value(),
            connections=connections,
            messages=Messages(
                store,
                connections,
                heartbeat_interval_s=settings.heartbeat_interval,
                heartbeat_timeout_s=settings.heartbeat_timeout,
            ),
            hub=hub,
        )
        sio = socketio.AsyncServer(
            async_mode="asgi",
            transports=["websocket"],
            max_http_buffer_size=MAX_MESSAGE_BYTES,
            json=wire_json,
        )
        sio.register_namespace(executors)
        asgi = socketio.ASGIApp(sio, other_asgi_app=api, socketio_path=SOCKETIO_PATH)
        try:
            async with asyncio.TaskGroup() as group:
                dispatcher = Dispatcher(
                    store,
                    executors,
                    hub.queue,
                    redactor,
                    call_timeout_s=call_timeout_s,
                    poll_s=poll_s,
                )
                loops = [
                    group.create_task(dispatcher.run(), name="dispatcher"),
                    group.create_task(
                        expire_forever(
                            store.leases,
                            # An executor may wait for 30 s before it tries to connect again.
                            grace_s=settings.heartbeat_timeout + settings.heartbeat_interval,
                        ),
                        name="lease watch",
                    ),
                ]
                yield Manager(asgi, api, store, streams)
                for loop in loops:
                    loop.cancel()
        finally:
            await sio.shutdown()


def create_api(services: Services, token: SecretStr) -> FastAPI:
    """The HTTP API; every address but the health check asks for *token*."""
    bearer = HTTPBearer(
        auto_error=False, description="the API token; the manager shows where it is kept"
    )
    api = FastAPI(
        title="Executor manager",
        version=__version__,
        description="Takes tasks, gives them to executors, and tells what happens.",
        redirect_slashes=False,
        redoc_url=None,
        # The gate below decides; this only tells readers of the description.
        dependencies=[Security(bearer)],
        responses={"default": {"model": ErrorBody, "description": "What went wrong"}},
    )
    api.state.services = services
    add_error_handlers(api, STATUS_OF_CODE)
    for part in (tasks, sessions, nodes, health):
        api.include_router(part.router)
    # The last one added is the first to see a request.
    api.add_middleware(BodyLimit, limit=MAX_BODY_BYTES)
    api.add_middleware(
        TokenGate,
        token=token,
        open_paths=OPEN_PATHS,
        realm="wegent-executor-manager",
        where="the manager shows at its start where the token is kept",
    )
    api.add_middleware(RequestBoundary, program="manager")
    return api
