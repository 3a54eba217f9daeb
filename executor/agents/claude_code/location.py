"""Which Claude Code this executor runs: where it was found, or why there is none."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from executor.agents.claude_code.cli_version import Unusable, VersionMemory
from executor.agents.claude_code.install_places import (
    how_to_get,
    on_search_path,
    program_name,
    usual_places,
)
from executor.agents.claude_code.unpacking import UnpackError, never, unpack
from executor.packaged.carried_cli import carried_cli

LOWEST_VERSION: Final = (2, 1, 318)
"""Measured: the tests of the agent, its permissions and its sandbox pass with it. Before 2.1.317
the CLI does not know hooks that block when they fail, and the SDK does not connect to it; before
2.1.248 ``@/path`` in a prompt would read that file past every permission."""


class Origin(StrEnum):
    """Where a CLI was looked for, in the order of the search."""

    SETTING = "WEGENT_CLAUDE_PATH"
    CARRIED = "carried by this program"
    SDK = "part of claude-agent-sdk"
    PATH = "on PATH"
    INSTALLED = "in a usual place"


@dataclass(frozen=True, slots=True)
class Claude:
    """A CLI that has told its version, which is recent enough."""

    path: Path
    version: str
    """Like ``2.1.329``."""
    origin: Origin


@dataclass(frozen=True, slots=True)
class Skipped:
    """A CLI that was looked at and cannot be used."""

    path: Path
    origin: Origin
    reason: str
    """Follows the path in a sentence: ``is 1.0.51, and 2.1.318 or newer is needed``."""


@dataclass(frozen=True, slots=True)
class ClaudeSearch:
    """What a search has found."""

    claude: Claude | None
    """``None``: nothing usable; see :attr:`problem`."""
    skipped: tuple[Skipped, ...]
    """What came before it, or all there was."""
    remedy: str
    """How to get Claude Code on this platform: what to type, in one line."""

    @property
    def problem(self) -> str | None:
        """Why there is no CLI to run, in one sentence; ``None``: there is one."""
        if self.claude is not None:
            return None
        found = "; ".join(f"{one.path} ({one.origin}) {one.reason}" for one in self.skipped)
        return f"Claude Code was not found: {found}" if found else "Claude Code was not found"


def find_claude(
    named: Path | None,
    home: Path,
    environ: Mapping[str, str],
    *,
    program: Path | None = None,
    stopping: Callable[[], bool] = never,
) -> ClaudeSearch:
    """Look for a CLI that can be used, and take the first.

    Starts programs, for some milliseconds as a rule, and unpacks a carried CLI, for some seconds,
    when that has not been done: not for the event loop.

    When the operator has named one, no other is looked at.

    Args:
        named: The value of ``WEGENT_CLAUDE_PATH``, or ``None``.
        home: The executor's home; the carried CLI is unpacked there, and versions are remembered.
        environ: The executor's own environment, for ``PATH`` and the user's folders.
        program: The executable that may carry a CLI; ``None`` means this one.
        stopping: Asked while unpacking: whether to give that up.
    """
    memory = VersionMemory(home / "cache" / "claude-versions.json")
    claude = None
    skipped: list[Skipped] = []
    for origin, path in _candidates(named, home, environ, program, stopping, skipped):
        try:
            version = memory.version_of(path, environ)
        except Unusable as exc:
            skipped.append(Skipped(path, origin, str(exc)))
            continue
        if _numbers(version) >= LOWEST_VERSION:
            claude = Claude(path, version, origin)
            break
        lowest = ".".join(map(str, LOWEST_VERSION))
        skipped.append(Skipped(path, origin, f"is {version}, and {lowest} or newer is needed"))
    memory.save()
    remedy = how_to_get() if named is None else f"correct {Origin.SETTING}, or remove it"
    return ClaudeSearch(claude, tuple(skipped), remedy)


def bundled_claude() -> Path | None:
    """The CLI in the SDK's wheel; ``None`` when it has none, as in the packaged executor."""
    spec = importlib.util.find_spec("claude_agent_sdk")  # finds without importing
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "_bundled" / program_name()
    return path if path.is_file() else None


def _candidates(
    named: Path | None,
    home: Path,
    environ: Mapping[str, str],
    program: Path | None,
    stopping: Callable[[], bool],
    skipped: list[Skipped],
) -> Iterator[tuple[Origin, Path]]:
    """What is there to be looked at, each once; adds to *skipped* a carried one that is unusable.

    The carried one is unpacked when its turn comes.
    """
    if named is not None:
        yield Origin.SETTING, named
        return
    try:
        if (carried := carried_cli(program)) is not None:
            yield Origin.CARRIED, unpack(carried, home, stopping)
    except (OSError, UnpackError) as exc:
        reason = f"cannot be read: {exc.strerror}" if isinstance(exc, OSError) else str(exc)
        skipped.append(Skipped(program or Path(sys.executable), Origin.CARRIED, reason))
    if (bundled := bundled_claude()) is not None:
        yield Origin.SDK, bundled
    seen = set()
    installed = [
        *((Origin.PATH, path) for path in on_search_path(environ)),
        *((Origin.INSTALLED, path) for path in usual_places(environ)),
    ]
    for origin, path in installed:
        real = os.path.realpath(path)
        if os.path.lexists(path) and real not in seen:
            seen.add(real)
            yield origin, path


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))
