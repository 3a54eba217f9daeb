"""The task that an executor is started with, and whether its verdict ends the executor."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from executor.delivery.event_log import EventLog
from executor.modes.docker.callbacks import Callbacks
from executor.modes.docker.runs import Runs
from shared.errors import ConfigError, ProtocolError, Refusal
from shared.logging import get_logger
from shared.protocol.http import CallbackTarget, Task, read_seed_task, read_task

logger = get_logger("task_executor")

SETTLE_WITHIN_S: Final = 60.0
"""How long an executor that ends with its task waits for the receiver of its callbacks."""


@dataclass(frozen=True, slots=True)
class FirstTask:
    """What ``TASK_INFO`` says.

    Attributes:
        ends: Whether the executor ends with the task's verdict.
    """

    task: Task
    ends: bool

    @classmethod
    def read(cls, raw: Mapping[str, Any], default: CallbackTarget | None) -> Self:
        """Read it: the body of either way to give a task, and ``exit_on_completion``.

        *default* is where it is told of when it names no address.

        Raises:
            ConfigError: It cannot be used; never shows a value.
        """
        ends = raw.get("exit_on_completion", False)
        if not isinstance(ends, bool):
            raise ConfigError("TASK_INFO: exit_on_completion: must be true or false")
        try:
            reader = read_seed_task if "session_id" in raw else read_task
            return cls(reader(dict(raw), default=default), ends)
        except ProtocolError as exc:
            raise ConfigError(f"TASK_INFO: {exc.message}", hint=exc.hint) from None

    async def start(self, runs: Runs) -> None:
        """Have it carried out, as if it had come over HTTP.

        A repeat, after a restart, goes on with the run or starts nothing.

        Raises:
            Refusal: It is not taken, and the executor was to end with it.
        """
        try:
            await runs.execute(self.task)
        except Refusal as exc:
            if self.ends:
                raise
            logger.error("TASK_INFO is not carried out: %s", exc.message)  # noqa: TRY400

    async def completed(self, log: EventLog, callbacks: Callbacks) -> bool:
        """Wait for the verdict, and until it has been told; whether it is ``completed``."""
        key = self.task.request.run.key
        with log.hub.follow(key[0]) as changed:
            while True:
                await changed.wait()
                standing = await log.standing(key[0])
                if standing is not None and standing.verdict is not None:
                    break
        logger.info("the task has ended: %s", standing.state)
        try:
            async with asyncio.timeout(SETTLE_WITHIN_S):
                await callbacks.wait_settled(key)
        except TimeoutError:
            logger.warning("the receiver of callbacks has not taken all of them")
        return standing.state == "completed"
