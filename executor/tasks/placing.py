"""PlacingRunHandler: each run goes to the handler whose walls it is to have."""

from __future__ import annotations

import asyncio

from executor.tasks.isolation import IsolationRules
from executor.tasks.run_handler import Run, RunHandler
from shared.protocol.execution import ExecutionRequest, Isolation


class PlacingRunHandler:
    """Decides between this process and a container; see the seam, :class:`RunHandler`."""

    def __init__(
        self, isolation: IsolationRules, in_process: RunHandler, containers: RunHandler
    ) -> None:
        """*in_process* has the runs without walls and those in a sandbox; closed with this."""
        self._isolation = isolation
        self._in_process = in_process
        self._containers = containers

    def check(self, request: ExecutionRequest) -> None:
        """Refuse what cannot be had, or what whoever would carry it out refuses."""
        self._place(request).check(request)

    def start(self, request: ExecutionRequest) -> Run:
        """Prepare a run where it belongs."""
        return self._place(request).start(request)

    async def close_session(self, task_id: int | str) -> None:
        """End what is kept for the session, wherever its runs were."""
        await asyncio.gather(
            self._in_process.close_session(task_id), self._containers.close_session(task_id)
        )

    def wind_down(self) -> None:
        """Begin to end everything that is kept."""
        self._in_process.wind_down()
        self._containers.wind_down()

    async def close(self) -> None:
        """End everything that is kept, and wait for its end."""
        await asyncio.gather(self._in_process.close(), self._containers.close())

    def _place(self, request: ExecutionRequest) -> RunHandler:
        if self._isolation.level(request) is Isolation.CONTAINER:
            return self._containers
        return self._in_process
