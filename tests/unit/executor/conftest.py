"""What tests of the executor share: a state store, and a supervisor as each test wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from executor.delivery.state import StateStore
from executor.tasks.supervisor import Supervisor
from tests.fakes.supervised import Handler, Make, Records, Reports


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[StateStore]:
    """A state store in the test's own folder."""
    store = await StateStore.open(tmp_path / "state.db")
    yield store
    await store.close()


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
async def make(reports: Reports, records: Records) -> AsyncIterator[Make]:
    made: list[Supervisor] = []

    def make(handler: Handler, **options: Any) -> Supervisor:
        defaults = {"max_concurrent": 2, "queue_limit": 2, "timeout_s": 3600}
        made.append(Supervisor(handler, reports, records, **{**defaults, **options}))
        return made[-1]

    yield make
    for supervisor in made:
        await asyncio.wait_for(supervisor.close(), 30)
