"""WebSocketClient: one Socket.IO connection to the backend, from open to closed.

It connects, sends, receives, and says why it was lost. It never reconnects: the runner is the only
owner of reconnection, so the library's own stays off (``reconnection=False``). The only importer of
``socketio`` in the executor.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NoReturn, TypeVar

import aiohttp
import socketio
from pydantic import SecretStr

from executor.modes.local import dialect
from executor.modes.local.backend_url import BackendUrl, problem_of
from executor.network.access import NetworkAccess
from shared.errors import LinkLost, LinkRejected
from shared.logging import get_logger
from shared.protocol import wire_json
from shared.protocol.events import NumberedEvent
from shared.protocol.local import MAX_MESSAGE_BYTES, NAMESPACE, Failure, RunAck, read_ack, to_wire
from shared.shielding import finish

logger = get_logger("websocket_client")

CONNECT_TIMEOUT_S: Final = 10.0
"""For everything from the name lookup to the backend's answer to the token."""

CLOSE_TIMEOUT_S: Final = 0.2
"""For a graceful goodbye; a stop is to take half a second, and the library alone may take five."""

MAX_UNSENT: Final = 16
"""Packets that may wait in the library before events are held back; it has no bound of its own."""

MAX_UNANSWERED: Final = 4096
"""Messages whose acknowledgement is still waited for; some base backends never send any."""

Receive = Callable[[str, object], Awaitable[dict[str, Any]]]
"""``(event name, payload) -> acknowledgement``. Called in the order in which messages came: what it
does before its first ``await`` is done before the next message is looked at."""

T = TypeVar("T")

_library_log = logging.getLogger("websocket_client.socketio")
# Below this level the library writes whole packets to the log, the token among them.
_library_log.setLevel(logging.ERROR)


class _Packet(socketio.packet.Packet):  # type: ignore[misc]  # the library has no types
    """A packet in our JSON, without the search for bytes in every payload: there are none."""

    uses_binary_events = False
    json = wire_json


class _Client(socketio.AsyncClient):  # type: ignore[misc]  # the library has no types
    def _engineio_client_class(self) -> type:
        class Engine(super()._engineio_client_class()):  # type: ignore[misc]  # no types either
            def _get_engineio_url(self, *arguments: str) -> str:
                # Without TLS a proxy is told the whole address, and knows no scheme "ws".
                url: str = super()._get_engineio_url(*arguments)
                return url.replace("ws", "http", 1)

        return Engine

    async def _handle_eio_message(self, data: object) -> None:
        # The library runs this in a task of its own whose exception nobody would ever see.
        try:
            await super()._handle_eio_message(data)
        except Exception as exc:  # noqa: BLE001  # garbage makes the library raise nearly anything
            logger.warning("ignored a message that is no Socket.IO packet: %s", type(exc).__name__)


