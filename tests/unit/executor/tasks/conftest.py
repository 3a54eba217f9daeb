"""A supervisor, made as each test wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from executor.tasks.supervisor import Supervisor
from tests.fakes.supervised import Handler, Make, Records, Reports


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
        await asyncio.wait_for(supervisor.close(), 5)
