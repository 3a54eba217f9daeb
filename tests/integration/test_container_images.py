"""Images that are missing are pulled from a registry, however long that takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.containers.engine import Engine
from shared.containers.errors import ImageUnavailable
from shared.containers.images import Images, PullProgress
from tests.fakes.containers import House
from tests.fakes.image_registry import ImageRegistry


@pytest.fixture
async def registry(house: House) -> AsyncIterator[ImageRegistry]:
    async with ImageRegistry().serving() as serving:
        yield serving
        serving.go_on.set()
        if await house.docker("image", "ls", "--quiet", serving.image):
            await house.docker("rmi", serving.image)


@pytest.fixture
async def engine(house: House) -> AsyncIterator[Engine]:
    async with house.client() as client:
        yield client


class Reports:
    """What is told of a pull."""

    def __init__(self) -> None:
        self.all: list[PullProgress] = []
        self._news = asyncio.Event()

    def note(self, progress: PullProgress) -> None:
        self.all.append(progress)
        self._news.set()

    async def until_half(self) -> None:
        """Until something of the layer is there."""
        async with asyncio.timeout(60):
            while not (self.all and self.all[-1].fraction):
                await self._next()

    async def more(self, number: int) -> None:
        """Until it was told so often more."""
        wanted = len(self.all) + number
        async with asyncio.timeout(60):
            while len(self.all) < wanted:
                await self._next()

    async def _next(self) -> None:
        self._news.clear()
        await self._news.wait()


async def test_a_missing_image_is_pulled_and_its_progress_told_all_the_time(
    engine: Engine, registry: ImageRegistry
) -> None:
    images, reports = Images(engine, report_every_s=0.01), Reports()
    pulling = asyncio.create_task(images.ensure(registry.image, reports.note))
    await reports.until_half()
    fraction = reports.all[-1].fraction
    assert fraction is not None
    assert 0 < fraction < 1
    await reports.more(10)  # the registry says nothing meanwhile; a lease is renewed
    assert not await engine.has_image(registry.image)
    registry.go_on.set()
    async with asyncio.timeout(60):
        await pulling
    assert await engine.has_image(registry.image)
    assert reports.all[-1].fraction == 1.0
    assert reports.all[-1].seconds > reports.all[0].seconds


async def test_an_image_that_is_there_is_not_asked_for_again(
    engine: Engine, registry: ImageRegistry
) -> None:
    registry.go_on.set()
    await Images(engine).ensure(registry.image)
    asked = registry.asked.copy()
    await Images(engine).ensure(registry.image)
    assert registry.asked == asked


async def test_all_who_wait_for_an_image_wait_for_one_pull(
    engine: Engine, registry: ImageRegistry
) -> None:
    images, one, other = Images(engine, report_every_s=0.01), Reports(), Reports()
    first = asyncio.create_task(images.ensure(registry.image, one.note))
    await one.until_half()
    second = asyncio.create_task(images.ensure(registry.image, other.note))
    await other.until_half()
    assert other.all[0].fraction == one.all[-1].fraction
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    registry.go_on.set()
    async with asyncio.timeout(60):
        await second
    assert await engine.has_image(registry.image)
    assert registry.asked["layer"] == 1


async def test_what_the_registry_does_not_have_is_an_error(
    engine: Engine, registry: ImageRegistry
) -> None:
    other = registry.image.replace("/image:", "/other:")
    with pytest.raises(ImageUnavailable, match="cannot be pulled"):
        await Images(engine).ensure(other)


async def test_a_pull_that_failed_can_be_tried_again(
    engine: Engine, registry: ImageRegistry
) -> None:
    images = Images(engine)
    for _ in range(2):
        with pytest.raises(ImageUnavailable):
            await images.ensure("127.0.0.1:1/none:latest")
