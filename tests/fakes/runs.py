"""Runs of a manager's, as a test follows them over HTTP: live, and finished."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.manager_client import Event, ManagerClient
from scripts.scripted_player import StepGate

RUN_SECONDS = 100.0
"""Bound for a run or the next part of one; each takes about a second."""


@dataclass(frozen=True)
class FinishedRun:
    """All that the manager tells about a run that has ended."""

    events: list[Event]
    task: dict[str, Any]

    @property
    def kinds(self) -> list[str]:
        return [kind(event) for event in self.events]

    @property
    def verdict(self) -> tuple[str, str | None]:
        """State and error code."""
        return self.task["status"], self.task["error_code"]

    @property
    def answer(self) -> Any:
        """The agent's last words; a run without them fails the test with its own error."""
        assert self.verdict == ("completed", None), (self.verdict, self.error)
        return self.task["result"]

    @property
    def error(self) -> str:
        return self.task["error"] or ""

    @property
    def cwd(self) -> Path:
        return Path(self.data("workspace.prepared")[0]["path"])

    def data(self, name: str) -> list[dict[str, Any]]:
        """The data of each event of this kind."""
        return [event["data"] for event in self.events if kind(event) == name]


def kind(event: Event) -> str:
    """``category.action``."""
    return f"{event['event']['category']}.{event['event']['action']}"


class LiveRun:
    """A run that a test follows while it goes on; made by :meth:`ManagerProcess.following`."""

    def __init__(self, client: ManagerClient, created: dict[str, Any]) -> None:
        self.task_id: str = created["task_id"]
        self.session_id: str = created["session_id"]
        self.events: list[Event] = []
        self._client = client
        self._untold: asyncio.Queue[Event | None] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read(), name=f"events of {self.task_id}")

    async def told(self) -> AsyncGenerator[Event]:
        """The events, one by one, as they come; a later iteration goes on where this one ended."""
        async with asyncio.timeout(RUN_SECONDS):
            while (event := await self._untold.get()) is not None:
                yield event

    async def until(self, name: str) -> Event:
        """The next event of this kind."""
        async with aclosing(self.told()) as events:
            async for event in events:
                if kind(event) == name:
                    return event
        raise AssertionError(f"the run ended without {name}: {self.events[-1:]}")

    async def reaches(self, gate: StepGate) -> None:
        """Wait until the model's answer stands at *gate*; a run that ends before fails the test."""
        reached = asyncio.create_task(gate.reached.wait())
        try:
            async with asyncio.timeout(RUN_SECONDS):
                await asyncio.wait({reached, self._reading}, return_when=asyncio.FIRST_COMPLETED)
            assert reached.done(), f"the run ended before: {self.events[-1:]}"
        finally:
            reached.cancel()

    async def finished(self) -> FinishedRun:
        """Follow it to its verdict."""
        async with asyncio.timeout(RUN_SECONDS):
            await asyncio.shield(self._reading)
        return FinishedRun(self.events, await self._client.task(self.task_id))

    async def close(self) -> None:
        """Stop following."""
        self._reading.cancel()
        await asyncio.wait({self._reading})

    async def _read(self) -> None:
        try:
            async with aclosing(self._client.events(self.task_id)) as stream:
                async for event in stream:
                    self.events.append(event)
                    self._untold.put_nowait(event)
        finally:
            self._untold.put_nowait(None)
