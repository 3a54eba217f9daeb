"""When a limit of the API is lifted: read from what the CLI says about it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_EPOCH: Final = re.compile(r"limit reached\|(\d{10})\b")
_CLOCK: Final = re.compile(
    r"\bresets\s+(?:at\s+)?(?:(?P<month>[A-Z][a-z]{2})[a-z]*\s+(?P<day>\d{1,2}),?\s+(?:at\s+)?)?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d{2}))?\s*(?P<half>am|pm)\s*\((?P<zone>[\w/+-]+)\)",
    re.IGNORECASE,
)
_MONTHS: Final = (
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
)


def reset_time(words: str, now: float) -> float | None:
    """The time that *words* name, in seconds since the epoch; ``None``: they name none.

    The CLI says ``You've hit your 5-hour limit · resets 1:35pm (UTC)``, for a limit of days
    ``resets Nov 24, 9am (Europe/Berlin)``; older ones ``… usage limit reached|1795268106``.
    """
    if found := _EPOCH.search(words):
        return float(found[1])
    found = _CLOCK.search(words)
    if found is None:
        return None
    try:
        zone = ZoneInfo(found["zone"])
        hour = int(found["hour"]) % 12 + (12 if found["half"].lower() == "pm" else 0)
        today = datetime.fromtimestamp(now, UTC).astimezone(zone)
        reset = today.replace(hour=hour, minute=int(found["minute"] or 0), second=0, microsecond=0)
        if found["month"]:
            month = _MONTHS.index(found["month"].lower()) + 1
            reset = reset.replace(month=month, day=int(found["day"]))
            if reset < today - timedelta(days=180):
                reset = reset.replace(year=reset.year + 1)
        elif reset < today - timedelta(minutes=1):
            reset += timedelta(days=1)
    except (ValueError, ZoneInfoNotFoundError):
        return None
    return reset.timestamp()
