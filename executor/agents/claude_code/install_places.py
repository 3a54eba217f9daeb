"""Where the installers of Claude Code put it, and how to get it, by platform.

Source: the setup page of its documentation, code.claude.com/docs/en/setup, and what its npm package
contains.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path


def program_name(platform: str = sys.platform) -> str:
    """What the CLI is called as a file.

    On Windows only the real program: a ``.cmd`` of npm's goes through a shell, which would read
    the arguments again.
    """
    return "claude.exe" if platform == "win32" else "claude"


def on_search_path(environ: Mapping[str, str], platform: str = sys.platform) -> Iterator[Path]:
    """Every ``claude`` on ``PATH`` that there could be; not in relative entries.

    Those mean the folder where the executor was started, where others may write.
    """
    for entry in environ.get("PATH", "").split(os.pathsep):
        if Path(entry).is_absolute():
            yield Path(entry) / program_name(platform)


def usual_places(environ: Mapping[str, str], platform: str = sys.platform) -> Iterator[Path]:
    """Where it would be without being on ``PATH``, as for a service; the best first."""
    name = program_name(platform)
    user = _folder(environ, "USERPROFILE" if platform == "win32" else "HOME")
    if user is not None:
        yield user / ".local" / "bin" / name
        yield user / ".claude" / "local" / name
    if platform == "win32":
        package = ("node_modules", "@anthropic-ai", "claude-code", "bin", name)
        if (roaming := _folder(environ, "APPDATA")) is not None:
            yield roaming.joinpath("npm", *package)
        if (local := _folder(environ, "LOCALAPPDATA")) is not None:
            yield local / "Microsoft" / "WinGet" / "Links" / name
        return
    if platform == "darwin":
        yield Path("/opt/homebrew/bin") / name
    else:
        yield Path("/home/linuxbrew/.linuxbrew/bin") / name
    yield Path("/usr/local/bin") / name
    yield Path("/usr/bin") / name
    if user is not None:
        yield user / ".npm-global" / "bin" / name
        # One for each version of Node: the newest first.
        yield from sorted(user.glob(f".nvm/versions/node/*/bin/{name}"), key=_newest_first)


def how_to_get(platform: str = sys.platform) -> str:
    """What to type for a CLI in one of :func:`usual_places`."""
    if platform == "win32":
        return "irm https://claude.ai/install.ps1 | iex (in PowerShell)"
    return "curl -fsSL https://claude.ai/install.sh | bash"


def _folder(environ: Mapping[str, str], name: str) -> Path | None:
    path = Path(environ.get(name, ""))
    return path if path.is_absolute() else None


def _newest_first(path: Path) -> list[int]:
    return [-int(number) for number in re.findall(r"\d+", path.parent.parent.name)]
