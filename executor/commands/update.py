"""``wegent-executor update``: put another version of this program into its place, or go back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from executor.commands.command import Command
from executor.config.home import executor_home
from executor.exit_status import ExitStatus
from shared.errors import ConfigError, WegentError

if TYPE_CHECKING:
    import argparse

    from executor.service.definition import ServiceKeeper
    from executor.updating.source import Progress
    from executor.updating.updater import Updater

_MEGABYTE: Final = 1_000_000


def run(arguments: argparse.Namespace) -> int:
    """Update this program, or go back to the version before."""
    import os

    from executor.config.loading import CONFIG_FILE
    from executor.network.access import NetworkAccess
    from executor.network.variables import adopt
    from executor.packaged.frozen import is_frozen
    from executor.updating.errors import UpdateError
    from executor.updating.source import Source

    if arguments.sha256 is not None and arguments.source is None:
        raise ConfigError("--sha256 belongs to --from")
    if not is_frozen():
        raise UpdateError(
            "this program runs from its source, which it cannot exchange",
            hint="type: git pull && uv sync",
        )
    home = executor_home()
    updater = _updater(home)
    if arguments.rollback:
        updater.roll_back(now=arguments.now)
        return ExitStatus.OK
    environ = dict(os.environ)
    adopt(home / CONFIG_FILE, environ)
    source = Source(arguments.source, sha256=arguments.sha256, network=NetworkAccess(environ))
    updater.update(source, now=arguments.now, progress=lambda: show_progress(sys.stderr))
    return ExitStatus.OK


def _updater(home: Path) -> Updater:
    from executor.service.steps import perform, run_program
    from executor.updating.handover import Handover
    from executor.updating.program import InstalledProgram
    from executor.updating.updater import Updater

    program = InstalledProgram.of(Path(sys.executable).resolve())
    handover = Handover(
        program, home, _keeper(), perform=partial(perform, run=run_program), say=say
    )
    return Updater(program, handover, say=say)


def say(text: str) -> None:
    """Tell the operator; where the terminal or the reader is gone, the update goes on."""
    from executor.commands.output import OutputClosed, print_line

    with suppress(OSError, OutputClosed):
        print_line(text)


def _keeper() -> ServiceKeeper | None:
    from executor.service.keeper import keeper_here

    try:
        return keeper_here()
    except WegentError:  # nothing looks after services here
        return None


@contextmanager
def show_progress(stream: TextIO) -> Iterator[Progress]:
    """A line that tells how much has come, where *stream* is a terminal."""
    if not stream.isatty():
        yield lambda _done, _total: None
        return
    shown = False

    def show(done: int, total: int | None) -> None:
        nonlocal shown
        of = f" of {total / _MEGABYTE:.1f}" if total is not None else ""
        stream.write(f"\r{done / _MEGABYTE:.1f}{of} MB")
        stream.flush()
        shown = True

    try:
        yield show
    finally:
        if shown:
            stream.write("\n")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--from",
        dest="source",
        metavar="FILE_OR_URL",
        help="the new version: a file or an http(s) address; the .tar.gz of a folder where the "
        "program is one",
    )
    what.add_argument(
        "--rollback", action="store_true", help="go back to the version before the last update"
    )
    parser.add_argument(
        "--sha256",
        metavar="HEX",
        help="its checksum; otherwise it is read from FILE_OR_URL.sha256",
    )
    parser.add_argument(
        "--now",
        action="store_true",
        help="stop the executor although tasks are running, or although it is not a service",
    )


COMMAND: Final = Command(
    name="update",
    help="put another version of this program into its place, or go back",
    description="Fetch another version, verify its checksum, try it out and put it into this "
    "program's place; the version before stays beside it, as <name>.previous. An executor that "
    "runs as a service is stopped, started again and watched until it has registered; when it "
    "does not, the version before comes back. The program never updates by itself.",
    run=run,
    add_arguments=_add_arguments,
)
