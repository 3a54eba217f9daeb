"""What carries out runs in containers, where there is an engine for them."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from executor.bootstrap.home import Home
from executor.bootstrap.runs import Means
from executor.config.local import LocalSettings
from executor.delivery.run_rows import RunRecord
from executor.signals import StopSignals
from executor.tasks.in_process import InProcessRunHandler
from executor.tasks.run_handler import Run, RunHandler
from shared.containers.address import missing_socket
from shared.errors import ConfigError
from shared.logging import get_logger
from shared.protocol.events import RunKey, RunRef

logger = get_logger("containers")


@dataclass(frozen=True, slots=True)
class Handlers:
    """What carries runs out.

    Attributes:
        handler: Has every run where it belongs.
        living: The runs of an earlier process that have gone on in their containers.
    """

    handler: RunHandler
    living: dict[RunKey, Run]


@asynccontextmanager
async def with_containers(
    in_process: InProcessRunHandler,
    settings: LocalSettings,
    means: Means,
    home: Home,
    records: Sequence[RunRecord],
    stop: StopSignals,
    *,
    unfinished: Callable[[], Iterable[RunRef]],
    follow: Callable[[Mapping[RunKey, Run]], None],
) -> AsyncIterator[Handlers]:
    """*in_process*, and beside it a handler for containers, where there is an engine.

    At the end, containers of runs that go on are left alone, and all others removed.

    Args:
        records: The runs that an earlier process has left.
        unfinished: The runs without a verdict, once there is a supervisor.
        follow: Has those runs followed which an engine that was away turns out to have.
    """
    if settings.isolation != "container" and await asyncio.to_thread(_has_none, means):
        yield Handlers(in_process, {})
        return
    module = await asyncio.to_thread(importlib.import_module, "executor.bootstrap.container_runs")
    with_engine: AbstractAsyncContextManager[Handlers] = module.container_handlers(
        in_process, settings, means, home, records, stop, unfinished=unfinished, follow=follow
    )
    async with with_engine as handlers:
        yield handlers


def _has_none(means: Means) -> bool:
    """Whether there is no engine, which many machines have not; the availability says why."""
    try:
        socket = missing_socket(means.environ)
    except ConfigError as exc:
        problem = str(exc)
    else:
        if socket is None:
            return False
        problem = f"no Docker engine listens at {socket}"
    means.isolation.containers.problem = problem
    logger.debug("there are no containers: %s", problem)
    return True
