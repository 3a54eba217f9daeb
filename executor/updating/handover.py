"""From the version that runs to the one that takes its place, and back when that does not work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from executor.control.client import ask
from executor.control.errors import ControlError, NotRunning
from executor.updating import processes, trial
from executor.updating.errors import TasksRunning, UpdateError
from executor.updating.interruption import uninterrupted
from executor.updating.program import InstalledProgram
from shared.errors import WegentError

if TYPE_CHECKING:
    from executor.control.protocol import Status
    from executor.service.definition import ServiceKeeper
    from executor.service.steps import Step

STOPPED_WITHIN_S: Final = 300.0
"""An executor lets its runs finish first, for LOCAL_SHUTDOWN_GRACE_SECONDS, and stops itself."""

HEALTHY_WITHIN_S: Final = 60.0
"""A start takes a second or two, and as much again for each attempt to connect that fails."""

LOOK_EVERY_S: Final = 0.25

WITHOUT_AGENT: Final = frozenset({"queued", "interrupted"})
"""States of runs that lose nothing by a stop: they are on disk, and wait."""


@dataclass(frozen=True, slots=True)
class Running:
    """The executor that runs with a home.

    Attributes:
        keeper: What looks after it as a service; ``None``: the operator does.
    """

    status: Status
    keeper: ServiceKeeper | None

    @property
    def tasks(self) -> int:
        """How many tasks a stop would disturb."""
        counts = cast("dict[str, int]", self.status["runs"])
        return sum(count for state, count in counts.items() if state not in WITHOUT_AGENT)


class Handover:
    """Exchanges the program under the executor of one home."""

    def __init__(
        self,
        program: InstalledProgram,
        home: Path,
        keeper: ServiceKeeper | None,
        *,
        perform: Callable[[list[Step]], None],
        say: Callable[[str], None],
        healthy_within_s: float = HEALTHY_WITHIN_S,
    ) -> None:
        """Take what is there; nothing is asked or done yet.

        Args:
            keeper: What looks after services; ``None`` where nothing does.
            perform: Carries out what *keeper* says is to be done.
            say: Tells the operator what happens; raises nothing.
            healthy_within_s: How long an executor may take to report healthy.
        """
        self._program = program
        self._home = home
        self._keeper = keeper
        self._perform = perform
        self._say = say
        self._healthy_within_s = healthy_within_s

    def find_running(self, *, now: bool) -> Running | None:
        """Ask whether an executor runs here, and refuse if it must not be disturbed.

        Args:
            now: Whether it may be stopped although tasks are running, or although nobody but the
                operator can start it again.

        Raises:
            TasksRunning: It has tasks.
            UpdateError: It must not be stopped from here, or another executor runs from the same
                file: of another home, or one that is just starting.
            ControlError: One is there and does not answer.
        """
        running = self._ask()
        self._refuse_others(processes.family_of(running.status["pid"]) if running else set())
        if running is None:
            return None
        pid = running.status["pid"]
        if processes.is_ancestor(pid):
            raise UpdateError("a task of the executor cannot update the executor")
        if running.tasks and not now:
            raise TasksRunning(
                f"{running.tasks} tasks are running" if running.tasks > 1 else "a task is running",
                hint="wait for it, or add --now: the executor lets runs finish for a while, and "
                "goes on with the rest after the update",
            )
        if running.keeper is None and not now:
            raise UpdateError(
                f"an executor runs as process {pid}, and not as a service",
                hint="stop it first, or add --now to have it stopped; you start it again",
            )
        return running

    def take_over(self, prepared: Path, running: Running | None, *, can_go_back: bool) -> None:
        """Stop what runs, put *prepared* into the program's place, and start the service again.

        Args:
            running: What :meth:`find_running` has returned.
            can_go_back: Whether the program is put back when the other one does not report healthy,
                or when this is interrupted.

        Raises:
            UpdateError: It is not healthy; the message says whether the version before is back.
        """
        keeper = running.keeper if running is not None else None
        ours = processes.family_of(running.status["pid"]) if running is not None else set()
        exchanged = False
        try:
            if running is not None:
                self._stop(running)
            self._refuse_others(ours)  # anew: a stop may have taken minutes
            with uninterrupted():
                self._program.exchange(prepared)
                exchanged = True
            trial.version_of(self._program.entry)
            if running is not None and keeper is not None:
                self._say("Starting the service.")
                self._perform(keeper.start())
                self._wait_until_healthy(running)
        except BaseException as exc:
            goes_back = exchanged and can_go_back
            with uninterrupted():
                self._recover(running, goes_back=goes_back)
            if goes_back and isinstance(exc, WegentError):
                message = f"{exc.message}; the version before is back"
                raise UpdateError(message, hint=exc.hint) from exc
            raise
        self._remind(running)

    def _recover(self, running: Running | None, *, goes_back: bool) -> None:
        keeper = running.keeper if running is not None else None
        try:
            if goes_back:
                self._say("Going back to the version before.")
                if keeper is not None:
                    self._attempt(keeper.stop)
                self._program.put_back()
        finally:  # either version is better than none that runs
            if keeper is not None:
                self._attempt(keeper.start)
            self._remind(running)

    def _remind(self, running: Running | None) -> None:
        if running is not None and running.keeper is None:
            self._say("The executor was told to stop: start it again.")

    def _attempt(self, order: Callable[[], list[Step]]) -> None:
        try:
            self._perform(order())
        except WegentError as exc:  # what led here is what has to be told in the end
            self._say(str(exc))

    def _ask(self) -> Running | None:
        try:
            status = cast("Status", ask(self._home, "status"))
        except NotRunning:
            return None
        except ControlError as exc:
            raise ControlError(exc.message, hint="stop it first, then update") from exc
        return Running(status, self._keeper if self._is_service(status["pid"]) else None)

    def _is_service(self, pid: int) -> bool:
        if self._keeper is None:
            return False
        kept = self._keeper.status()
        if kept.pid is None:  # the Task Scheduler does not tell it
            return kept.state == "running"
        return kept.pid in processes.family_of(pid)

    def _refuse_others(self, ours: set[int]) -> None:
        if others := processes.executors_from(self._program.entry.resolve()) - ours:
            raise UpdateError(
                "executors that are not, or not yet, there for this home run from this program, "
                "as the processes " + ", ".join(map(str, sorted(others))),
                hint="stop them first; one that is just starting can be asked in a moment",
            )

    def _stop(self, running: Running) -> None:
        pid = running.status["pid"]
        self._say(f"Stopping the executor (process {pid}); runs may finish first.")
        try:
            if running.keeper is not None:
                self._perform(running.keeper.stop())
                processes.wait_for_end(pid, within_s=STOPPED_WITHIN_S)
            else:
                processes.stop(pid, within_s=STOPPED_WITHIN_S)
        except TimeoutError:
            raise UpdateError(
                f"the executor (process {pid}) has not stopped within {STOPPED_WITHIN_S:g} s",
                hint="it has been told to, and runs may finish first, for as long as "
                "LOCAL_SHUTDOWN_GRACE_SECONDS says: update when it has ended",
            ) from None

    def _wait_until_healthy(self, before: Running) -> None:
        """Wait until the new executor has registered, if the one before had."""
        ends_at = time.monotonic() + self._healthy_within_s
        trouble = "it did not start"
        while time.monotonic() < ends_at:
            try:
                status = cast("Status", ask(self._home, "status"))
            except ControlError as exc:
                trouble = exc.message
            else:
                if status["state"] == "registered" or before.status["state"] != "registered":
                    self._say(f"The executor runs again, as process {status['pid']}.")
                    return
                trouble = status["last_error"] or "it does not register at the backend"
            time.sleep(LOOK_EVERY_S)
        raise UpdateError(
            f"it does not report healthy within {self._healthy_within_s:g} s: {trouble}",
            hint="its log says more: wegent-executor logs",
        )
