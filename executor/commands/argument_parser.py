"""The parser of arguments, where argparse's own passes something over."""

from __future__ import annotations

import argparse
from typing import Any

from executor.commands.output import print_text
from executor.packaged.build_info import version_line


class ArgumentParser(argparse.ArgumentParser):
    """Tells of an output that cannot be written, and of unknown arguments where they stand.

    argparse says nothing of the first (``--help`` on a full disk would end as if it had worked),
    and shows for the second how the whole program is used, and not the command.
    """

    def print_help(self, file: Any = None) -> None:
        """Print the help.

        Raises:
            OutputFailed: It cannot be written.
            OutputClosed: Nobody reads it.
        """
        if file is None:
            print_text(self.format_help())
        else:
            super().print_help(file)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse; no argument is left over, since one that is not known ends the program."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, []


class Version(argparse.Action):
    """Prints the version and ends; raises as :meth:`ArgumentParser.print_help` does."""

    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Do it."""
        print_text(f"{version_line()}\n")
        parser.exit()