class Link:
    """One open connection. Made by :meth:`WebSocketClient.connect`, dead when its context ends."""

    def __init__(self, sio: _Client, lost: asyncio.Future[LinkLost]) -> None:
        """*lost* is resolved with the cause when the connection ends, however it ends."""
        self._sio = sio
        self._lost = lost
        self._unanswered: weakref.WeakSet[asyncio.Future[Any]] = weakref.WeakSet()
        lost.add_done_callback(self._give_up_waiting)

    async def emit(
        self, event: str, payload: dict[str, Any], *, on_ack: Callable[[object], None] | None = None
    ) -> None:
        """Hand a message to the transport; does not wait until it is out.

        *on_ack* gets the first argument of the acknowledgement, ``None`` when it has none. It runs
        as the acknowledgement arrives: before any message that came after it is looked at.

        Raises:
            LinkLost: The connection is gone; the message may or may not have arrived.
        """
        self._check()
        callback = None if on_ack is None else _hearing(on_ack)
        try:
            # No lock: one packet per message, and the library's queue takes it without waiting.
            await self._sio.emit(event, payload, namespace=NAMESPACE, callback=callback)
        except socketio.exceptions.SocketIOError as exc:
            raise LinkLost(f"the connection is closed: {exc}") from None
        if on_ack is not None:
            self._forget_oldest()

    async def call(
        self,
        event: str,
        payload: dict[str, Any],
        *,
        timeout_s: float,
        read: Callable[[object], T],
    ) -> T:
        """Send and wait for the acknowledgement; returns what *read* makes of it.

        *read* runs as the acknowledgement arrives, before any message that came after it is looked
        at; what it raises is raised here.

        Raises:
            TimeoutError: No acknowledgement within *timeout_s* seconds.
            LinkLost: The connection is gone.
        """
        answer: asyncio.Future[T] = self._expect()

        def on_ack(raw: object) -> None:
            if answer.done():  # too late: nobody waits any more
                return
            try:
                answer.set_result(read(raw))
            except Exception as exc:  # noqa: BLE001  # whatever it is, it belongs to the caller
                answer.set_exception(exc)

        try:
            await self.emit(event, payload, on_ack=on_ack)
            await asyncio.wait({answer}, timeout=timeout_s)
            if not answer.done():
                raise TimeoutError(f"{event} was not acknowledged within {timeout_s:g} s")
            if answer.cancelled():
                self._check()
            return answer.result()
        finally:
            answer.cancel()

    async def send_event(self, event: NumberedEvent) -> asyncio.Future[RunAck | None]:
        """Send one event of a run, in the order of the calls; the future gets its ack.

        Waits while the transport is behind, so that a slow link does not fill the memory. The
        future is cancelled when the connection ends before the ack has come.

        Raises:
            LinkLost: The connection is gone; the event may or may not have arrived.
        """
        while self._sio.eio.queue.qsize() >= MAX_UNSENT and not self._lost.done():
            flushed = asyncio.ensure_future(self._sio.eio.queue.join())
            try:
                await self.wait_for(flushed, timeout_s=None)
            finally:
                flushed.cancel()
        answer: asyncio.Future[RunAck | None] = self._expect()

        def on_ack(raw: object) -> None:
            if not answer.done():
                answer.set_result(read_ack(RunAck, raw))

        name, payload = dialect.encode(event)
        await self.emit(name, payload, on_ack=on_ack)
        return answer

    async def wait_lost(self) -> NoReturn:
        """Wait for the end of the connection.

        Raises:
            LinkLost: Always, with the cause.
        """
        await asyncio.wait({self._lost})
        raise self._lost.result()

    async def wait_for(self, waiter: asyncio.Future[Any], *, timeout_s: float | None) -> None:
        """Wait until *waiter* is done, the connection ends, or *timeout_s* seconds have passed."""
        await asyncio.wait(
            {waiter, self._lost}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )

    def _check(self) -> None:
        if self._lost.done():
            raise self._lost.result()

    def _expect(self) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._unanswered.add(answer)
        answer.add_done_callback(self._unanswered.discard)
        return answer

    def _forget_oldest(self) -> None:
        # The library keeps every callback until its ack comes; the first entry is its counter.
        waiting = self._sio.callbacks.get(NAMESPACE, {})
        if len(waiting) > MAX_UNANSWERED:
            del waiting[next(itertools.islice(waiting, 1, None))]

    def _give_up_waiting(self, _: object) -> None:
        for answer in list(self._unanswered):
            answer.cancel()


