"""Where the unfinished runs stand and what they wait for, for somebody at this machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from executor.tasks.known_runs import AcceptedRun
from executor.tasks.run_handler import WaitsFor
from shared.protocol.events import RunRef

State = Literal["running", "waiting_for_input", "paused", "cancelling", "queued", "interrupted"]
"""``paused``: it stands still until the disk takes writes; ``interrupted``: an earlier process has
left it in the middle."""

Need = WaitsFor | Literal["slot", "session", "disk", "backend"]
"""Besides whom a run itself waits for: a free place, the run before it in its session, room on the
disk, or the backend, which has to send it again."""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where one run stands."""

    ref: RunRef
    state: State
    since: str
    """When it began to wait or to be carried out, as UTC."""
    agent: str
    """Empty when that is not known before the backend sends it again."""
    waits_for: Need | None


def whereabouts(
    unfinished: Iterable[AcceptedRun],
    running: Iterable[AcceptedRun],
    disk_trouble: str | None,
) -> Iterator[Whereabouts]:
    """Look at runs.

    Args:
        unfinished: Whom to look at, in the order in which they came.
        running: Who is carried out.
        disk_trouble: Why the disk takes no writes; ``None``: it does.
    """
    busy = {entry.ref.session for entry in running}
    for entry in unfinished:
        state, waits_for = _standing(entry, busy, disk_trouble)
        busy.add(entry.ref.session)
        yield Whereabouts(entry.ref, state, entry.since, entry.agent, waits_for)


def _standing(
    entry: AcceptedRun, busy: set[str], disk_trouble: str | None
) -> tuple[State, Need | None]:
    if entry.left is not None:
        return entry.left, "backend"
    if entry.execution is None:
        if entry.ref.session in busy:
            return "queued", "session"
        return "queued", "slot" if disk_trouble is None else "disk"
    if entry.execution.stopping:
        return "cancelling", None
    if disk_trouble is not None:
        return "paused", "disk"
    need = entry.execution.run.waits_for
    return "waiting_for_input" if need == "user" else "running", need
