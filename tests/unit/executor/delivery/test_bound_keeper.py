"""Whoever keeps the bounds goes on until they are kept, and says once that something is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from executor.delivery.bound_keeper import BoundKeeper
from executor.delivery.bounding import Bounds
from executor.delivery.event_rows import ROW_BYTES
from executor.delivery.state import StateStore
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunRef


async def test_one_look_replaces_all_that_is_too_much(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await StateStore.open(tmp_path / "state.db")
    runs = [RunRef(1, number) for number in range(5)]
    for position, run in enumerate(runs, start=1):
        event = AgentEvent(EventType.REASONING, {"content": "x" * 2000})
        store.add_event(2 * position, NumberedEvent(run, 1, event), written=lambda _: None)
    shortened: list[None] = []
    keeper = BoundKeeper(
        store,
        Bounds(max_bytes=5 * (ROW_BYTES + 100)),
        warning="it is full",
        holds_any=lambda: True,
        has_spare=lambda: False,
        on_shortened=lambda: shortened.append(None),
    )
    async with asyncio.timeout(30):
        while keeper._shrinking is not None:
            await store.outstanding()
    types = [event.event.type for _, event in await store.events_after(0, 10)]
    assert types == [EventType.TRUNCATED] * 5
    assert len(shortened) == 5
    assert caplog.text.count("it is full") == 1
    assert keeper.events_lost
    await keeper.close()
    await store.close()
