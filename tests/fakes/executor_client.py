"""An executor reduced to its end of the wire: says what a test says, records what it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import socketio

from shared.protocol.events import utc_timestamp
from shared.protocol.local import NAMESPACE, SOCKETIO_PATH, LocalEvent

Answer = Mapping[str, Any] | Callable[[dict[str, Any]], Awaitable[Any]] | None


class ExecutorClient:
    """One connection. Everything the backend asks is in ``asked``, in order, and is answered from
    ``answers``; an answer of ``None`` is an ack without content.
    """

    def __init__(self, executor_id: str = "executor-1") -> None:
        self.executor_id = executor_id
        self.asked: asyncio.Queue[tuple[LocalEvent, dict[str, Any]]] = asyncio.Queue()
        self.answers: dict[LocalEvent, Answer] = {
            LocalEvent.DISPATCH: {"accepted": True},
            LocalEvent.CANCEL: {"success": True, "state": "cancelling"},
            LocalEvent.INPUT: {"success": True},
        }
        self.refusal: object = None
        self.disconnected = asyncio.Event()

    async def connect(self, url: str, token: str) -> None:
        """Connect without registering; raises socketio's ConnectionError when refused."""
        self._http = aiohttp.ClientSession()
        self._sio = socketio.AsyncClient(
            reconnection=False, handle_sigint=False, http_session=self._http
        )
        self._sio.on("connect_error", self._on_connect_error, namespace=NAMESPACE)
        self._sio.on("disconnect", self._on_disconnect, namespace=NAMESPACE)
        self._sio.on("*", self._on_asked, namespace=NAMESPACE)
        try:
            await self._sio.connect(
                url,
                auth={"token": token},
                namespaces=[NAMESPACE],
                transports=["websocket"],
                socketio_path=SOCKETIO_PATH,
            )
        except BaseException:
            await self._http.close()
            raise

    async def close(self) -> None:
        """End the connection; harmless when it has ended."""
        await self._sio.disconnect()
        await self._http.close()

    async def call(self, event: LocalEvent, payload: object) -> dict[str, Any]:
        """Send and wait for the ack."""
        ack: dict[str, Any] = await self._sio.call(event.value, payload, namespace=NAMESPACE)
        return ack

    async def register(self, *, runs: list[dict[str, Any]] | None = None, **fields: Any) -> Any:
        """Register, with these runs and these fields changed."""
        return await self.call(
            LocalEvent.REGISTER,
            {
                "executor_id": self.executor_id,
                "executor_type": "local",
                "name": "test executor",
                "max_concurrent_tasks": 2,
                "runs": runs or [],
                "timestamp": utc_timestamp(),
                **fields,
            },
        )

    async def beat(self, *runs: tuple[str, int], **fields: Any) -> dict[str, Any]:
        """Send a heartbeat that lists these runs."""
        return await self.call(
            LocalEvent.HEARTBEAT,
            {
                "executor_id": self.executor_id,
                "runs": [{"subtask_id": run, "attempt": attempt} for run, attempt in runs],
                "free_slots": 0,
                **fields,
            },
        )

    async def progress(
        self, request: Mapping[str, Any], seq: int, type_: str, data: dict[str, Any], **fields: Any
    ) -> dict[str, Any]:
        """Tell one event of the dispatched *request* as ``local:task:progress``."""
        category, _, action = type_.partition(".")
        return await self.call(
            LocalEvent.PROGRESS,
            {
                **run_fields(request, seq),
                "progress": 10,
                "event": {"category": category, "action": action},
                "data": data,
                **fields,
            },
        )

    async def result(
        self, request: Mapping[str, Any], seq: int, status: str = "completed", **result: Any
    ) -> dict[str, Any]:
        """Tell the verdict of the dispatched *request*."""
        return await self.call(
            LocalEvent.RESULT,
            {
                **run_fields(request, seq),
                "status": status,
                "result": {"statistics": {}, "workspace": {}, **result},
            },
        )

    async def expect(self, event: LocalEvent) -> dict[str, Any]:
        """The next thing the backend asks, which must be *event*."""
        name, payload = await self.asked.get()
        assert name is event, f"expected {event}, got {name}"
        return payload

    async def _on_asked(self, event: str, payload: dict[str, Any]) -> Any:
        name = LocalEvent(event)
        self.asked.put_nowait((name, payload))
        answer = self.answers[name]
        return await answer(payload) if callable(answer) else answer

    def _on_connect_error(self, data: object) -> None:
        self.refusal = data

    def _on_disconnect(self, *_: object) -> None:
        self.disconnected.set()


async def stay_silent(_: dict[str, Any]) -> None:
    """As an answer: none, until the connection ends."""
    await asyncio.Event().wait()


def run_fields(request: Mapping[str, Any], seq: int) -> dict[str, Any]:
    """The fields that every event of a dispatched run carries."""
    return {
        "task_id": request["task_id"],
        "subtask_id": request["subtask_id"],
        "attempt": request["attempt"],
        "seq": seq,
        "timestamp": utc_timestamp(),
    }
