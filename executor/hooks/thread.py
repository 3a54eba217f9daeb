"""A thread with an event loop of its own, for code that may block or never end.

A hook is somebody else's code. On our event loop it could stop everything; a pool of threads is
waited for when the process ends, and a blocked hook would use it up. A process for each hook would
have to import all of it again and could be handed only what can be pickled; who wants that wall
uses an executable.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from shared.errors import WegentError

REACT_S: Final = 2.0
"""How long what has been cancelled may take to end."""


class CallTimedOut(WegentError):
    """A call took too long and was cancelled."""

    code = "hook_timed_out"


class CallStuck(CallTimedOut):
    """A call took too long and does not end when it is cancelled: the thread is lost."""

    code = "hook_stuck"


class HookThread:
    """Carries out calls one after the other; made and used on one event loop.

    Raises:
        RuntimeError: No thread can be started.
        OSError: No descriptors are left.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._stuck = False
        # A daemon: the process may end while a call blocks.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # there are too many
            self._loop.close()
            raise

    async def call(self, function: Callable[[], Any], within_s: float) -> Any:
        """The result of *function*, awaited if it can be.

        Raises:
            CallTimedOut: After *within_s* seconds.
            Exception: What it raises.
        """
        future = asyncio.run_coroutine_threadsafe(_bounded(function, within_s), self._loop)
        waiting = asyncio.wrap_future(future)
        try:
            done, _ = await asyncio.wait({waiting}, timeout=within_s + REACT_S)
        finally:
            if not waiting.done():
                waiting.cancel()
        if not done:
            self._stuck = True
            raise CallStuck(f"is not over after {within_s:g} s, and cannot be cancelled")
        if waiting.cancelled():  # from within: nobody else has it
            raise RuntimeError("it was cancelled by itself")
        return waiting.result()

    async def stop(self) -> bool:
        """End what still goes on in it, and the thread; ``False``: it blocks, and is left behind.

        Takes at most :data:`REACT_S`.
        """
        with suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._cancel_all)
        if not self._stuck:
            await asyncio.to_thread(self._thread.join, REACT_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        ending = asyncio.gather(*tasks, return_exceptions=True)
        ending.add_done_callback(lambda _: self._loop.stop())


async def _bounded(function: Callable[[], Any], within_s: float) -> Any:
    try:
        async with asyncio.timeout(within_s) as limit:
            result = function()
            return await result if inspect.isawaitable(result) else result
    except TimeoutError:
        if not limit.expired():
            raise
        raise CallTimedOut(f"took longer than {within_s:g} s") from None
    except (SystemExit, KeyboardInterrupt) as exc:  # they would end the loop of this thread
        raise RuntimeError(f"it raised {type(exc).__name__}") from exc
