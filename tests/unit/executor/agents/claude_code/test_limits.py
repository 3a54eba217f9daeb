"""The reset time of a usage limit, in every form in which the CLI words it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from executor.agents.claude_code.limits import reset_time

NOW = datetime(2026, 11, 21, 12, 35, tzinfo=UTC)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("You've hit your 5-hour limit · resets 1:35pm (UTC)", "2026-11-21T13:35:00Z"),
        ("You've hit your limit · resets 9am (UTC)", "2026-11-22T09:00:00Z"),
        ("limit reached ∙ resets at 12am (UTC)", "2026-11-22T00:00:00Z"),
        ("· resets 2pm (Europe/Berlin)", "2026-11-21T13:00:00Z"),
        ("· resets Nov 24, 9am (UTC)", "2026-11-24T09:00:00Z"),
        ("· resets January 2 at 9:30pm (UTC)", "2027-01-02T21:30:00Z"),
        ("· resets 12:35pm (UTC)", "2026-11-21T12:35:00Z"),  # this very minute
        ("Claude AI usage limit reached|1795268106", "2026-11-21T13:35:06Z"),
    ],
)
def test_the_time_that_is_named_is_read(words: str, expected: str) -> None:
    assert reset_time(words, NOW.timestamp()) == datetime.fromisoformat(expected).timestamp()


@pytest.mark.parametrize(
    "words",
    [
        "API Error: Request rejected (429) · Slow down",
        "resets soon",
        "resets 1:35pm (Mars/Olympus)",
        "resets 99:99pm (UTC)",
        "resets Abc 24, 9am (UTC)",
        "resets Feb 31, 9am (UTC)",
        "resets 9am (../../etc/passwd)",
        "",
    ],
)
def test_words_without_a_usable_time_name_none(words: str) -> None:
    assert reset_time(words, NOW.timestamp()) is None
