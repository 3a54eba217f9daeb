"""Two signals, two events."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from executor.signals import ECHO_S, StopSignals
from tests.fakes.clock import ManualClock


async def test_the_first_signal_asks_and_the_second_insists() -> None:
    async with asyncio.timeout(30):
        stop = StopSignals()
        stop.listen()
        assert not stop.first.is_set()

        os.kill(os.getpid(), signal.SIGTERM)
        await stop.first.wait()
        assert not stop.second.is_set()

        os.kill(os.getpid(), signal.SIGINT)
        await stop.second.wait()


async def test_in_a_single_file_the_loaders_echo_of_a_signal_is_no_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", "/tmp/_MEI000004d2abcdef", raising=False)
    clock = ManualClock()
    stop = StopSignals(clock.now)
    stop.request()
    await clock.advance(ECHO_S / 2)
    stop.request()
    assert stop.first.is_set()
    assert not stop.second.is_set()
    await clock.advance(ECHO_S / 2)
    stop.request()
    assert stop.second.is_set()
