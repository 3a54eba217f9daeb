"""What a command of the program is."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple


class Command(NamedTuple):
    """A word of the command line, its arguments, and what carries it out.

    The modules of commands are all imported whenever the program starts: they import at their top
    what costs nothing, and in ``run`` what is heavy (settings, aiohttp, asyncio).

    Attributes:
        help: One line for the list of commands.
        description: What the command does, for its own ``--help`` and its page in the docs.
        add_arguments: Adds the arguments to the command's parser.
        run: Carries it out; returns the exit status. Raises
            :class:`~shared.errors.WegentError` with what the operator has to know.
    """

    name: str
    help: str
    description: str
    run: Callable[[argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None
