"""``wegent-executor run``, and plain ``wegent-executor``: be an executor until told to stop."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from executor.commands.command import Command
from executor.exit_status import ExitStatus, describe, exit_status, root_cause
from shared.errors import WegentError

if TYPE_CHECKING:
    import argparse

    from executor.config.loading import Settings
    from executor.signals import StopSignals
    from shared.redaction import Redactor

Work: TypeAlias = "Callable[[StopSignals], Coroutine[Any, Any, int | None]]"
"""The whole executor until it ends; its exit status, ``None``: 0."""

STOP_WITHIN_S: Final = 30.0
"""How long a stop may take beyond the time that runs have to finish: agents that ignore signals
take 9 s, the last events 5 s."""

LAST_STEPS_S: Final = 7.0
"""After a second signal: how long ending the agents' processes may take. Those that ignore signals
take 6 s; what lived then would live on."""


def run(_arguments: argparse.Namespace) -> int:
    """Run the executor until it is told to stop; returns the exit status."""
    import asyncio
    import gc

    # What is imported stays: collections on the way would take a tenth of the start, for nothing.
    gc.disable()
    # structlog imports rich when it finds it: 30 ms and 4 MB for what only other commands use.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # makes its import fail

    from executor.bootstrap.process import prepare_process
    from executor.config.loading import load_settings
    from shared.logging import get_logger

    settings = load_settings()
    redactor, logs = prepare_process(settings)
    try:
        work = _work_of(settings, redactor)  # its imports are heavy: the settings come first

        # Later ones, too, need not look at it: a full one would stop everything for some 50 ms,
        # again and again.
        gc.freeze()
        gc.enable()
        # Not closed, which would wait for threads; and its signal handlers stay to the end.
        return asyncio.Runner().run(
            _serve(work, stop_within_s=settings.shutdown_grace_s + STOP_WITHIN_S)
        )
    except Exception as exc:  # noqa: BLE001  the outermost place: whatever it is, say it and end
        cause = root_cause(exc)
        expected = isinstance(cause, WegentError) and settings.lowest_level != "DEBUG"
        get_logger("cli").error(describe(cause), exc_info=None if expected else exc)
        return exit_status(cause)
    finally:
        logs.close()


def _work_of(settings: Settings, redactor: Redactor) -> Work:
    """The whole executor, in the mode that the settings are of."""
    from executor.config.local import LocalSettings

    if isinstance(settings, LocalSettings):
        from executor.bootstrap.local import run_local

        return functools.partial(run_local, settings, redactor=redactor)
    from executor.bootstrap.docker import run_docker

    return functools.partial(run_docker, settings, redactor=redactor)


async def _serve(work: Work, *, stop_within_s: float) -> int:
    """Carry out *work* until it ends, a second signal comes, or a stop takes too long."""
    import asyncio

    from executor.signals import StopSignals

    stop = StopSignals()
    stop.listen()
    working = asyncio.create_task(work(stop), name="executor")
    hurry = asyncio.create_task(_hurry(stop, stop_within_s), name="hurry")
    await asyncio.wait({working, hurry}, return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        hurry.cancel()
        return working.result() or ExitStatus.OK
    working.cancel()
    await asyncio.wait({working}, timeout=LAST_STEPS_S)
    return hurry.result()


async def _hurry(stop: StopSignals, stop_within_s: float) -> int:
    """Wait until work must be broken off; the exit status for that."""
    import asyncio

    from shared.logging import get_logger

    await stop.first.wait()
    try:
        async with asyncio.timeout(stop_within_s):
            await stop.second.wait()
    except TimeoutError:
        get_logger("cli").error("the stop has taken %g s and is broken off", stop_within_s)
        return ExitStatus.FAILURE
    return ExitStatus.INTERRUPTED


COMMAND: Final = Command(
    name="run",
    help="be an executor until told to stop (as without a command)",
    description="Take tasks and carry them out: from the backend that WEGENT_BACKEND_URL names "
    "(local mode), or, without one, over HTTP (docker mode). The first SIGINT or SIGTERM lets "
    "running tasks finish for LOCAL_SHUTDOWN_GRACE_SECONDS, a second one ends at once.",
    run=run,
)
