"""``wegent-executor logs``: the log, with its rotated files, as one."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from executor.commands.command import Command
from executor.commands.output import Cell, Style, Styled, print_lines, wait_for_reader, warn
from executor.exit_status import ExitStatus

if TYPE_CHECKING:
    from executor.log_entries import LogEntry

LAST: Final = 100
"""How many entries are shown unless told otherwise: a few screens."""

_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_LOOKS: Final[dict[str, Style]] = {
    "DEBUG": "dim",
    "WARNING": "warning",
    "ERROR": "bad",
    "CRITICAL": "bad",
}


def run(arguments: argparse.Namespace) -> int:
    """Print the entries that are asked for."""
    from executor.config.sources import load_right_settings
    from executor.log_files import LogFiles
    from shared.errors import WegentError

    settings, _ = load_right_settings()
    path = settings.log_dir / settings.log_file

    def wanted(entry: LogEntry) -> bool:
        return (arguments.task is None or arguments.task in entry.ids) and (
            arguments.level is None or entry.is_at_least(arguments.level)
        )

    try:
        with LogFiles(path) as files:
            if not files.any:
                if not arguments.follow:
                    raise WegentError(
                        f"there is no log at {path}",
                        hint="an executor writes it once it runs with this home; "
                        "`wegent-executor config` shows what decides the place",
                    )
                warn(f"there is no log at {path} yet")
            entries = files.last(arguments.lines, wanted)
            print_lines(line for entry in entries for line in _lines(entry))
            if arguments.follow:
                for entry in files.follow(wanted, pause=wait_for_reader):
                    print_lines(_lines(entry))
            elif not entries and arguments.lines != 0:
                warn(f"{path} has no entries like that")
    except OSError as exc:
        raise WegentError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    return ExitStatus.OK


def _lines(entry: LogEntry) -> list[Cell]:
    look = _LOOKS.get(entry.level)
    return [Styled(line, look) if look else line for line in entry.lines]


def _count(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be a number of entries, or `all`")
    return min(int(text), sys.maxsize)  # more than that cannot be counted, nor is there


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with what is logged from now on"
    )
    parser.add_argument(
        "-n",
        "--lines",
        type=_count,
        default=LAST,
        metavar="N",
        help=f"show the last N entries, or `all` (default: {LAST}); a traceback belongs to its "
        "entry and does not count",
    )
    parser.add_argument(
        "--task", metavar="ID", help="only what is about this task or subtask, or TASK/SUBTASK"
    )
    parser.add_argument(
        "--level", type=str.upper, choices=_LEVELS, help="only what is at least as grave"
    )


COMMAND: Final = Command(
    name="logs",
    help="show the log",
    description="Show the executor's log, the rotated files included, whether it runs or not. "
    "Works for LOG_FORMAT=text and json. On a terminal, colours tell the levels.",
    run=run,
    add_arguments=_add_arguments,
)
