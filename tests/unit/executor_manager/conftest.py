"""A store on a real file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from executor_manager.streams.hub import Hub
from tests.fakes.store_bench import Bench, open_store


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    hub = Hub()
    async with asyncio.timeout(30), open_store(tmp_path, hub) as store:
        yield Bench(store, hub, tmp_path / "manager.db")
