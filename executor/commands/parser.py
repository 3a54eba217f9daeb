"""Everything that may be typed: the parser, made of the commands."""

from __future__ import annotations

from typing import Final

from executor.commands import (
    bundle,
    cancel,
    completion,
    config,
    doctor,
    logs,
    run,
    service,
    status,
    tasks,
    update,
)
from executor.commands.argument_parser import ArgumentParser, Version
from executor.commands.command import Command
from executor.commands.help_format import HelpFormatter
from executor.packaged.build_info import PROGRAM

COMMANDS: Final[tuple[Command, ...]] = (
    run.COMMAND,
    status.COMMAND,
    tasks.COMMAND,
    cancel.COMMAND,
    doctor.COMMAND,
    config.COMMAND,
    logs.COMMAND,
    bundle.COMMAND,
    service.COMMAND,
    update.COMMAND,
    completion.COMMAND,
)
"""In the order in which ``--help`` lists them."""


def build_parser() -> ArgumentParser:
    """The parser; what it returns has ``command``, the :class:`Command` to carry out."""
    parser = ArgumentParser(
        prog=PROGRAM,
        description="Run coding agents on this machine, for whoever sends the tasks.",
        epilog="Settings come from environment variables and from config.env in "
        "~/.wegent-executor. With WEGENT_BACKEND_URL and WEGENT_AUTH_TOKEN it takes tasks from "
        "that backend, without both it serves HTTP on PORT (10001).",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=Version, help="show the version and exit")
    parser.set_defaults(command=run.COMMAND)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name,
            help=command.help,
            description=command.description,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )
        sub.set_defaults(command=command)
        if command.add_arguments is not None:
            command.add_arguments(sub)
    return parser
