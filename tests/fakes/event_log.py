"""A real event log over a real state store in a folder of the test's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from executor.delivery.event_log import EventLog
from executor.delivery.state import StateStore
from shared.protocol.events import AgentEvent, NumberedEvent, RunRef


@asynccontextmanager
async def open_log(home: Path, **options: Any) -> AsyncIterator[tuple[StateStore, EventLog]]:
    """Go on with what is in *home*, and close it in order at the end."""
    store = await StateStore.open(home / "state.db")
    try:
        log = await EventLog.open(store, **options)
        try:
            yield store, log
        finally:
            await log.close()
    finally:
        await store.close()


def tell(log: EventLog, run: RunRef, *types: str, **data: Any) -> None:
    """Put events of these types after what the attempt has told, each with the same data."""
    for type_ in types:
        event = AgentEvent(type_, data)
        log.put(NumberedEvent(run, log.last_seq(run.key) + 1, event, progress=40))
