"""How long ago something was, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def age(timestamp: str, now: datetime | None = None) -> str:
    """The time since *timestamp*, roughly: ``42 s``, ``5 min``, ``3 h 12 min``, ``2 d 4 h``.

    Args:
        timestamp: In UTC, as ``2026-01-01T12:00:00.123Z``; one that is to come is now.
        now: ``None``: the clock's.
    """
    from datetime import UTC, datetime

    passed = (now or datetime.now(UTC)) - datetime.fromisoformat(timestamp)
    seconds = max(0, int(passed.total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def clock_time(timestamp: str) -> str:
    """*timestamp*, in UTC, as this machine's clock shows it: ``2026-01-01 13:00:00``."""
    from datetime import datetime

    return f"{datetime.fromisoformat(timestamp).astimezone():%Y-%m-%d %H:%M:%S}"
