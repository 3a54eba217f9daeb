"""FakeBackend: a real Socket.IO server on loopback that plays any backend.

It keeps the promises that its features make: it commits a run's events in ``seq`` order, drops
repeats, and acknowledges what it has committed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self

import socketio
import uvicorn

from shared.protocol.local import MAX_MESSAGE_BYTES, NAMESPACE, RUN_EVENTS, Feature, LocalEvent

ALL_FEATURES = tuple(feature.value for feature in Feature)
TOKEN = "token-of-the-fake-backend"

Key = tuple[str, int]


class FakeBackend:
    """One backend, made by :func:`open_backend` or one of the constructors that name a kind."""

    def __init__(
        self,
        *,
        features: tuple[str, ...] = ALL_FEATURES,
        register_ack: Callable[[dict[str, Any]], object] | None = None,
        event_ack: Callable[[str, dict[str, Any]], object] | None = None,
        acknowledges: bool = True,
        token: str = TOKEN,
        prefix: str = "",
        heartbeat_interval: float | None = None,
        heartbeat_timeout: float | None = None,
    ) -> None:
        """Play a full-featured backend, unless told otherwise.

        Args:
            features: What the register ack offers.
            register_ack: Makes another answer to a register.
            event_ack: Makes another answer to a run's event.
            acknowledges: ``False``: never sends an ack for anything.
            token: The one that is let in.
            prefix: Path under which it is served, e.g. ``/api``.
            heartbeat_interval: Seconds granted in the register ack; ``None``: not said.
            heartbeat_timeout: The same for the timeout.
        """
        self.features = features
        self.register_ack = register_ack
        self.event_ack = event_ack
        self.acknowledges = acknowledges
        self.token = token
        self.prefix = prefix
        self.heartbeat_interval = heartbeat_interval
        self.heartbeat_timeout = heartbeat_timeout
        self.port = 0
        self.received: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        """Everything received, in order, less what :meth:`expect` has taken."""
        self.log: list[tuple[str, Any]] = []
        """Everything received, in order."""
        self.committed: dict[Key, list[tuple[str, dict[str, Any]]]] = {}
        """Events of each run, in ``seq`` order and once each."""
        self.connections: list[str] = []
        """Socket.IO ids of the connections that are open now."""
        self.most_connections = 0
        self.refused: asyncio.Queue[object] = asyncio.Queue()
        """What was sent instead of the token by those turned away."""
        self.answer_events = True
        """Set to ``False`` to leave the events of runs without an ack, and uncommitted."""
        self.acks_flow = asyncio.Event()
        """Clear to hold acks for the events of runs back until it is set again."""
        self.acks_flow.set()
        self.disconnected = asyncio.Event()
        """Set when a connection has ended."""
        self.sio = socketio.AsyncServer(async_mode="asgi", max_http_buffer_size=MAX_MESSAGE_BYTES)
        self.sio.on("connect", self._connect, namespace=NAMESPACE)
        self.sio.on("disconnect", self._disconnect, namespace=NAMESPACE)
        self.sio.on("*", self._receive, namespace=NAMESPACE)

    @classmethod
    def base(cls) -> Self:
        """One that knows the base protocol only, and acks without content."""
        return cls(features=(), register_ack=lambda _: None, event_ack=lambda *_: None)

    @classmethod
    def silent(cls) -> Self:
        """A base backend that never acknowledges anything."""
        return cls(features=(), acknowledges=False)

    @classmethod
    def garbage(cls) -> Self:
        """One whose answers have no shape that anybody knows."""
        return cls(register_ack=lambda _: ["?"], event_ack=lambda *_: "ok")

    @property
    def url(self) -> str:
        """For ``WEGENT_BACKEND_URL``."""
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    async def expect(self, event: str) -> Any:
        """The payload of the next *event*; whatever came before it is passed over."""
        while True:
            name, payload = await self.received.get()
            if name == event:
                return payload

    async def send(self, event: str, *payload: Any) -> Any:
        """Send to the newest connection and return its ack."""
        data = payload[0] if len(payload) == 1 else payload
        return await self.sio.call(
            event, data, to=self.connections[-1], namespace=NAMESPACE, timeout=10
        )

    async def emit(self, event: str, *payload: Any) -> None:
        """Send without asking for an ack."""
        data = payload[0] if len(payload) == 1 else payload
        await self.sio.emit(event, data, to=self.connections[-1], namespace=NAMESPACE)

    async def kick(self) -> None:
        """Close the newest connection in order."""
        await self.sio.disconnect(self.connections[-1], namespace=NAMESPACE)

    def payloads(self, event: str) -> list[Any]:
        """Every payload of *event* so far."""
        return [payload for name, payload in self.log if name == event]

    def seqs(self, subtask_id: int | str, attempt: int = 1) -> list[int]:
        """Numbers of the committed events of a run, in the order of commitment."""
        return [payload["seq"] for _, payload in self.committed.get((str(subtask_id), attempt), [])]

    async def _connect(self, sid: str, _environ: object, auth: Any) -> None:
        if not isinstance(auth, dict) or auth.get("token") != self.token:
            self.refused.put_nowait(auth)
            raise socketio.exceptions.ConnectionRefusedError(
                "the token is not known here", {"code": "unauthorized"}
            )
        self.connections.append(sid)
        self.most_connections = max(self.most_connections, len(self.connections))

    async def _disconnect(self, sid: str, *_: object) -> None:
        if sid in self.connections:
            self.connections.remove(sid)
            self.disconnected.set()

    async def _receive(self, event: str, _sid: str, *args: Any) -> object:
        payload = args[0] if args else None
        self.log.append((event, payload))
        self.received.put_nowait((event, payload))
        if event in RUN_EVENTS and not self.answer_events:
            return self.sio.not_handled
        answer = self._answer(event, payload)
        if event in RUN_EVENTS:
            await self.acks_flow.wait()
        return answer if self.acknowledges else self.sio.not_handled

    def _answer(self, event: str, payload: Any) -> object:
        if event == LocalEvent.REGISTER:
            return (self.register_ack or self._register_ack)(payload)
        if event in RUN_EVENTS:
            committed = self._commit(event, payload)
            if self.event_ack is not None:
                return self.event_ack(event, payload)
            return {"success": True, "acked": committed}
        return {"success": True} if self.features else None

    def _register_ack(self, payload: dict[str, Any]) -> dict[str, Any]:
        standings: list[dict[str, Any]] = []
        for run in payload.get("runs", []):
            key = (str(run["subtask_id"]), run["attempt"])
            standing = {"subtask_id": run["subtask_id"], "attempt": run["attempt"]}
            standings.append(standing | {"seq": len(self.committed.get(key, []))})
        ack = {"success": True, "features": list(self.features), "acked": standings}
        granted = {
            "heartbeat_interval": self.heartbeat_interval,
            "heartbeat_timeout": self.heartbeat_timeout,
        }
        return ack | {name: value for name, value in granted.items() if value is not None}

    def _commit(self, event: str, payload: dict[str, Any]) -> int:
        key = (str(payload["subtask_id"]), payload["attempt"])
        events = self.committed.setdefault(key, [])
        if payload["seq"] == len(events) + 1:
            events.append((event, payload))
        return len(events)


class _Server(uvicorn.Server):
    """Says when it listens, so that nobody has to guess."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the test's process alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def open_backend(backend: FakeBackend | None = None) -> AsyncIterator[FakeBackend]:
    """Serve *backend* (a full-featured one when ``None``) on loopback until the end."""
    backend = backend or FakeBackend()
    # Named, since asyncio leaves Nagle's algorithm on for sockets of an unnamed protocol.
    with socket.socket(proto=socket.IPPROTO_TCP) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", backend.port))
        backend.port = sock.getsockname()[1]
        config = uvicorn.Config(
            socketio.ASGIApp(backend.sio, socketio_path=f"{backend.prefix}/socket.io"),
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE_BYTES,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[sock]), name="fake backend")
        await server.listening.wait()
        try:
            yield backend
        finally:
            server.should_exit = True
            server.force_exit = True
            await serving
