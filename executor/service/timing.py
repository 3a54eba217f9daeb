"""How patient whoever looks after the executor has to be."""

from __future__ import annotations

from typing import Final

STOP_MARGIN_S: Final = 60.0
"""Beyond the time that runs get to finish; the program breaks a stop off by itself before."""

WATCHDOG_S: Final = 300.0
"""How much silence means that the executor hangs; it asks for more where its settings need more."""


def stop_limit_s(shutdown_grace_s: float) -> float:
    """After how many seconds a stop has failed, for an executor that lets runs have this grace."""
    return shutdown_grace_s + STOP_MARGIN_S
