"""Two signals, two events."""

from __future__ import annotations

import asyncio
import os
import signal

from executor.signals import StopSignals


async def test_the_first_signal_asks_and_the_second_insists() -> None:
    async with asyncio.timeout(10):
        stop = StopSignals()
        stop.listen()
        assert not stop.first.is_set()

        os.kill(os.getpid(), signal.SIGTERM)
        await stop.first.wait()
        assert not stop.second.is_set()

        os.kill(os.getpid(), signal.SIGINT)
        await stop.second.wait()
