"""The processes of ``throughput.py``: a manager, an executor whose agent is a script, and one that
does nothing but to show how late the machine itself is.

Started with one JSON object as argument; the manager announces itself, and each one prints
a line with what it has seen when it is told to stop.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

if not __package__:  # started as a file: the repository's root belongs on the path, not this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pydantic import SecretStr

from bench._lag import Sample, watch_loop
from executor.delivery.outbox import Outbox
from executor.delivery.state import StateStore
from executor.modes.local.handlers import TaskHandler
from executor.modes.local.heartbeat import HeartbeatService, Rhythm
from executor.modes.local.outage import reconnect_delays
from executor.modes.local.progress_reporter import MERGE_FOR_S, ProgressReporter
from executor.modes.local.registration import Registrar
from executor.modes.local.runner import LocalRunner
from executor.modes.local.websocket_client import WebSocketClient
from executor.tasks.questions import AnswerStanding
from executor.tasks.run_handler import Run, WaitsFor
from executor.tasks.supervisor import Supervisor
from executor_manager.config import ManagerSettings
from executor_manager.main import serve
from executor_manager.tokens import load_tokens, prepare_home
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.execution import ExecutionRequest
from shared.protocol.local import Input, Register
from shared.redaction import Redactor
from shared.web.listening import bind

TICK_S = 0.001
MESSAGE = "m"
EXECUTOR = "bench"


def delta(number: int) -> str:
    """One delta of some 20 characters, as models send them; each is different."""
    return f" {number:06d} naïve words"


class DeltaHandler:
    """A RunHandler whose every run tells so many deltas per second, for so many seconds."""

    def __init__(self, per_second: int, seconds: float) -> None:
        self.per_second = per_second
        self.seconds = seconds
        self.began = 0.0
        self.told = asyncio.Event()

    def check(self, request: ExecutionRequest) -> None:
        """Take everything."""

    def start(self, request: ExecutionRequest) -> Run:
        """A run that tells deltas."""
        return _DeltaRun(self)

    async def close_session(self, task_id: int | str) -> None:
        """There is none."""

    def wind_down(self) -> None:
        """There is nothing."""

    async def close(self) -> None:
        """There is nothing."""


class _DeltaRun:
    waits_for: WaitsFor | None = None
    goes_on_alone = False

    def __init__(self, handler: DeltaHandler) -> None:
        self._handler = handler

    async def events(self) -> AsyncGenerator[AgentEvent]:
        handler = self._handler
        yield AgentEvent(EventType.STARTED, {"task": "deltas", "agent_type": "scripted"})
        yield AgentEvent(EventType.LLM_START, {"message_id": MESSAGE, "model": "scripted"})
        handler.began = time.monotonic()
        total = round(handler.per_second * handler.seconds)
        number = length = 0
        while number < total:
            due = int((time.monotonic() - handler.began) * handler.per_second) + 1
            while number < min(due, total):
                text = delta(number)
                data = {"message_id": MESSAGE, "content": text, "offset": length}
                yield AgentEvent(EventType.LLM_STREAM, data)
                number, length = number + 1, length + len(text)
            await asyncio.sleep(TICK_S)
        yield AgentEvent(EventType.LLM_DONE, {"message_id": MESSAGE, "content": "", "usage": {}})
        verdict: dict[str, Any] = {"result": "", "workspace": None, "statistics": {}}
        yield AgentEvent(EventType.COMPLETED, verdict)
        handler.told.set()

    def let_go(self) -> None:
        """It needs this process."""

    def conclude(self, verdict: AgentEvent | None) -> None:
        """Nobody observes it."""

    async def cancel(self, reason: str | None) -> None:
        """Nobody does."""

    async def account(self) -> dict[str, Any]:
        """It tells its own verdict."""
        return {}

    async def pause(self) -> None:
        """The disk is not full."""

    async def resume(self) -> None:
        """It never stood still."""

    async def answer(self, answer: Input) -> AnswerStanding:
        return "unknown_request"


class _Memory:
    """Remembers nothing of a backend."""

    def features(self, url: str) -> frozenset[str] | None:
        return None

    def remember(self, url: str, features: frozenset[str]) -> None:
        pass


async def executor(options: dict[str, Any], stop: asyncio.Event) -> dict[str, Any]:
    """Local mode as it is composed in use, around a :class:`DeltaHandler`."""
    handler = DeltaHandler(options["per_second"], options["seconds"])
    state = await StateStore.open(Path(options["home"]) / "state.db")
    outbox = await Outbox.open(state, on_superseded=lambda key: supervisor.supersede(key))
    merge_for_s = MERGE_FOR_S if options["merged"] else 0
    reporter = ProgressReporter(outbox, Redactor(), merge_for_s=merge_for_s)
    supervisor = Supervisor(
        handler, reporter, state, max_concurrent=1, queue_limit=1, timeout_s=3600
    )
    hello = Register(executor_id=EXECUTOR, name=EXECUTOR, capabilities=["claude_code"])
    rhythm = Rhythm(30, 90)
    runner = LocalRunner(
        WebSocketClient(options["url"], SecretStr(options["token"])),
        Registrar(options["url"], hello, supervisor, outbox, _Memory(), heartbeat=rhythm),
        supervisor,
        outbox,
        TaskHandler(supervisor, reporter),
        HeartbeatService(EXECUTOR, supervisor, outbox.unheard_verdicts),
        delays=lambda: reconnect_delays(1, 30),
        refused_delay_s=30,
        drain_grace_s=1,
    )
    gc.freeze()  # as executor.cli does
    running = asyncio.create_task(runner.run(stop))
    await handler.told.wait()
    last_told = time.monotonic()
    await outbox.wait_empty()
    acknowledged = time.monotonic()
    await running
    await outbox.close()
    await state.close()
    return {"began": handler.began, "last_told": last_told, "acknowledged": acknowledged}


async def manager(options: dict[str, Any], _stop: asyncio.Event) -> dict[str, Any]:
    """The real manager, which announces itself and ends itself on SIGTERM."""
    settings = ManagerSettings(home=Path(options["home"]), port=0)
    prepare_home(settings.home)
    with bind(settings.host, settings.port) as listener:
        await serve(settings, load_tokens(settings), Redactor(), listener)
    return {}


async def idle(_options: dict[str, Any], stop: asyncio.Event) -> dict[str, Any]:
    """Nothing."""
    await stop.wait()
    return {}


SIDES = {"executor": executor, "manager": manager, "idle": idle}


async def side(options: dict[str, Any]) -> None:
    """Be one of them, with its loop watched."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    samples: list[Sample] = []
    watching = asyncio.create_task(watch_loop(samples))
    seen = await SIDES[options["side"]](options, stop)
    watching.cancel()
    print(json.dumps({**seen, "samples": samples}), flush=True)


if __name__ == "__main__":
    asyncio.run(side(json.loads(sys.argv[1])))
