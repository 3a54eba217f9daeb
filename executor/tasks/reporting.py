"""What the supervisor tells and keeps: the two ends that its composition fills in."""

from __future__ import annotations

import asyncio
from typing import Protocol

from executor.delivery.run_rows import RunRecord
from shared.protocol.events import AgentEvent, RunKey, RunRef
from shared.protocol.execution import ExecutionRequest


class Reporter(Protocol):
    """Where runs tell what happens; synchronous and never failing."""

    def open(self, request: ExecutionRequest) -> None:
        """Begin a run."""
        ...

    def reopen(self, record: RunRecord) -> None:
        """Know an unfinished run of an earlier process."""
        ...

    def resume(self, request: ExecutionRequest) -> None:
        """Go on with a reopened run."""
        ...

    def reattach(self, request: ExecutionRequest) -> None:
        """Have the request of a reopened run that has gone on elsewhere all the time."""
        ...

    def park(self, key: RunKey) -> None:
        """Tell at once what is held back of a run that stops here without a verdict."""
        ...

    def report(self, run: RunRef, event: AgentEvent) -> int:
        """Tell one event; returns the number of the run's last one so far.

        What comes after a run's terminal event is dropped.
        """
        ...

    def last_seq(self, key: RunKey) -> int:
        """How many events the run has told; 0 after its verdict."""
        ...

    def repeat_verdict(self, run: RunRef, seq: int) -> None:
        """Tell a finished run's verdict, its event number *seq*, once more."""
        ...

    def delivered(self, key: RunKey) -> bool:
        """Whether the backend has everything the run told."""
        ...

    def forget(self, key: RunKey) -> None:
        """Drop a run and what is left to be told of it."""
        ...


class Records(Protocol):
    """What is written down of runs, so that a restart knows them; the state store."""

    def accept(self, run: RunRef) -> asyncio.Future[None]:
        """Write down that a run was accepted; done when that survives the loss of power."""
        ...

    def save_time(self, key: RunKey, used_s: float, limit_s: float | None) -> None:
        """Write down for how long a run has been carried out, and how long it may take in all.

        ``None``: as it was told before.
        """
        ...

    def forget_run(self, key: RunKey) -> None:
        """Delete what is written of a run."""
        ...
