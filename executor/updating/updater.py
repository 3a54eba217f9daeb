"""The two things that can be done to this program: update it, and go back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from executor.file_lock import lock
from executor.updating import trial
from executor.updating.errors import UpdateError
from executor.updating.handover import Handover
from executor.updating.interruption import interruptible
from executor.updating.program import InstalledProgram
from executor.updating.source import Progress, Source
from shared.private_files import PRIVATE_FILE

Say = Callable[[str], None]


class Updater:
    """Exchanges one program; only one at a time does so, whatever homes they have."""

    def __init__(self, program: InstalledProgram, handover: Handover, *, say: Say) -> None:
        """*say* tells the operator what happens, and raises nothing."""
        self._program = program
        self._handover = handover
        self._say = say

    def update(
        self,
        source: Source,
        *,
        now: bool,
        progress: Callable[[], AbstractContextManager[Progress]],
    ) -> None:
        """Put what *source* holds into the program's place, if it is good and what runs may stop.

        Args:
            now: Whether it is to be stopped anyway; see :meth:`Handover.find_running`.
            progress: Shows how much has come, until its context is left.

        Raises:
            TasksRunning: Tasks are running, and *now* is not set.
            UpdateError: It was not done, or was undone.
        """
        with self._alone():
            checksum = asyncio.run(source.checksum())
            if self._program.is_version(checksum):
                self._say("This is the version that is installed.")
                return
            self._handover.find_running(now=now)  # before anything is fetched for nothing
            fetched = self._program.temporary()
            with progress() as show:
                asyncio.run(source.fetch(fetched, checksum, show))
            prepared = self._program.prepare(fetched, checksum)
            version = trial.version_of(prepared)
            self._compare_health(prepared)
            self._exchange(prepared, version, now=now, can_go_back=True)
            self._say(f"Updated to {version}")
            self._say("Back to the version before: wegent-executor update --rollback")

    def roll_back(self, *, now: bool) -> None:
        """Put the version before into the program's place, and this one into that one's.

        Raises:
            TasksRunning: Tasks are running, and *now* is not set.
            UpdateError: There is none, it does not run, or the executor is not healthy with it.
        """
        with self._alone():
            prepared = self._program.prepare_previous()
            version = trial.version_of(prepared)
            # Whoever goes back has a reason; a backend that is out of reach is none to stay.
            self._exchange(prepared, version, now=now, can_go_back=False)
            self._say(f"Back to {version}")

    def _exchange(self, prepared: Path, version: str, *, now: bool, can_go_back: bool) -> None:
        # Asked anew: fetching has taken its time.
        running = self._handover.find_running(now=now)
        self._handover.take_over(prepared, running, can_go_back=can_go_back)

    def _compare_health(self, prepared: Path) -> None:
        """Let the new version's doctor look at this home before the executor depends on it.

        Raises:
            UpdateError: It finds something, and the doctor of the version here finds nothing.
        """
        self._say("Looking whether it is content with this machine and its settings.")
        found = trial.troubles_of(prepared)
        if found is None:
            return
        if trial.troubles_of(self._program.entry) is None:
            raise UpdateError(
                "the new version is not content here, and this one is; nothing was changed. "
                f"Its doctor says:\n{found}"
            )
        self._say("Its doctor finds something, and so does that of the version here: going on.")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with self._locked(), interruptible():
                self._program.tidy()  # one that was killed may have left half a folder
                try:
                    yield
                finally:
                    self._program.tidy()
        except OSError as exc:
            where = exc.filename or self._program.entry.parent
            raise UpdateError(f"{where} cannot be used: {exc.strerror}") from exc

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._program.lock_file, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
        try:
            try:
                lock(descriptor)
            except BlockingIOError:
                raise UpdateError("another update of this program is going on") from None
            yield
        finally:
            os.close(descriptor)
