"""What commands say: tables and colour on a terminal, plain aligned text elsewhere, or JSON.

Text may come from anywhere (names of tasks, lines of a log): nothing in it can move the cursor or
colour the terminal. ``NO_COLOR`` and ``TERM=dumb`` are respected.
"""

from __future__ import annotations

import io
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from shared.errors import WegentError

if TYPE_CHECKING:
    from rich.table import Table

Style = Literal["good", "warning", "bad", "dim", "strong"]
"""What a text means; a terminal shows it as a colour."""


class Styled(NamedTuple):
    """A text and its meaning; the meaning is lost where there is no colour."""

    text: str
    style: Style


Cell = str | Styled

_LOOKS: Final[dict[Style, str]] = {
    "good": "32",
    "warning": "33",
    "bad": "1;31",
    "dim": "2",
    "strong": "1",
}
"""What each style is in a terminal's own words (SGR)."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


_NARROWEST: Final = 8
"""Columns of a table that have fewer places are hard to read."""

_NARROWEST_TERMINAL: Final = 20
"""One that has fewer places, or says so, breaks lines itself: there would be none for the text."""


class OutputClosed(Exception):
    """Nobody reads what is written any more, as after ``wegent-executor logs | head``."""


class OutputFailed(WegentError):
    """What was to be printed cannot be written, as to a file on a full disk."""

    code = "output_failed"


def on_terminal() -> bool:
    """Whether somebody looks at the output as it comes."""
    able = os.environ.get("TERM") not in {"dumb", "unknown"}
    return able and sys.stdout is not None and sys.stdout.isatty()


def print_line(*cells: Cell) -> None:
    """Print one line, made of *cells* as they stand, whatever its length."""
    _write(f"{''.join(map(_looking, cells))}\n")


def print_lines(lines: Iterable[Cell]) -> None:
    """Print many lines, as :func:`print_line` does, and hand them on together."""
    _write("".join(f"{_looking(line)}\n" for line in lines))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, unbroken: int = 0
) -> None:
    """Print a table: as wide as the terminal at most, or plain, one row a line.

    A terminal that is too narrow for columns gets one row below the other, each with its headings.

    Args:
        columns: Headings; when all are empty, there is no heading.
        unbroken: How many columns, from the left, a narrow terminal breaks last: what is in them is
            there to be copied.
    """
    if on_terminal():
        _print_on_terminal(columns, list(rows), unbroken)
        return
    table = [[_text_of(cell).replace("\n", " ") for cell in row] for row in rows]
    if any(columns):
        table.insert(0, [heading.upper() for heading in columns])
    _write("".join(f"{line}\n" for line in _aligned(table)))


def print_text(text: str) -> None:
    """Print *text* of our own as it is."""
    _write(text)


def print_json(document: object) -> None:
    """Print one JSON document; with ``--json`` nothing else goes to standard output."""
    import json

    _write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def warn(text: str) -> None:
    """Say on standard error what the reader should know and what ends nothing."""
    print_error(f"wegent-executor: warning: {text}")


def print_error(text: str) -> None:
    """Write *text* to standard error; where that cannot be, the exit status has to do."""
    with suppress(AttributeError, OSError, ValueError):  # it may be missing, full or closed
        sys.stderr.write(f"{_escape(text)}\n")
        sys.stderr.flush()


def wait_for_reader(seconds: float = 0.25) -> None:
    """Pause before there may be more to print.

    Raises:
        OutputClosed: Nobody will read it.
    """
    import select

    if not hasattr(select, "poll"):
        time.sleep(seconds)
        return
    reader = select.poll()
    reader.register(sys.stdout, 0)  # nothing but that the other end is closed
    if reader.poll(seconds * 1000):
        raise OutputClosed


def _print_on_terminal(
    columns: Sequence[str], rows: Sequence[Sequence[Cell]], unbroken: int
) -> None:
    import shutil

    from rich.console import Console

    width = max(shutil.get_terminal_size().columns, _NARROWEST_TERMINAL)
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    headings: list[Cell] = [Styled(heading, "strong") for heading in columns]
    with console.capture() as capture:  # written by ourselves: rich would end the process itself
        if _fits(columns, rows, unbroken, width):
            console.print(_rich_table(columns, rows, unbroken))
        else:
            for number, row in enumerate(rows):
                if number:
                    console.print()
                console.print(_rich_table(("", ""), zip(headings, row, strict=True), 1))
    # Without the blanks up to a column's width: a terminal made narrower would break lines at them.
    _write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


def _fits(
    columns: Sequence[str], rows: Sequence[Sequence[Cell]], unbroken: int, width: int
) -> bool:
    """Whether a terminal *width* columns wide can show a table with headings so that it is read."""
    from rich.cells import cell_len

    if not rows or not any(columns):
        return True
    texts = [list(columns), *([_text_of(cell) for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*texts, strict=True)]
    needed = [
        each if place < unbroken else min(each, _NARROWEST) for place, each in enumerate(widths)
    ]
    return sum(needed) + 2 * (len(needed) - 1) <= width


def _rich_table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], unbroken: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="none")
    table.show_header = any(columns)
    for place, heading in enumerate(columns):
        title = Text.from_ansi(_looking(Styled(heading, "strong")))
        table.add_column(title, overflow="fold", no_wrap=place < unbroken)
    for row in rows:
        table.add_row(*(Text.from_ansi(_looking(cell)) for cell in row))
    return table


def _aligned(table: Sequence[Sequence[str]]) -> Iterable[str]:
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (
            text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()


def _looking(cell: Cell) -> str:
    """The text with its style, where styles can be seen and are wanted."""
    text = _text_of(cell)
    if not isinstance(cell, Styled) or not on_terminal() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_LOOKS[cell.style]}m{text}\x1b[0m"


def _text_of(cell: Cell) -> str:
    return _escape(cell.text if isinstance(cell, Styled) else cell)


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def _write(text: str) -> None:
    if sys.stdout is None:
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that is not UTF-8, or a terminal that cannot show all, must not cost the line.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise OutputClosed from None
    except OSError as exc:
        raise OutputFailed(f"the output cannot be written: {exc.strerror or exc}") from exc
