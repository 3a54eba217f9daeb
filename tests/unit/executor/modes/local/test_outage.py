"""Pauses between attempts, and log lines about them, on a clock that the test moves."""

from __future__ import annotations

import logging

import pytest

from executor.modes.local.outage import OutageLog, reconnect_delays


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_pauses_are_short_for_five_seconds_and_then_double_up_to_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    clock = Clock()
    delays = reconnect_delays(1, 30, clock=clock)
    seen = []
    for _ in range(12):
        delay = next(delays)
        seen.append(delay)
        clock.now += delay
    assert seen == [1, 1, 1, 1, 1, 2, 4, 8, 16, 30, 30, 30]


def test_pauses_are_spread_over_the_whole_span() -> None:
    delays = reconnect_delays(1, 30, clock=lambda: 0.0)
    seen = [next(delays) for _ in range(300)]
    assert min(seen) < 0.2 < 0.8 < max(seen) <= 1


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_an_outage_is_told_at_first_then_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = OutageLog(clock=clock)
    for _ in range(3600):
        log.failed("connection refused", 1)
        clock.now += 1
    assert len(lines(caplog)) == 3 + 3600 // 60 - 1
    assert lines(caplog)[0] == (
        "Failed to connect to Backend WebSocket: connection refused; next try in 1.0 s"
    )
    assert lines(caplog)[-1].endswith("(attempt 3543, disconnected for 3542 s)")
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_a_new_cause_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    log = OutageLog(clock=Clock())
    for _ in range(10):
        log.failed("refused", 1)
    log.failed("answered HTTP 502", 1)
    assert len(lines(caplog)) == 4
    assert "HTTP 502" in lines(caplog)[-1]


def test_losing_a_connection_begins_a_new_outage(caplog: pytest.LogCaptureFixture) -> None:
    log = OutageLog(clock=Clock())
    for _ in range(10):
        log.failed("refused", 1)
    log.lost("it ended", 0.5)
    log.failed("refused", 1)
    assert lines(caplog)[3:] == [
        "lost the connection to the backend: it ended; next try in 0.5 s",
        "Failed to connect to Backend WebSocket: refused; next try in 1.0 s",
    ]
