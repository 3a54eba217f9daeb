"""The stamp of a build: which sources it was made from, for which platform."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

MODULE: Final = "wegent_build"
"""What the built program imports to learn what it is; see ``executor/packaged/build_info.py``."""

_SYSTEMS: Final = {"darwin": "macos"}
_MACHINES: Final = {"amd64": "x86_64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one build from another of the same version.

    Attributes:
        commit: Short id, with ``+changes`` when files differ from it; ``unknown`` outside of git.
        platform: Such as ``linux-x86_64``, ``macos-arm64``, ``windows-x86_64``.
    """

    commit: str
    platform: str

    @classmethod
    def of(cls, root: Path) -> Self:
        """The stamp of a build of the checkout *root* on this machine."""
        return cls(
            commit=_commit(root),
            platform=platform_name(platform.system(), platform.machine()),
        )

    def write(self, folder: Path) -> None:
        """Make the module in *folder*."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{MODULE}.py").write_text(
            f"COMMIT = {self.commit!r}\nPLATFORM = {self.platform!r}\n", encoding="utf-8"
        )


def platform_name(system: str, machine: str) -> str:
    """One name for each platform, however its system calls itself."""
    system, machine = system.lower(), machine.lower()
    return f"{_SYSTEMS.get(system, system)}-{_MACHINES.get(machine, machine)}"


def _commit(root: Path) -> str:
    if not (root / ".git").exists():  # a folder within another checkout has not its commit
        return "unknown"
    try:
        commit = _git(root, "rev-parse", "--short=10", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+changes" if changed else commit


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
