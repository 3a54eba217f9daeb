"""What every HTTP request passes before a route sees it: its names, the token, a size limit.

Closed by default: whatever is added to the application later needs the token too.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import re
import time
import uuid
from collections.abc import Collection
from typing import Final

from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars, get_contextvars

from shared.web.errors import error_response

REQUEST_ID_HEADER: Final = "X-Request-ID"
TRACE_ID_HEADER: Final = "X-Trace-ID"
_PLAIN_WORD: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")

logger = logging.getLogger(__name__)


class RequestBoundary:
    """Names each request, logs how it ended, and turns what nobody expected into a plain 500.

    The request's id is the caller's ``X-Request-ID`` when that is a plain word, otherwise a new
    one, and so is ``X-Trace-ID``, which several requests share. The answer and every line of the
    log carry both; routes find them by :func:`trace_id`. Query strings and headers are never
    logged.

    Args:
        program: What is at fault when something unexpected happens, e.g. ``manager``.
    """

    def __init__(self, app: ASGIApp, program: str) -> None:
        self._app = app
        self._program = program

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = _plain_word(headers.get(REQUEST_ID_HEADER, ""))
        trace_id = _plain_word(headers.get(TRACE_ID_HEADER, ""))
        status: int | None = None
        began = time.monotonic()

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = MutableHeaders(scope=message)
                answered[REQUEST_ID_HEADER] = request_id
                answered[TRACE_ID_HEADER] = trace_id
            await send(message)

        # Percent-encoded, so that no line break of a caller reaches the log.
        what = f"{scope['method']} {scope['raw_path'].decode('ascii', 'replace')}"
        with bound_contextvars(request_id=request_id, trace_id=trace_id):
            try:
                await self._app(scope, receive, send_named)
            except Exception:
                logger.exception("%s failed", what)
                if status is None:
                    answer = error_response(
                        500,
                        "internal",
                        f"the {self._program} could not handle the request",
                        f"its log says more; look for request {request_id}",
                    )
                    await answer(scope, receive, send_named)
                # Otherwise the server sees an unfinished answer and ends the connection.
            took_ms = (time.monotonic() - began) * 1000
            # What only reads and goes well is asked again and again, and tells an operator nothing.
            routine = scope["method"] in ("GET", "HEAD") and status is not None and status < 400
            level = logging.DEBUG if routine else logging.INFO
            logger.log(level, "%s: %s in %.0f ms", what, status, took_ms)


def _plain_word(given: str) -> str:
    return given if _PLAIN_WORD.fullmatch(given) else uuid.uuid4().hex


def trace_id() -> str | None:
    """The ``X-Trace-ID`` of the request that is being handled; ``None`` outside of one."""
    found: str | None = get_contextvars().get("trace_id")
    return found


class TokenGate:
    """Lets through who presents the API token: as bearer, or to read, as password of Basic.

    Basic is there for browsers, which can show ``/docs`` but not send a bearer. A browser
    repeats it by itself, even for a page of somebody else, hence only for reading.

    Args:
        open_paths: What answers without a token.
        realm: The name under which a browser asks for it.
        where: Where the caller finds the token, for those who have none.
    """

    def __init__(
        self, app: ASGIApp, token: SecretStr, *, open_paths: Collection[str], realm: str, where: str
    ) -> None:
        self._app = app
        self._token = token.get_secret_value().encode()
        self._open_paths = open_paths
        self._realm = realm
        self._where = where

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._admits(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            answer = error_response(
                401,
                "unauthorized",
                "the API token is missing or wrong",
                f"send it as 'Authorization: Bearer <token>'; {self._where}",
                {"WWW-Authenticate": f'Bearer, Basic realm="{self._realm}"'},
            )
            await answer(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        if scope["path"] in self._open_paths:
            return True
        scheme, _, credentials = Headers(scope=scope).get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            presented = credentials.strip()
        elif scheme.lower() == "basic" and scope.get("method") in ("GET", "HEAD"):
            presented = _basic_password(credentials.strip())
        else:
            return False
        return hmac.compare_digest(presented.encode("utf-8", "replace"), self._token)


def _basic_password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


class BodyLimit:
    """Answers 413 to a body beyond *limit* bytes, without reading it to its end."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._message = f"the body is larger than {limit} bytes"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("Content-Length", "")
        if declared.isdecimal() and int(declared) > self._limit:
            answer = error_response(413, "too_large", self._message)
            await answer(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise HTTPException(413, self._message)
            return message

        await self._app(scope, receive_limited, send)
