"""Lines of ``config.env`` that set nothing, since nobody can tell what they would set."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from dotenv.parser import parse_stream

# It would tell of each line in words of its own, every time the file is read.
logging.getLogger("dotenv").setLevel(logging.ERROR)


def broken_lines(file: Path) -> list[str]:
    """A sentence about each of them; none when there is no file, or it cannot be read. Blocks."""
    numbers: list[int] = []
    with suppress(OSError, UnicodeDecodeError), file.open(encoding="utf-8") as lines:
        numbers = [binding.original.line for binding in parse_stream(lines) if binding.error]
    return [
        f"line {number} of {file} has no effect: it is no KEY=value, or a quote in it has no end"
        for number in numbers
    ]
