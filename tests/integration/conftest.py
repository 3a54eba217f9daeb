"""A real manager."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.manager import RunningManager, running_manager


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[RunningManager]:
    """It never polls: what has to happen must be woken."""
    async with asyncio.timeout(30), running_manager(tmp_path / "home", poll_s=3600) as running:
        yield running
