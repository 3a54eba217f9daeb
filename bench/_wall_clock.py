"""A wall clock of one process that can be stepped, while the machine's and all others stay right.

A small library is compiled and preloaded; it shifts what the process and its libraries, SQLite
too, see of the time. What is unrealistic: times of files stay those of the machine.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_name("clock_shift.c")


class NoCompiler(Exception):
    """This machine cannot build the library."""


class WallClock:
    """The clock of one program; give it :attr:`environment`. Blocks for a moment when made."""

    def __init__(self, place: Path, name: str) -> None:
        """Build what is needed in the folder *place*.

        Raises:
            NoCompiler: There is no C compiler.
        """
        compiler = shutil.which("cc")
        if compiler is None:
            raise NoCompiler("there is no cc")
        library = place / "clock_shift.so"
        if not library.exists():
            options = ["-shared", "-fPIC", "-O1", "-o", str(library)]
            subprocess.run([compiler, *options, str(_SOURCE)], check=True)
        self._file = place / f"{name}.clock"
        self._file.write_bytes(struct.pack("=q", 0))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(self._file)}

    def step(self, seconds: int) -> None:
        """Let it be so many seconds fast (negative: slow) from now on, restarts included."""
        with self._file.open("r+b", buffering=0) as file:
            file.write(struct.pack("=q", seconds))
