"""The CLI's own sandbox: from the walls of a job to its settings, and what makes them liveable."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from executor.agents.protocol import Sandbox

HIDDEN_VARIABLES: Final = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_CUSTOM_HEADERS",
    "CLAUDE_CODE_OAUTH_TOKEN",
)
"""The CLI needs them, commands do not."""

MASKS: Final = (
    ".bash_profile", ".bashrc", ".claude", ".gitconfig", ".gitmodules", ".idea", ".mcp.json",
    ".profile", ".ripgreprc", ".vscode", ".zprofile", ".zshrc",
)  # fmt: skip
"""Names that sandboxed commands see as devices in the working directory when there is no such file,
so that they cannot make one: `git add --all` would stumble over them. Measured with CLI 2.1.329."""


def sandbox_settings(sandbox: Sandbox, temporary: Path) -> dict[str, Any]:
    """The value of the CLI's ``sandbox`` setting.

    *temporary* is this session's folder for temporary files. What the SDK's own type for it leaves
    out is described in ``docs/notes/claude-sandbox.md``.
    """
    return {
        "enabled": True,
        # Without a working sandbox the CLI ends, instead of going on without walls.
        "failIfUnavailable": True,
        "allowUnsandboxedCommands": False,
        # Being inside does not make a command allowed: the permission policy is asked as ever.
        "autoAllowBashIfSandboxed": False,
        "filesystem": {
            "allowWrite": _texts(*sandbox.writable, temporary),
            # By itself the CLI lets commands write there.
            "denyWrite": ["~/.npm/_logs", "~/.claude/debug", *_texts(*sandbox.protected)],
            "denyRead": _texts(*sandbox.hidden, sandbox.temporary),
            "allowRead": _texts(*sandbox.readable, *sandbox.writable, temporary),
        },
        "network": {"allowedDomains": list(sandbox.hosts), "strictAllowlist": True},
        "credentials": {
            "envVars": [{"name": name, "mode": "deny"} for name in HIDDEN_VARIABLES],
        },
    }


def sandbox_environment(temporary: Path, excludes: Path) -> dict[str, str]:
    """Variables of the CLI that belong to a sandbox; *excludes* has the lines of :func:`masks`."""
    return {
        # Otherwise every session shares one folder below /tmp.
        "CLAUDE_CODE_TMPDIR": str(temporary),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.excludesFile",
        "GIT_CONFIG_VALUE_0": str(excludes),
    }


def excluded_masks(own: str) -> str:
    """A list of ignored files for git: the user's *own* list and :data:`MASKS`."""
    return "\n".join([own, *(f"/{name}" for name in MASKS), ""])


def _texts(*paths: Path) -> list[str]:
    return [str(path) for path in paths]
