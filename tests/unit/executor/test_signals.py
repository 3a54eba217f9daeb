"""Two signals, two events, and the handlers of before afterwards."""

from __future__ import annotations

import asyncio
import os
import signal

from executor.signals import StopSignals


async def test_the_first_signal_asks_and_the_second_insists() -> None:
    async with asyncio.timeout(10):
        with StopSignals() as stop:
            assert not stop.first.is_set()

            os.kill(os.getpid(), signal.SIGTERM)
            await stop.first.wait()
            assert not stop.second.is_set()

            os.kill(os.getpid(), signal.SIGINT)
            await stop.second.wait()


async def test_the_handlers_of_before_are_back_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    with StopSignals():
        pass

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
