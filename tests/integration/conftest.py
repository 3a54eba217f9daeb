"""A real manager; a company's network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.authority import Authority
from tests.fakes.containers import House, stand_in_image
from tests.fakes.docker_engine import DockerEngine
from tests.fakes.http_proxy import LOGIN, HttpProxy, open_proxy
from tests.fakes.manager import RunningManager, running_manager


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[RunningManager]:
    """It never polls: what has to happen must be woken."""
    async with asyncio.timeout(30), running_manager(tmp_path / "home", poll_s=3600) as running:
        yield running


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """One that nobody trusts yet."""
    return Authority(tmp_path / "authority")


@pytest.fixture
async def proxy() -> AsyncIterator[HttpProxy]:
    """One that wants a login."""
    async with open_proxy(HttpProxy(login=LOGIN)) as running:
        yield running


@pytest.fixture
async def house(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> AsyncIterator[House]:
    """An owner of containers on a real engine, who has none yet."""
    image = await asyncio.to_thread(stand_in_image, docker_engine, base_image)
    owner = House(docker_engine, image, tmp_path)
    yield owner
    await owner.remove_all()
