"""``wegent-executor completion``: a script by which a shell completes this command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from executor.commands.command import Command
from executor.commands.output import print_text
from executor.exit_status import ExitStatus
from executor.packaged.build_info import PROGRAM

if TYPE_CHECKING:
    import argparse

SHELLS: Final = ("bash", "zsh", "fish")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    from executor.commands.parser import build_parser
    from executor.completion import bash, fish, zsh
    from executor.completion.words import read_words

    make = {"bash": bash.script, "zsh": zsh.script, "fish": fish.script}[arguments.shell]
    print_text(make(PROGRAM, read_words(build_parser())))
    return ExitStatus.OK


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell that will read the script")


COMMAND: Final = Command(
    name="completion",
    help="print a script that completes commands and options in a shell",
    description=f"""\
Print a script that lets a shell complete {PROGRAM}'s commands, options and their values.

For bash, put into ~/.bashrc:

    eval "$({PROGRAM} completion bash)"

For zsh, put into ~/.zshrc, after compinit:

    source <({PROGRAM} completion zsh)

For fish, put into ~/.config/fish/config.fish:

    {PROGRAM} completion fish | source""",
    run=run,
    add_arguments=_add_arguments,
)
