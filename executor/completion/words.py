"""What may be typed, as a tree: read from the parser, so that it cannot drift from it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a command.

    Attributes:
        flags: ``-n`` and ``--lines``.
        choices: What may follow it, as far as that is known.
        takes_value: Whether something has to follow it.
        takes_file: Whether that is the name of a file.
    """

    flags: tuple[str, ...]
    help: str
    choices: tuple[str, ...] = ()
    takes_value: bool = False
    takes_file: bool = False


@dataclass(frozen=True, slots=True)
class Word:
    """The program, or a command, or an action of a command.

    Attributes:
        path: The words up to and with this one, without the program's.
        choices: What may stand as its argument.
    """

    path: tuple[str, ...]
    help: str
    options: tuple[Option, ...]
    choices: tuple[str, ...]
    words: tuple[Word, ...]

    @property
    def name(self) -> str:
        """The word itself; empty for the program."""
        return self.path[-1] if self.path else ""

    def all(self) -> Iterator[Word]:
        """This word and all below it."""
        yield self
        for word in self.words:
            yield from word.all()


def read_words(parser: argparse.ArgumentParser, path: tuple[str, ...] = (), help: str = "") -> Word:
    """The tree of what *parser* takes."""
    options: list[Option] = []
    choices: list[str] = []
    words: list[Word] = []
    for action in parser._actions:  # noqa: SLF001  argparse has no other list of them
        if action.help == argparse.SUPPRESS:
            continue
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            helps = {sub.dest: sub.help for sub in action._choices_actions}  # noqa: SLF001
            words += [
                read_words(sub, (*path, name), helps.get(name) or "")
                for name, sub in action.choices.items()
            ]
        elif action.option_strings:
            options.append(_option(action))
        else:
            choices += map(str, action.choices or ())
    return Word(path, help, tuple(options), tuple(choices), tuple(words))


def _option(action: argparse.Action) -> Option:
    takes_value = action.nargs != 0
    return Option(
        tuple(action.option_strings),
        action.help or "",
        tuple(map(str, action.choices or ())),
        takes_value,
        takes_value and "FILE" in str(action.metavar),
    )
