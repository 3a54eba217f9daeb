"""The files in which a Linux tells about memory, in a folder of the test's own."""

from __future__ import annotations

from pathlib import Path

GIB = 2**30


class FakeLinux:
    """``proc`` and ``sys/fs/cgroup`` below *root*; give *root* to ``SystemMemory``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.machine(available=30 * GIB, total=32 * GIB)
        self.own_group("/")

    def machine(self, *, available: int, total: int) -> None:
        """What the machine has; bytes."""
        self._write(
            "proc/meminfo",
            f"MemTotal:       {total // 1024} kB\nMemFree:        1024 kB\n"
            f"MemAvailable:   {available // 1024} kB\nHugePages_Total:       0\n",
        )

    def own_group(self, path: str, *, version: int = 2) -> None:
        """The control group that the process is in."""
        lines = {1: f"12:cpu,cpuacct:/\n4:memory:{path}\n0::/\n", 2: f"0::{path}\n"}
        self._write("proc/self/cgroup", lines[version])

    def group(
        self,
        path: str,
        *,
        limit: int | None = None,
        high: int | None = None,
        used: int = 0,
        cached: int = 0,
        oom_kills: int = 0,
    ) -> None:
        """A group of version 2; ``None``: no limit."""
        place = f"sys/fs/cgroup{path.rstrip('/')}"
        self._write(f"{place}/memory.max", f"{limit if limit is not None else 'max'}\n")
        self._write(f"{place}/memory.high", f"{high if high is not None else 'max'}\n")
        self._write(f"{place}/memory.current", f"{used}\n")
        self._write(f"{place}/memory.stat", f"anon 1\nfile 2\ninactive_file {cached}\n")
        self._write(
            f"{place}/memory.events", f"low 0\nhigh 0\nmax 0\noom 9\noom_kill {oom_kills}\n"
        )

    def old_group(
        self,
        path: str,
        *,
        limit: int = 2**63 - 4096,
        used: int = 0,
        cached: int = 0,
        kills: int = 0,
    ) -> None:
        """A group of version 1, whose highest number means no limit."""
        place = f"sys/fs/cgroup/memory{path.rstrip('/')}"
        self._write(f"{place}/memory.limit_in_bytes", f"{limit}\n")
        self._write(f"{place}/memory.usage_in_bytes", f"{used}\n")
        self._write(f"{place}/memory.stat", f"inactive_file 7\ntotal_inactive_file {cached}\n")
        self._write(
            f"{place}/memory.oom_control", f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"
        )

    def _write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # At once, as the real ones are: whoever reads meanwhile must not find it empty.
        unfinished = path.with_name(f".{path.name}")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
