"""What may be typed, as a tree: read from the parser, so that nothing can drift from it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a command.

    Attributes:
        flags: ``-n`` and ``--lines``.
        value: What has to follow it, as ``N``; empty: nothing.
        choices: What may follow it, as far as that is known.
    """

    flags: tuple[str, ...]
    help: str
    value: str = ""
    choices: tuple[str, ...] = ()

    @property
    def takes_file(self) -> bool:
        """Whether what has to follow is the name of a file."""
        return "FILE" in self.value


@dataclass(frozen=True, slots=True)
class Argument:
    """What has to stand behind a command, without a flag.

    Attributes:
        choices: What it may be, as far as that is known.
    """

    name: str
    help: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Word:
    """The program, or a command, or an action of a command.

    Attributes:
        path: The words up to and with this one, without the program's.
        help: One line about it.
        description: All about it.
        words: What may follow it.
    """

    path: tuple[str, ...]
    help: str
    description: str
    options: tuple[Option, ...]
    arguments: tuple[Argument, ...]
    words: tuple[Word, ...]

    @property
    def name(self) -> str:
        """The word itself; empty for the program."""
        return self.path[-1] if self.path else ""

    @property
    def choices(self) -> list[str]:
        """What its arguments may be."""
        return [choice for argument in self.arguments for choice in argument.choices]

    def all(self) -> Iterator[Word]:
        """This word and all below it."""
        yield self
        for word in self.words:
            yield from word.all()


def read_words(parser: argparse.ArgumentParser, path: tuple[str, ...] = (), help: str = "") -> Word:
    """The tree of what *parser* takes."""
    options: list[Option] = []
    arguments: list[Argument] = []
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
            name = str(action.metavar or action.dest)
            arguments.append(Argument(name, action.help or "", _choices(action)))
    description = parser.description or ""
    return Word(path, help, description, tuple(options), tuple(arguments), tuple(words))


def _option(action: argparse.Action) -> Option:
    value = "" if action.nargs == 0 else str(action.metavar or "|".join(_choices(action)))
    if action.nargs != 0 and not value:
        value = action.dest.upper()
    return Option(tuple(action.option_strings), action.help or "", value, _choices(action))


def _choices(action: argparse.Action) -> tuple[str, ...]:
    return tuple(map(str, action.choices or ()))
