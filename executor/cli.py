"""The command line: what was typed in, exit status out.

Heavy imports wait until they are needed: ``--version`` and wrong arguments answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from executor import early_signals
from executor.commands import run
from executor.commands.output import OutputClosed, print_error
from executor.commands.parser import build_parser
from executor.exit_status import ExitStatus, describe, exit_status
from executor.packaged.build_info import PROGRAM
from executor.packaged.frozen import is_frozen
from shared.errors import WegentError


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out a command; return the exit status and never raise.

    Args:
        argv: Arguments without the program's name; ``None`` means those of this process.
    """
    try:
        return _carry_out(argv)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except OutputClosed:
        return ExitStatus.OK  # whoever read has what he wanted
    except Exception as exc:  # noqa: BLE001  the outermost place: whatever it is, say it and end
        print_error(f"{PROGRAM}: {describe(exc)}")
        if not isinstance(exc, WegentError):
            _show_where(exc)
        return exit_status(exc)


def _carry_out(argv: Sequence[str] | None) -> int:
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit as exc:  # argparse has said what there is to say
        return exc.code if isinstance(exc.code, int) else ExitStatus.USAGE
    if arguments.command is not run.COMMAND:
        early_signals.leave_to_python()
    if is_frozen():
        from executor.packaged.unpacked import live_with_loader  # shutil is not free

        live_with_loader()
    return int(arguments.command.run(arguments))


def _show_where(exc: Exception) -> None:
    """For whoever reports an error that should not happen: where it did."""
    if os.environ.get("LOG_LEVEL", "").upper() != "DEBUG":
        print_error("LOG_LEVEL=DEBUG in the environment shows where")
        return
    import traceback

    print_error("".join(traceback.format_exception(exc)).rstrip())


def leave(status: int) -> NoReturn:
    """End the process now, without waiting for threads: a name lookup may take half a minute.

    For after :func:`main`, which has finished what must be.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # it may be missing, full or closed
            stream.flush()
    os._exit(status)
