"""A real outbox over a real state store in a folder of the test's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from executor.delivery.outbox import Outbox
from executor.delivery.state import StateStore
from shared.protocol.events import RunKey


@asynccontextmanager
async def open_outbox(
    home: Path, *, on_superseded: Callable[[RunKey], None] = lambda _key: None, **options: Any
) -> AsyncIterator[tuple[StateStore, Outbox]]:
    """Go on with what is in *home*, and close it in order at the end."""
    store = await StateStore.open(home / "state.db")
    try:
        outbox = await Outbox.open(store, on_superseded=on_superseded, **options)
        try:
            yield store, outbox
        finally:
            await outbox.close()
    finally:
        await store.close()
