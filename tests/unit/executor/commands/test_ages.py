"""How long ago something was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from executor.commands.ages import age, clock_time

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("passed", "text"),
    [
        (timedelta(milliseconds=900), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=3, minutes=12), "3 h 12 min"),
        (timedelta(days=2, hours=4, minutes=59), "2 d 4 h"),
        (timedelta(seconds=-5), "0 s"),
    ],
)
def test_ages_are_rough_and_never_negative(passed: timedelta, text: str) -> None:
    then = (NOW - passed).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert age(then, NOW) == text


def test_times_are_shown_by_this_machines_clock() -> None:
    shown = clock_time("2026-01-02T12:00:00.123Z")
    assert datetime.fromisoformat(shown).astimezone() == NOW
