"""The server's end of the namespace ``/local-executor``: connections, tokens, calls.

python-socketio starts a task for each message, in order; what a handler does before its first
``await`` therefore happens in order, too.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from typing import Any

import socketio

from executor_manager.nodes.connections import Connection, Connections
from executor_manager.nodes.messages import Messages
from executor_manager.streams.hub import Hub
from shared.errors import LinkLost
from shared.protocol.local import NAMESPACE, Failure, LocalEvent, to_wire

logger = logging.getLogger(__name__)


class LocalExecutorNamespace(socketio.AsyncNamespace):  # type: ignore[misc]  # it has no types
    """Lets executors with the right token in, and calls them."""

    def __init__(
        self, *, token: str, connections: Connections, messages: Messages, hub: Hub
    ) -> None:
        """*token*: what an executor must show; must not be empty."""
        super().__init__(NAMESPACE)
        if not token:
            raise ValueError("an empty token would let everyone in")
        self._token = token.encode()
        self._connections = connections
        self._messages = messages
        self._hub = hub

    async def trigger_event(self, event: str, *args: Any) -> Any:
        """Called by python-socketio for each message; the result is its acknowledgement."""
        if event == "connect":
            sid, _environ, auth = args
            return self._let_in(sid, auth)
        if event == "disconnect":
            self._connections.close(args[0])
            return None
        sid, raw = args[0], args[1] if len(args) > 1 else None
        connection = self._connections.get(sid)
        if connection is None:  # it was replaced, and this came after it
            return to_wire(Failure(code="not_registered", error="this connection has ended"))
        try:
            name = LocalEvent(event)
        except ValueError:
            return to_wire(Failure(code="unknown_event", error="no such event"))
        try:
            ack = await self._messages.handle(connection, name, raw, hang_up=self._hang_up)
        except Exception:
            # One message must not go unanswered, whatever is wrong with it or with us.
            logger.exception("%s from %s could not be handled", name, connection.node_id)
            return to_wire(Failure(code="internal", error="see the manager's log"))
        if name is LocalEvent.REGISTER and ack["success"]:
            # The ack is queued in this same step of the loop, so no call can overtake it.
            self._connections.ready(connection)
            self._hub.queue_changed()
        return ack

    def node_ids(self) -> list[str]:
        """The executors that can be called now."""
        return self._connections.node_ids()

    async def call(  # type: ignore[override,unused-ignore]  # narrower than the untyped base's
        self, node_id: str, event: LocalEvent, payload: dict[str, Any], *, timeout_s: float
    ) -> object:
        """Send to an executor and return its raw acknowledgement.

        Raises:
            LinkLost: It is not connected, the connection ended, or no answer came in time. The
                message may or may not have arrived.
        """
        connection = self._connections.of_node(node_id)
        if connection is None:
            raise LinkLost(f"executor {node_id} is not connected")
        answer = asyncio.ensure_future(
            super().call(event.value, payload, to=connection.sid, timeout=timeout_s)
        )
        closed = asyncio.ensure_future(connection.closed.wait())
        try:
            await asyncio.wait({answer, closed}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise LinkLost(f"executor {node_id} has disconnected")
            return answer.result()
        except socketio.exceptions.TimeoutError:
            raise LinkLost(f"executor {node_id} did not answer within {timeout_s:g} s") from None
        finally:
            answer.cancel()
            closed.cancel()

    def _let_in(self, sid: str, auth: object) -> bool:
        token = auth.get("token") if isinstance(auth, dict) else None
        shown = token.encode("utf-8", "replace") if isinstance(token, str) else b""
        if not hmac.compare_digest(shown, self._token):
            logger.warning("a connection was refused: its token is missing or wrong")
            raise socketio.exceptions.ConnectionRefusedError(
                "the token is missing or wrong", {"code": "unauthorized"}
            )
        self._connections.open(sid)
        return True

    async def _hang_up(self, connection: Connection) -> None:
        await self.disconnect(connection.sid)
