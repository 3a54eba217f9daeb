"""Work in a thread with an event loop of its own.

agno needs that: it looks things up on the disk wherever it runs, and when it is cancelled it leaves
tasks behind that go on asking the models. With their loop they end, too.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from shared.logging import get_logger

logger = get_logger("agno_agent")


class OwnLoop:
    """Runs one coroutine; what it raises is logged."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> None:
        """Start it at once. *name* is that of the thread."""
        self._work = work
        self._home = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._cancelled = False
        self._task: asyncio.Task[Any] | None = None
        self._over = asyncio.Event()
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), name=name, daemon=True).start()

    def cancel(self) -> None:
        """Cancel it and all that it has started; returns at once, from any thread."""
        with self._lock:
            self._cancelled = True
            if self._task is not None:
                with suppress(RuntimeError):  # its loop is closed: it has just ended
                    self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    async def ended(self, within_s: float) -> bool:
        """Wait until nothing of it is left; ``False``: the time was over before."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._over.wait()
        return self._over.is_set()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            pass
        except Exception:
            logger.exception("agno failed")
        finally:
            with suppress(RuntimeError):  # whoever waited has gone with the loop
                self._home.call_soon_threadsafe(self._over.set)

    async def _main(self) -> None:
        with self._lock:
            if self._cancelled:
                return
            self._task = asyncio.current_task()
        try:
            await self._work()
        finally:
            with self._lock:
                self._task = None
