"""What the system tells about memory: how much is left, and how often it has killed for want of it.

Inside a container or a service with a limit of its own, that limit counts as well as the machine.
All functions read a few small files that are no files: about 0.2 ms, but not for the event loop.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import psutil

SHORT_SHARE: Final = 0.1
SHORT_AT_LEAST: Final = 256 * 2**20
SHORT_AT_MOST: Final = 2**30
"""Memory is short below a tenth of all, but never before less than 1 GiB is left: that is what the
next agent (225 MB) needs together with a compiler or a test suite of its own. And always when not
even one more agent fits."""

RELIEF: Final = 2.0
"""It stays short until so many times as much is left. Ending three agents gives back some 675 MB:
with a smaller factor that alone would end the shortage, and they would be kept again at once."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: what can still be used without swapping, and all there is."""

    available: int
    total: int

    def short(self, factor: float = 1.0) -> bool:
        """Whether less is left than *factor* times the threshold."""
        threshold = min(max(self.total * SHORT_SHARE, SHORT_AT_LEAST), SHORT_AT_MOST)
        return self.available < threshold * factor


class MemoryGauge(Protocol):
    """Tells how much memory there is."""

    def read(self) -> list[Memory]:
        """That of the machine, and of every limit that this process is under; blocks."""
        ...


class MemoryPressure:
    """Whether memory is short, without going to and fro around the threshold."""

    def __init__(self, gauge: MemoryGauge) -> None:
        self._gauge = gauge
        self._short = False

    def check(self) -> bool:
        """Look; blocks for a moment."""
        factor = RELIEF if self._short else 1.0
        self._short = any(memory.short(factor) for memory in self._gauge.read())
        return self._short


class SystemMemory:
    """The memory of this system: ``/proc`` and control groups on Linux, psutil elsewhere."""

    def __init__(self, root: Path | None = None) -> None:
        """*root* is where ``proc`` and ``sys/fs/cgroup`` of a Linux are; ``None``: this system."""
        if root is None and sys.platform == "linux":
            root = Path("/")
        self._root = root

    def read(self) -> list[Memory]:
        """See :class:`MemoryGauge`. What cannot be read is left out."""
        if self._root is None:
            machine = psutil.virtual_memory()
            return [Memory(machine.available, machine.total)]
        found = [_of_machine(self._root), *(group.memory() for group in _groups(self._root))]
        return [memory for memory in found if memory is not None]

    def oom_kills(self) -> int | None:
        """How many processes of this one's control group the kernel has killed for want of memory.

        ``None``: this system does not say. Kills elsewhere on the machine do not count.
        """
        if self._root is None:
            return None
        own = next(iter(_groups(self._root)), None)
        return own.oom_kills() if own is not None else None


@dataclass(frozen=True, slots=True)
class _Group:
    """One control group; the names of its files are those of its version."""

    path: Path
    limits: tuple[str, ...]
    usage: str
    reclaimable: str
    events: str

    def memory(self) -> Memory | None:
        """``None``: it has no limit of its own."""
        limits = [limit for name in self.limits if (limit := _number(self.path / name)) is not None]
        used = _number(self.path / self.usage)
        if not limits or used is None:
            return None
        # Cached files are counted as used, but are given up before anything else is.
        cached = _table(self.path / "memory.stat").get(self.reclaimable, 0)
        return Memory(min(limits) - used + cached, min(limits))

    def oom_kills(self) -> int | None:
        return _table(self.path / self.events).get("oom_kill")


def _groups(root: Path) -> Iterator[_Group]:
    """The control group of this process, and those around it."""
    mount = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            for folder in _upwards(mount / "memory", path):
                yield _Group(
                    folder,
                    limits=("memory.limit_in_bytes",),
                    usage="memory.usage_in_bytes",
                    reclaimable="total_inactive_file",
                    events="memory.oom_control",
                )
        elif not controllers:
            for folder in _upwards(mount, path):
                yield _Group(
                    folder,
                    limits=("memory.max", "memory.high"),
                    usage="memory.current",
                    reclaimable="inactive_file",
                    events="memory.events",
                )


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """The folder of the group *path* and those above it, as far as they can be seen from here.

    In a container the path may be that of the host, and the mount show the container's own.
    """
    names = [name for name in path.split("/") if name]
    if ".." in names:
        names = []
    for length in range(len(names), -1, -1):
        folder = mount.joinpath(*names[:length])
        if any((folder / name).exists() for name in ("memory.stat", "memory.events")):
            yield folder


def _of_machine(root: Path) -> Memory | None:
    table = _table(root / "proc/meminfo")
    try:
        return Memory(table["MemAvailable:"] * 1024, table["MemTotal:"] * 1024)
    except KeyError:
        return None


def _table(path: Path) -> dict[str, int]:
    """The lines ``name number …`` of a file; empty when there is none."""
    table = {}
    for line in _text(path).splitlines():
        with suppress(ValueError):
            name, number = line.split()[:2]
            table[name] = int(number)
    return table


def _number(path: Path) -> int | None:
    """What a file says; ``None`` for ``max``, or no file."""
    try:
        return int(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
