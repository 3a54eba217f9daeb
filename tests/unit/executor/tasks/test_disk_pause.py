from __future__ import annotations

import asyncio

from executor.tasks.disk_pause import DiskPause
from executor.tasks.known_runs import AcceptedRun
from executor.tasks.run_execution import RunExecution
from shared.protocol.events import RunRef
from tests.fakes.supervised import Run, ignores, request


class Stubborn(Run):
    """What does not hear the first time that it may go on."""

    def __init__(self) -> None:
        super().__init__(request(), ignores)
        self.refusals = 1

    async def resume(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ConnectionError("the engine is away")
        await super().resume()


async def test_a_run_that_could_not_go_on_is_asked_again() -> None:
    run, entry, ended = Stubborn(), AcceptedRun(RunRef(1, 10)), asyncio.Event()
    entry.execution = RunExecution(
        run, names=entry.names, tell=lambda _: None, ended=ended.set, limit_s=None
    )
    disk = DiskPause(again_after_s=0.01)
    async with asyncio.timeout(30):
        disk.changed("home", "no space left", [entry])
        await run.paused.wait()
        disk.changed("home", None, [entry])
        await run.resumed.wait()
        entry.execution.park()
        await ended.wait()
    assert run.refusals == 0
