"""What whoever hands a run over gets back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Submission:
    """Answer to a request that will be accepted, as soon as :meth:`written` returns."""

    duplicate: bool = False
    """It was known already and started nothing."""
    resumed: bool = False
    """A run that a restart had interrupted goes on."""
    acceptance: asyncio.Future[None] | None = None

    async def written(self) -> None:
        """Wait until the acceptance is safe on the disk."""
        if self.acceptance is not None:
            # Shielded: others may wait for the same one.
            await asyncio.shield(self.acceptance)
