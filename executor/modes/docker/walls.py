"""What protects a service without a token: only programs of this machine are answered."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.web.errors import error_response

_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class LoopbackOnly:
    """Answers nobody but programs of this machine, and no web page that a browser here shows.

    A page of somebody else can have a browser send requests here. Those carry its origin, or, when
    its name was made to point here, a host that is not this machine's.

    Args:
        open_paths: What answers everybody.
    """

    def __init__(self, app: ASGIApp, *, open_paths: Collection[str]) -> None:
        self._app = app
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in self._open_paths or _is_local(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            answer = error_response(
                403,
                "forbidden",
                "without a token this executor serves programs of its own machine only",
                "set EXECUTOR_API_TOKEN for the executor, and send it as bearer",
            )
            await answer(scope, receive, send)


def _is_local(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    host = headers.get("Host", "")
    origin = headers.get("Origin")
    return (
        _is_loopback(scope.get("client"))
        and _hostname(host) in _LOCAL_NAMES
        and (origin is None or origin == f"{scope['scheme']}://{host}")
    )


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # a bracket too many, or too few
        return None


def _is_loopback(client: tuple[str, int] | None) -> bool:
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