class WebSocketClient:
    """Opens connections to one backend, one after the other."""

    def __init__(
        self,
        url: str,
        token: SecretStr,
        *,
        network: NetworkAccess | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        """*url* is ``http(s)`` or ``ws(s)``, with an optional path prefix.

        *network* ``None``: as this process's environment has it.

        Raises:
            ValueError: It is no such URL.
        """
        self.url = BackendUrl.parse(url)
        self._token = token
        self._network = network or NetworkAccess(os.environ)
        self._connect_timeout_s = connect_timeout_s

    @contextlib.asynccontextmanager
    async def connect(self, receive: Receive) -> AsyncIterator[Link]:
        """Connect and authenticate; closes within a fraction of a second at the end.

        *receive* is called for everything the backend sends, from the first moment on. What it
        raises is answered as a failure and ends nothing.

        Raises:
            LinkRejected: The backend refused the token.
            LinkLost: It could not be reached, or is no such backend; trying again may succeed.
            ConfigError: The proxy or the certificates that the environment names are unusable.
        """
        options = {
            "max_msg_size": MAX_MESSAGE_BYTES,
            "timeout": aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
            **await self._network.options(self.url.origin, followed=True),
        }
        # Our own session: the library leaks its session with every failed attempt.
        async with aiohttp.ClientSession() as http:
            sio = _Client(
                reconnection=False,
                handle_sigint=False,
                logger=_library_log,
                engineio_logger=_library_log,
                serializer=_Packet,
                http_session=http,
                websocket_extra_options=options,
            )
            try:
                await self._open(sio, receive)
                lost = _watch(sio)
                yield Link(sio, lost)
            finally:
                await finish(_close(sio))

    async def _open(self, sio: _Client, receive: Receive) -> None:
        refusals: list[dict[str, Any]] = []

        def on_connect_error(data: object = None) -> None:
            # Fires for network failures too; only a refusal by the backend carries an object.
            if isinstance(data, dict):
                refusals.append(data)

        sio.on("connect_error", on_connect_error, namespace=NAMESPACE)
        sio.on("*", _answering(receive), namespace=NAMESPACE)
        token = self._token.get_secret_value().strip()
        if token[:7].lower() == "bearer ":
            token = token[7:].strip()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await sio.connect(
                    self.url.origin,
                    auth={"token": token},
                    transports=["websocket"],
                    namespaces=[NAMESPACE],
                    socketio_path=self.url.socketio_path,
                    wait_timeout=self._connect_timeout_s,
                )
        except Exception as exc:  # noqa: BLE001  # garbage makes the library raise nearly anything
            message = refusals[0].get("message") if refusals else "Invalid namespace"
            # Said without an object, or by another library's server with this message.
            if NAMESPACE in sio.failed_namespaces and message == "Invalid namespace":
                raise LinkLost(
                    f"{self.url} speaks Socket.IO, but has no {NAMESPACE}: is WEGENT_BACKEND_URL "
                    "right?"
                ) from None
            if refusals:
                raise LinkRejected(
                    f"{self.url} refused this executor: {str(message or 'no reason given')[:200]}",
                    hint="check WEGENT_AUTH_TOKEN",
                ) from None
            problem = problem_of(
                self.url,
                exc,
                proxy=self._network.proxies.lead_to(self.url.origin),
                timeout_s=self._connect_timeout_s,
            )
            raise LinkLost(problem.message, hint=problem.hint) from None


def _hearing(on_ack: Callable[[object], None]) -> Callable[..., None]:
    def hear(*args: object) -> None:
        try:
            on_ack(args[0] if args else None)
        except Exception:  # a fault of ours, which must not pass for garbage of the backend's
            logger.exception("an acknowledgement could not be handled")

    return hear


def _answering(receive: Receive) -> Callable[..., Awaitable[dict[str, Any]]]:
    async def answer(event: object, *args: object) -> dict[str, Any]:
        try:
            return await receive(str(event), args[0] if len(args) == 1 else list(args))
        except Exception as exc:
            logger.exception("a message could not be handled")
            return to_wire(Failure(code="internal", error=f"internal error: {type(exc).__name__}"))

    return answer


def _watch(sio: _Client) -> asyncio.Future[LinkLost]:
    """A future for the end of the connection, noticed by either of the library's two loops."""
    lost: asyncio.Future[LinkLost] = asyncio.get_running_loop().create_future()

    def ended(_: object = None) -> None:
        if not lost.done():
            code = getattr(sio.eio.ws, "close_code", None)
            cause = "the connection to the backend ended" + (
                f" (close code {code})" if code else ""
            )
            if code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
                cause = f"a message was larger than the {MAX_MESSAGE_BYTES >> 20} MiB allowed"
            lost.set_result(LinkLost(cause))

    for loop in _loops(sio):
        loop.add_done_callback(ended)
    if sio.eio.state != "connected":  # it ended while the library was still connecting
        ended()
    return lost


def _loops(sio: _Client) -> set[asyncio.Task[None]]:
    return {task for task in (sio.eio.read_loop_task, sio.eio.write_loop_task) if task is not None}


def _socket(sio: _Client) -> Any:
    return sio.eio.ws.get_extra_info("socket") if sio.eio.ws is not None else None


def _cut(sock: Any) -> None:
    """End the TCP connection now; the library's loops notice and end by themselves."""
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


async def _close(sio: _Client) -> None:
    """Say goodbye if that works quickly, then make sure that nothing of the connection is left."""
    loops, sock, ws = _loops(sio), _socket(sio), sio.eio.ws
    with contextlib.suppress(Exception):  # not graceful is all that an error can mean here
        if sio.eio.state == "connected":
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await sio.eio.queue.join()  # the library closes without sending what waits
            async with asyncio.timeout(2 * CLOSE_TIMEOUT_S):
                await sio.disconnect()
    _cut(sock)
    if loops:
        await asyncio.wait(loops, timeout=CLOSE_TIMEOUT_S)
    for loop in loops:
        loop.cancel()
    if loops:
        await asyncio.wait(loops, timeout=CLOSE_TIMEOUT_S)
    if ws is not None:  # what was broken off above has not given its connection back
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await ws.close()
