"""What tests of the executor share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from executor.delivery.state import StateStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[StateStore]:
    """A state store in the test's own folder."""
    store = await StateStore.open(tmp_path / "state.db")
    yield store
    await store.close()
