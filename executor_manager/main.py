"""Entry of the executor manager: ``python -m executor_manager.main``."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Final

from executor_manager.config import ManagerSettings, load_settings
from executor_manager.tokens import Tokens, first_steps, load_tokens, prepare_home
from shared.errors import ConfigError, WegentError
from shared.log_writer import LogFile
from shared.logging import configure_logging
from shared.redaction import Redactor
from shared.version import __version__
from shared.web.listening import bind, url_of

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
"""The operator must change something; starting again does not help."""

LOG_MAX_BYTES: Final = 10 * 1024 * 1024
LOG_BACKUPS: Final = 5

logger = logging.getLogger("executor_manager.main")  # also when it runs as __main__


def main(argv: Sequence[str] | None = None) -> int:
    """Run the manager until a signal ends it; returns the exit status."""
    try:
        _parser().parse_args(argv)
    except SystemExit as exc:  # --help, --version, unknown arguments
        return exc.code if isinstance(exc.code, int) else EXIT_USAGE
    os.umask(0o077)  # database and logs are this user's only
    try:
        settings = load_settings()
        prepare_home(settings.home)
        return _run(settings)
    except ConfigError as exc:
        return _fail(exc, EXIT_USAGE)
    except WegentError as exc:
        return _fail(exc, EXIT_FAILURE)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wegent-executor-manager",
        description="Takes tasks over HTTP and gives them to connected executors.",
        epilog="Settings are MANAGER_* variables, or lines of manager.env in MANAGER_HOME "
        "(~/.wegent-executor-manager).",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _fail(error: WegentError, status: int) -> int:
    print(f"wegent-executor-manager: {error}", file=sys.stderr)  # noqa: T201
    return status


def _run(settings: ManagerSettings) -> int:
    tokens = load_tokens(settings)
    redactor = Redactor(
        [
            tokens.api.get_secret_value(),
            tokens.executor.get_secret_value(),
            tokens.encryption_key.decode(),
        ]
    )
    logs = configure_logging(
        file=LogFile(settings.home / "logs" / "manager.log", LOG_MAX_BYTES, LOG_BACKUPS),
        level=settings.log_level,
        format=settings.log_format,
        redactor=redactor,
    )
    try:
        with bind(settings.host, settings.port, prefix="MANAGER_") as listener:
            if not settings.loopback_only:
                logger.warning(
                    "other machines can connect (MANAGER_HOST), without encryption: "
                    "put a proxy with TLS in front, and bind to 127.0.0.1"
                )
            return asyncio.run(serve(settings, tokens, redactor, listener))
    except WegentError:
        raise
    except Exception as exc:
        reason = str(exc).partition("\n")[0]
        logger.critical(
            "the manager cannot go on: %s: %s", type(exc).__name__, reason, exc_info=exc
        )
        return EXIT_FAILURE
    finally:
        logs.close()


async def serve(
    settings: ManagerSettings, tokens: Tokens, redactor: Redactor, listener: socket.socket
) -> int:
    """Run the manager in this process until a signal ends it; returns the exit status."""
    from executor_manager.app import open_manager
    from executor_manager.server import ManagerServer
    from shared.protocol.local import Payload
    from shared.protocol.part import Part, complete

    for base in (Part, Payload):
        complete(base)  # the first messages would hold the loop up for it
    async with open_manager(settings, tokens, redactor) as manager, asyncio.TaskGroup() as group:
        server = ManagerServer(manager)
        _stop_on_signals(server.stop)
        group.create_task(server.serve([listener]), name="server")
        await server.listening.wait()
        # What is loaded stays: a full collection that looked at it would stop everything for 80 ms.
        gc.freeze()
        url = url_of(listener)
        logger.info("executor manager %s listening on %s", __version__, url)
        # Programs wait for the first line; it comes when requests are answered.
        print(f"executor manager listening on {url}", flush=True)  # noqa: T201
        print(first_steps(tokens, url), flush=True)  # noqa: T201
    logger.info("executor manager stopped")
    return 0


def _stop_on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()

    def hand_over(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, hand_over)


if __name__ == "__main__":
    sys.exit(main())
