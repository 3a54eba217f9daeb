"""A disk of its own that can be filled and emptied: a tmpfs of limited size."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

BALLAST = "ballast"


class DiskNotPermitted(Exception):
    """This user, or this container, may not mount; the text says why."""


class SmallDisk:
    """A mounted disk; made by :func:`small_disk`."""

    def __init__(self, place: Path) -> None:
        self._ballast = place / BALLAST

    async def fill(self) -> None:
        """Leave not a byte free."""
        await asyncio.to_thread(self._fill)

    async def free(self) -> None:
        """Give back what :meth:`fill` has taken."""
        await asyncio.to_thread(self._ballast.unlink, missing_ok=True)

    def _fill(self) -> None:
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (2**20, 2**12, 1):
                try:
                    while True:
                        ballast.write(bytes(size))
                except OSError as exc:
                    if exc.errno != errno.ENOSPC:
                        raise


@asynccontextmanager
async def small_disk(place: Path, megabytes: int) -> AsyncGenerator[SmallDisk]:
    """A disk of this size at the folder *place*, which is made; taken away at the end.

    Raises:
        DiskNotPermitted: Nothing was mounted.
    """
    await asyncio.to_thread(lambda: place.mkdir(parents=True, exist_ok=True))
    options = f"size={megabytes}m,mode=0700"
    status, error = await _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place))
    if status != 0:
        raise DiskNotPermitted(error or f"mount: exit status {status}")
    try:
        yield SmallDisk(place)
    finally:
        await _run("umount", "--lazy", str(place))


async def _run(*command: str) -> tuple[int, str]:
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError:
        return 127, f"there is no {command[0]}"
    _, error = await process.communicate()
    return process.returncode or 0, error.decode(errors="replace").strip()
