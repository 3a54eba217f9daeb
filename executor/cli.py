"""The command ``wegent-executor``: settings in, exit status out.

Heavy imports wait until they are needed: ``--version`` and wrong arguments answer at once.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

from shared.errors import ConfigError, LinkRejected, WegentError
from shared.version import __version__

if TYPE_CHECKING:
    from executor.config import ExecutorSettings
    from executor.signals import StopSignals
    from shared.logging import Logs
    from shared.redaction import Redactor

PROGRAM: Final = "wegent-executor"

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
"""The operator must change something: a setting or an argument."""
EXIT_REJECTED: Final = 77
"""The backend refuses this executor: a supervisor must not start it again."""
EXIT_INTERRUPTED: Final = 130
"""A second signal has ended it at once."""

STOP_WITHIN_S: Final = 30.0
"""How long a stop may take beyond the time that runs have to finish: agents that ignore signals
take 9 s, the last events 5 s."""

LAST_STEPS_S: Final = 5.0
"""After a second signal: how long ending the agents' processes may take."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the executor until it is told to stop; return the exit status and never raise.

    Args:
        argv: Arguments without the program's name; ``None`` means those of this process.
    """
    try:
        _parser().parse_args(argv)
    except SystemExit as exc:  # argparse has said what there is to say
        return exc.code if isinstance(exc.code, int) else EXIT_USAGE
    try:
        return _run()
    except Exception as exc:  # noqa: BLE001  before there is a log
        sys.stderr.write(f"{PROGRAM}: {_sentence(exc)}\n")
        return _exit_status(exc)


def leave(status: int) -> NoReturn:
    """End the process now, without waiting for threads: a name lookup may take half a minute.

    For after :func:`main`, which has finished what must be.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # it may be missing, full or closed
            stream.flush()
    os._exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Run coding agents on this machine, for a backend that sends the tasks.",
        epilog="Settings come from environment variables and from config.env in "
        "~/.wegent-executor. At least WEGENT_BACKEND_URL and WEGENT_AUTH_TOKEN have to be set.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    return parser


def _run() -> int:
    import asyncio
    import gc

    from executor.config import load_settings
    from shared.logging import get_logger
    from shared.redaction import Redactor

    settings = load_settings()
    redactor = Redactor([*settings.secrets, *_inherited_credentials(os.environ)])
    logs = _open_logs(settings, redactor)
    try:
        from executor.bootstrap import run_local  # heavy, so only now that the settings are right

        # What is imported stays: a full collection that looked at it would stop everything for
        # some 50 ms, again and again.
        gc.freeze()
        # Not closed, which would wait for threads; and its signal handlers stay to the end.
        return asyncio.Runner().run(
            _serve(
                lambda stop: run_local(settings, stop, redactor),
                stop_within_s=settings.shutdown_grace_s + STOP_WITHIN_S,
            )
        )
    except Exception as exc:  # noqa: BLE001  the outermost place: whatever it is, say it and end
        cause = _cause(exc)
        expected = isinstance(cause, WegentError) and settings.log_level != "DEBUG"
        get_logger("cli").error(_sentence(cause), exc_info=None if expected else exc)
        return _exit_status(cause)
    finally:
        logs.close()


def _inherited_credentials(environ: Mapping[str, str]) -> Iterator[str]:
    """What an agent gets of the executor's own environment and nothing may show: logins."""
    from shared.protocol.credentials import named_credentials

    names = re.compile(r".*_PROXY|(ANTHROPIC|CLAUDE)_.*", re.IGNORECASE)
    return named_credentials({name: environ[name] for name in environ if names.fullmatch(name)})


def _open_logs(settings: ExecutorSettings, redactor: Redactor) -> Logs:
    from executor.config import exposed_config_file
    from shared.logging import LogFile, configure_logging, get_logger

    logs = configure_logging(
        file=LogFile(
            settings.log_dir / settings.log_file,
            max_bytes=settings.log_max_size_mb * 1_000_000,
            backups=settings.log_backup_count,
        ),
        level=settings.log_level,
        format=settings.log_format,
        redactor=redactor,
    )
    if file := exposed_config_file(settings.home):
        get_logger("cli").warning(
            "others can read %s, which holds secrets: chmod 600 %s", file, file
        )
    return logs


async def _serve(
    work: Callable[[StopSignals], Coroutine[Any, Any, None]], *, stop_within_s: float
) -> int:
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
        working.result()
        return 0
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
        return EXIT_FAILURE
    return EXIT_INTERRUPTED


def _cause(error: Exception) -> Exception:
    """The error to report: of a group, one that was raised on purpose before any other."""
    leaves = list(_leaves(error))
    return next((leaf for leaf in leaves if isinstance(leaf, WegentError)), leaves[0])


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _sentence(error: Exception) -> str:
    if isinstance(error, WegentError):
        return str(error)
    return f"an error that should not happen ends the executor: {type(error).__name__}: {error}"


def _exit_status(error: Exception) -> int:
    match error:
        case ConfigError():
            return EXIT_USAGE
        case LinkRejected():
            return EXIT_REJECTED
        case _:
            return EXIT_FAILURE
