"""An executor in local mode, put together around a scripted agent instead of a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Self

from pydantic import SecretStr

from executor.delivery.outbox import Outbox
from executor.delivery.state import Outstanding, StateStore
from executor.modes.local.handlers import TaskHandler
from executor.modes.local.heartbeat import HeartbeatService, Rhythm
from executor.modes.local.observer import LinkObserver
from executor.modes.local.progress_reporter import ProgressReporter
from executor.modes.local.registration import Registrar
from executor.modes.local.runner import LocalRunner
from executor.modes.local.websocket_client import WebSocketClient
from executor.tasks.run_handler import RunHandler
from executor.tasks.supervisor import Supervisor
from shared.protocol.local import Feature, LocalEvent, Register
from shared.redaction import Redactor
from tests.fakes.backend import TOKEN, FakeBackend
from tests.fakes.run_handler import ScriptedRunHandler

DISPATCH = {"task_id": 1, "subtask_id": 2, "prompt": "go"}


class Memory:
    """What backends offered, kept nowhere."""

    def __init__(self, known: frozenset[str] | None = None) -> None:
        self.known = known

    def features(self, _url: str) -> frozenset[str] | None:
        return self.known

    def remember(self, _url: str, features: frozenset[str]) -> None:
        self.known = features


class Harness:
    """One executor in local mode, put together as the composition root does."""

    def __init__(
        self,
        store: StateStore,
        port: int,
        agent: ScriptedRunHandler | None = None,
        *,
        token: str = TOKEN,
        register_timeout_s: float = 10.0,
        stuck_after_s: float = 30.0,
        assume_delivered_after_s: float = 60.0,
        drain_grace_s: float = 10.0,
        known: frozenset[str] | None = None,
        outstanding: Outstanding | None = None,
        max_concurrent: int = 2,
        handler: RunHandler | None = None,
        observer: LinkObserver | None = None,
    ) -> None:
        """*handler* carries runs out instead of *agent*; *observer* is told of the connection."""
        observer = observer or LinkObserver()
        self.agent = agent or ScriptedRunHandler()
        self.stop = asyncio.Event()
        self.tried = asyncio.Event()
        """Set when the runner has asked for a pause: it knows that there is no connection."""
        self.outages = 0
        """How many outages it has asked pauses for, each with a new count."""
        self.memory = Memory(known)
        self.registered: list[frozenset[str]] = []
        self.outbox = Outbox(
            store,
            outstanding or Outstanding([], 0),
            on_superseded=lambda key: self.supervisor.supersede(key),
            stuck_after_s=stuck_after_s,
            assume_delivered_after_s=assume_delivered_after_s,
        )
        reporter = ProgressReporter(self.outbox, Redactor(), merge_for_s=0.001)
        self.supervisor = Supervisor(
            handler or self.agent,
            reporter,
            store,
            max_concurrent=max_concurrent,
            queue_limit=4,
            timeout_s=60,
            redispatches=Feature.REDISPATCH in (known or ()),
        )
        client = WebSocketClient(f"http://127.0.0.1:{port}", SecretStr(token), connect_timeout_s=5)
        self.runner = LocalRunner(
            client,
            Registrar(
                str(client.url),
                Register(executor_id="e-1", capabilities=["claude_code"]),
                self.supervisor,
                self.outbox,
                self.memory,
                heartbeat=Rhythm(30, 90),
                timeout_s=register_timeout_s,
            ),
            self.supervisor,
            self.outbox,
            TaskHandler(self.supervisor, reporter),
            HeartbeatService(
                "e-1",
                self.supervisor,
                self.outbox.unheard_verdicts,
                on_heard=observer.heartbeat_heard,
            ),
            delays=self._delays,
            refused_delay_s=0.01,
            drain_grace_s=drain_grace_s,
            on_registered=self.registered.append,
            observer=observer,
        )

    @classmethod
    async def again(
        cls, store: StateStore, port: int, agent: ScriptedRunHandler | None = None, **options: Any
    ) -> Self:
        """The next process of the home that *store* belongs to."""
        harness = cls(store, port, agent, outstanding=await store.outstanding(), **options)
        harness.supervisor.restore(await store.runs())
        return harness

    def _delays(self) -> Iterator[float]:
        self.outages += 1
        while True:
            self.tried.set()
            yield 0.001

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run until the end of the block, then stop in order."""
        task = asyncio.create_task(self.runner.run(self.stop))
        try:
            yield
            self.stop.set()
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def result(backend: FakeBackend) -> dict[str, Any]:
    payload: dict[str, Any] = await backend.expect(LocalEvent.RESULT)
    return payload
