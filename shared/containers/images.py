"""Images: pulled when they are missing, once for all who wait for one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from shared.containers.errors import ImageUnavailable
from shared.logging import get_logger

if TYPE_CHECKING:
    from shared.containers.engine import Engine

logger = get_logger("containers")

REPORT_EVERY_S: Final = 2.0
"""Far below the time after which a lease runs out."""


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull is.

    Attributes:
        fraction: Of the bytes that are known to be needed, between 0 and 1; it may go back, as
            layers become known. ``None`` before the first.
        seconds: Since it began.
    """

    image: str
    fraction: float | None
    seconds: float


OnPull = Callable[[PullProgress], None]
"""Called at least every few seconds while a pull goes on, so that whoever holds a lease can renew
it; must not block or raise."""


class Images:
    """Knows which pulls are going on."""

    def __init__(self, engine: Engine, *, report_every_s: float = REPORT_EVERY_S) -> None:
        self._engine = engine
        self._report_every_s = report_every_s
        self._pulls: dict[str, _Pull] = {}

    async def ensure(self, image: str, on_pull: OnPull | None = None) -> None:
        """Return when the image is on the engine.

        However long that takes; a pull that says nothing for too long is given up by the engine's
        patience. The pull ends with the last who waits for it.

        Raises:
            ImageUnavailable: It cannot be had.
        """
        if image not in self._pulls and await self._engine.has_image(image):
            return
        pull = self._pulls.get(image)
        if pull is None:
            pull = self._pulls[image] = _Pull(self._engine, image)
        pull.waiting += 1
        try:
            while not pull.task.done():
                await asyncio.wait({pull.task}, timeout=self._report_every_s)
                if on_pull is not None:
                    on_pull(pull.progress)
            await pull.task
        finally:
            pull.waiting -= 1
            if not pull.waiting:
                self._pulls.pop(image, None)
                pull.task.cancel()


class _Pull:
    """One pull; its task never ends by itself before it is over."""

    def __init__(self, engine: Engine, image: str) -> None:
        self._engine = engine
        self._image = image
        self._began = time.monotonic()
        self._layers: dict[str, tuple[int, int]] = {}  # bytes here, bytes in all
        self.waiting = 0
        self.task = asyncio.create_task(self._run(), name=f"pull {image}")

    @property
    def progress(self) -> PullProgress:
        """As of now."""
        whole = sum(total for _, total in self._layers.values())
        here = sum(current for current, _ in self._layers.values())
        fraction = min(1.0, here / whole) if whole else None
        return PullProgress(self._image, fraction, time.monotonic() - self._began)

    async def _run(self) -> None:
        logger.info("pulling the image %s", self._image)
        async for message in self._engine.pull(self._image):
            self._note(message)
        if not await self._engine.has_image(self._image):
            raise ImageUnavailable(f"the pull of the image {self._image} was cut off")
        logger.info("the image %s is there", self._image)

    def _note(self, message: dict[str, Any]) -> None:
        layer, detail = message.get("id"), message.get("progressDetail") or {}
        total = detail.get("total")
        if not layer or not total:
            return
        if message.get("status") == "Downloading":
            self._layers[layer] = (int(detail.get("current", 0)), int(total))
        elif layer in self._layers:  # it is being unpacked
            size = self._layers[layer][1]
            self._layers[layer] = (size, size)
