"""Writes ``docs/commands/`` and ``docs/exit-status.md`` from the parser and the exit statuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from executor.commands.parser import build_parser
from executor.completion.words import Word, read_words
from executor.exit_status import ExitStatus
from executor.packaged.build_info import PROGRAM

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"

NOTE: Final = "<!-- Made by `make docs` from the program itself. -->"


def pages() -> dict[str, str]:
    """The text of every page, by its path in ``docs``."""
    root = read_words(build_parser())
    made = {f"commands/{word.name}.md": _command_page(word) for word in root.words}
    return made | {"commands/README.md": _index(root), "exit-status.md": _exit_statuses()}


def stale(docs: Path) -> list[str]:
    """The pages in *docs* that are not what :func:`pages` makes now, missing or left over."""
    made = pages()
    there = {f"commands/{path.name}" for path in docs.glob("commands/*.md")}
    return sorted(name for name in made.keys() | there if _read(docs / name) != made.get(name))


def write(docs: Path, made: Mapping[str, str]) -> None:
    """Write the pages, and remove those of commands that are gone."""
    (docs / "commands").mkdir(parents=True, exist_ok=True)
    for path in docs.glob("commands/*.md"):
        if f"commands/{path.name}" not in made:
            path.unlink()
    for name, text in made.items():
        (docs / name).write_text(text, encoding="utf-8")


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _index(root: Word) -> str:
    rows = [f"| [`{word.name}`]({word.name}.md) | {_cell(word.help)} |" for word in root.words]
    return _page(
        "Commands",
        root.description,
        _rows("Command", rows),
        f"`{PROGRAM}` without a command is `{PROGRAM} run`. How each ends: "
        "[exit statuses](../exit-status.md).",
    )


def _command_page(word: Word) -> str:
    parts = [*_about(word)]
    for action in word.words:
        parts += [f"## {' '.join(action.path)}", *_about(action)]
    return _page(
        f"{PROGRAM} {word.name}",
        *parts,
        "[All commands](README.md), [exit statuses](../exit-status.md)",
    )


def _about(word: Word) -> Iterator[str]:
    options = [option for option in word.options if "--help" not in option.flags]
    usage = [PROGRAM, *word.path, *(["[options]"] if options else [])]
    usage += ["ACTION"] if word.words else []
    usage += ["|".join(argument.choices) or argument.name for argument in word.arguments]
    yield f"```\n{' '.join(usage)}\n```"
    yield word.description or word.help
    if word.words:
        yield _rows(
            "Action",
            [
                f"| [`{action.name}`](#{'-'.join(action.path)}) | {_cell(action.help)} |"
                for action in word.words
            ],
        )
    if word.arguments:
        rows = [f"| `{argument.name}` | {_cell(argument.help)} |" for argument in word.arguments]
        yield _rows("Argument", rows)
    if options:
        rows = []
        for option in options:
            flags = ", ".join(f"`{flag}`" for flag in option.flags)
            value = f" `{option.value}`" if option.value else ""
            rows.append(f"| {flags}{_cell(value)} | {_cell(option.help)} |")
        yield _rows("Option", rows)


def _exit_statuses() -> str:
    rows = [f"| {status.value} | {status.meaning} |" for status in ExitStatus]
    return _page(
        "Exit statuses",
        f"How `{PROGRAM}` and its [commands](commands/README.md) end.",
        _rows("Status", rows),
    )


def _rows(heading: str, rows: list[str]) -> str:
    return "\n".join((f"| {heading} | |", "|---|---|", *rows))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((NOTE, f"# {title}", *parts)) + "\n"


if __name__ == "__main__":
    write(DOCS, pages())
