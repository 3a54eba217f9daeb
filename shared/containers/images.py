"""Images: pulled when they are missing, once for all who wait for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull is.

    Attributes:
        fraction: Of the bytes that are known to be needed, between 0 and 1; it may go back, as
            layers become known. ``None`` before the first.
        seconds: Since it began.
    """

    image: str
    fraction: float | None
    seconds: float


OnPull = Callable[[PullProgress], None]
"""Called at least every few seconds while a pull goes on, so that whoever holds a lease can renew
it; must not block or raise."""
