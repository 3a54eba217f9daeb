"""Which Claude Code this executor runs: where it was found, or why there is none."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

LOWEST_VERSION: Final = (2, 1, 248)
"""The first that takes prompts as they are. In older ones, ``@/path`` in a prompt reads that file
past every permission. Source: ``VERBATIM_PROMPTS_MINIMUM_CLAUDE_CODE_VERSION`` of the SDK, whose
own minimum is 2.0.0."""


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
    """Follows the path in a sentence: ``is 1.0.51, and 2.1.248 or newer is needed``."""


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


def find_claude(named: Path | None, home: Path, environ: Mapping[str, str]) -> ClaudeSearch:
    """Look for a CLI that can be used. Starts programs and may unpack one: not for the event loop.

    When the operator has named one, no other is looked at.

    Args:
        named: The value of ``WEGENT_CLAUDE_PATH``, or ``None``.
        home: The executor's home; the carried CLI is unpacked there, and versions are remembered.
        environ: The executor's own environment, for ``PATH`` and the user's folders.
    """
    remedy = "curl -fsSL https://claude.ai/install.sh | bash"
    if named is not None:
        return ClaudeSearch(Claude(named, "", Origin.SETTING), (), remedy)
    bundled = bundled_claude()
    if bundled is not None:
        return ClaudeSearch(Claude(bundled, "", Origin.SDK), (), remedy)
    found = shutil.which("claude", path=environ.get("PATH"))
    claude = Claude(Path(found), "", Origin.PATH) if found else None
    return ClaudeSearch(claude, (), remedy)


def bundled_claude() -> Path | None:
    """The CLI in the SDK's wheel; ``None`` when it has none, as in the packaged executor."""
    spec = importlib.util.find_spec("claude_agent_sdk")  # finds without importing
    if spec is None or spec.origin is None:
        return None
    name = "claude.exe" if sys.platform == "win32" else "claude"
    path = Path(spec.origin).parent / "_bundled" / name
    return path if path.is_file() else None
