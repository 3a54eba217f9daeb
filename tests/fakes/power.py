"""A disk whose power can be cut: what was not written through to it is gone.

A file system in an image. What programs write stays in the page cache until they have it written
through, or the system does so after some seconds; only then it is in the image. So a copy of the
image is what a computer finds after its power was cut in this moment.
"""

from __future__ import annotations

import asyncio
import filecmp
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE_BYTES = 48 * 2**20


class Machine:
    """One disk, and whether it has power."""

    def __init__(self, folder: Path) -> None:
        self._image = folder / "image"
        self._left = folder / "left"
        self.disk = folder / "disk"
        self.disk.mkdir()
        with self._image.open("wb") as image:
            image.truncate(SIZE_BYTES)
        run("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount()
        run("sync", "--file-system", str(self.disk))

    async def cut_power(self) -> None:
        """Take note of what is left; what programs that still run do from now on is as nothing."""
        await asyncio.to_thread(self._copy)

    async def start_again(self) -> None:
        """Have on the disk what the cut has left; no program may use it any more."""
        await asyncio.to_thread(self._start_again)

    def _copy(self) -> None:
        # What is copied while the system writes mixes two moments, as no disk ever does. A copy
        # that equals the image afterwards was the image in the moment between.
        shutil.copyfile(self._image, self._left)
        while not filecmp.cmp(self._image, self._left, shallow=False):
            shutil.copyfile(self._image, self._left)

    def _start_again(self) -> None:
        run("umount", str(self.disk))
        # A new image: whatever sandbox or container was made meanwhile, by whomever, had this disk
        # for a moment, too, and until it lets go the system goes on writing into the old one.
        self._image = self._image.with_name(f"{self._image.name}-again")
        self._left.rename(self._image)
        self._mount()

    def _mount(self) -> None:
        # Its own ten minutes until it writes what nobody asked for: a slow test changes nothing.
        run("mount", "-o", "loop,commit=600", str(self._image), str(self.disk))


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """Skips the test where no disk may be mounted."""
    try:
        made = Machine(folder)
    except (OSError, subprocess.CalledProcessError) as exc:
        words = exc.stderr.strip() if isinstance(exc, subprocess.CalledProcessError) else exc
        pytest.skip(f"NOT TESTED, the loss of power: {words}")
    try:
        yield made
    finally:
        run("umount", "--lazy", str(made.disk))


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
