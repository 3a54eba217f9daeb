"""Desk: answers what the user of this machine asks the running executor."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from executor.control.errors import ControlError
from executor.control.protocol import (
    CANCEL_WAIT_S,
    MAX_TASKS,
    Cancelled,
    Runs,
    State,
    Status,
    Task,
    Tasks,
)
from executor.tasks.supervisor import Supervisor
from executor.tasks.whereabouts import Whereabouts
from shared.logging import get_logger
from shared.protocol.events import RunRef, utc_timestamp
from shared.protocol.local import Cancel
from shared.version import __version__

logger = get_logger("control")

MAX_NAMED: Final = 10
"""How many runs an error names at most."""

REASON: Final = "cancelled on this machine"


class Standing(Protocol):
    """How the executor can be reached; see :class:`executor.control.protocol.Status`."""

    @property
    def state(self) -> State:
        """Whether this executor takes tasks."""
        ...

    @property
    def since(self) -> str:
        """Since when, as UTC."""
        ...

    @property
    def last_error(self) -> str | None:
        """Why it is not registered."""
        ...

    @property
    def address(self) -> str | None:
        """Where docker mode takes tasks."""
        ...

    @property
    def last_heartbeat(self) -> str | None:
        """When the backend last acknowledged one, as UTC."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """What does not change in the life of the process."""

    name: str
    home: Path
    backend: str | None
    """Without credentials; ``None`` in docker mode."""
    max_concurrent_tasks: int


class Desk:
    """Answers requests; nothing here is kept that is known elsewhere."""

    def __init__(
        self,
        identity: Identity,
        supervisor: Supervisor,
        standing: Standing,
        *,
        outbox_depth: Callable[[], int] | None = None,
        redact: Callable[[str], str],
        cancel_wait_s: float = CANCEL_WAIT_S,
    ) -> None:
        """Take what to look at.

        Args:
            identity: Who this is.
            supervisor: Has the runs.
            standing: How it can be reached.
            outbox_depth: How many events wait for the backend's acknowledgement; ``None``: it has
                no backend.
            redact: Masks secrets in what errors say.
            cancel_wait_s: See :data:`executor.control.protocol.CANCEL_WAIT_S`.
        """
        self._identity = identity
        self._supervisor = supervisor
        self._standing = standing
        self._outbox_depth = outbox_depth
        self._redact = redact
        self._cancel_wait_s = cancel_wait_s
        self._started = utc_timestamp()

    async def answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The result of a request.

        Raises:
            ControlError: It is refused; says why.
        """
        match request.get("command"):
            case "status":
                return self._status()
            case "tasks":
                return self._tasks()
            case "cancel":
                return await self._cancel(str(request.get("id", "")))
            case _:
                raise ControlError(
                    "this executor does not know that command",
                    reason="unknown_command",
                    hint=f"it is version {__version__}",
                )

    def _status(self) -> Status:
        standing, error = self._standing, self._standing.last_error
        trouble = self._supervisor.trouble
        return Status(
            state=standing.state,
            since=standing.since,
            draining=self._supervisor.draining,
            last_error=None if error is None else self._redact(error),
            backend=self._identity.backend,
            address=standing.address,
            last_heartbeat=standing.last_heartbeat,
            pid=os.getpid(),
            version=__version__,
            name=self._identity.name,
            home=str(self._identity.home),
            started=self._started,
            runs=_counted(self._supervisor.whereabouts()),
            max_concurrent_tasks=self._identity.max_concurrent_tasks,
            outbox=None if self._outbox_depth is None else self._outbox_depth(),
            disk=None if trouble is None else self._redact(trouble),
        )

    def _tasks(self) -> Tasks:
        found = self._supervisor.whereabouts()
        return Tasks(tasks=[_task(one) for one in found[:MAX_TASKS]], total=len(found))

    async def _cancel(self, wanted: str) -> Cancelled:
        run = self._find(wanted)
        cancel = Cancel(task_id=run.task_id, subtask_id=run.subtask_id, reason=REASON)
        state = self._supervisor.cancel(cancel)
        names = {"task_id": run.task_id, "subtask_id": run.subtask_id}
        logger.info("cancel from this machine: %s", state, **names)
        verdict = None
        try:
            async with asyncio.timeout(self._cancel_wait_s):
                verdict = await self._supervisor.verdict(run.key)
        except TimeoutError:
            logger.warning("a cancelled run has not ended in time", **names)
        return Cancelled(task_id=str(run.task_id), subtask_id=str(run.subtask_id), verdict=verdict)

    def _find(self, wanted: str) -> RunRef:
        """The one run that goes by this name: its own id, its task's, or ``TASK/SUBTASK``."""
        found = [one.ref for one in self._supervisor.whereabouts() if wanted in _names(one.ref)]
        if not found:
            raise ControlError(
                f"no run with the id {wanted!r} is in progress or waits",
                reason="unknown_run",
                hint="wegent-executor tasks lists them",
            )
        if len(found) > 1:
            names = ", ".join(f"{run.task_id}/{run.subtask_id}" for run in found[:MAX_NAMED])
            raise ControlError(
                f"{wanted!r} could mean several runs: {names}",
                reason="ambiguous",
                hint="name one of these",
            )
        return found[0]


def _names(run: RunRef) -> tuple[str, ...]:
    return str(run.subtask_id), str(run.task_id), f"{run.task_id}/{run.subtask_id}"


def _counted(found: list[Whereabouts]) -> Runs:
    count = Counter(one.state for one in found)
    return Runs(
        running=count["running"],
        waiting_for_input=count["waiting_for_input"],
        paused=count["paused"],
        cancelling=count["cancelling"],
        queued=count["queued"],
        interrupted=count["interrupted"],
    )


def _task(one: Whereabouts) -> Task:
    return Task(
        task_id=str(one.ref.task_id),
        subtask_id=str(one.ref.subtask_id),
        attempt=one.ref.attempt,
        state=one.state,
        since=one.since,
        agent=one.agent or None,
        waits_for=one.waits_for,
    )
