"""What a scripted agent notes of itself, as it happens; see ``tests.fakes.scripted_cli.script``."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any


class Diary:
    """A named pipe in place of a file, so that nobody has to look again and again."""

    def __init__(self, path: Path) -> None:
        """Make it at *path*; needs a running loop, and to be closed."""
        self.path = path
        self._notes: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        os.mkfifo(path, 0o600)
        # Open for both, it waits for no writer and has no end when one leaves.
        self._file = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(self._file, self._read)

    async def expect(self, what: str) -> dict[str, Any]:
        """The next note of this kind; whatever came before it is passed over."""
        while True:
            note = await self._notes.get()
            if note["what"] == what:
                return note

    def close(self) -> None:
        """Read no more; the pipe vanishes."""
        asyncio.get_running_loop().remove_reader(self._file)
        self.path.unlink()  # first: an agent that opened it now would wait for a reader
        os.close(self._file)

    def _read(self) -> None:
        # Each note is one short write, and those are never torn.
        for line in os.read(self._file, 2**16).splitlines():
            self._notes.put_nowait(json.loads(line))
