"""The programs that the executor starts: Claude Code, git, the sandbox's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from executor.agents.claude_code.location import find_claude
from executor.diagnosis.finding import Finding, failed, ok, warning
from executor.package_manager import install_command
from executor.tasks.sandbox_probe import probe_sandbox

ANSWER_WITHIN_S: Final = 4.0
"""A program that takes longer to say its version does not work."""


def look_at_claude(named: Path | None, home: Path, environ: Mapping[str, str]) -> Finding:
    """Whether there is a usable Claude Code. Starts it: not for the event loop.

    Args:
        named: The value of ``WEGENT_CLAUDE_PATH``.
        home: The executor's home.
    """
    search = find_claude(named, home, environ)
    if search.claude is None:
        return failed("Claude Code", str(search.problem), search.remedy)
    found = search.claude
    return ok("Claude Code", f"{found.version}, {found.origin}: {found.path}")


def look_at_git(environ: Mapping[str, str]) -> Finding:
    """Whether git works. Starts it: not for the event loop."""
    program = shutil.which("git", path=environ.get("PATH"))
    if program is None:
        return failed("git", "is not installed", install_command("git", environ.get("PATH")))
    version = _version([program, "--version"], environ)
    if version is None:
        # macOS has a stand-in that only asks for the developer tools.
        mac = sys.platform == "darwin"
        remedy = "xcode-select --install" if mac else install_command("git", environ.get("PATH"))
        return failed("git", f"{program} does not work", remedy)
    return ok("git", f"{version.removeprefix('git version ')} ({program})")


def look_at_sandbox(isolation: str, environ: Mapping[str, str]) -> Finding:
    """Whether commands of agents can be confined. Starts programs: not for the event loop.

    Args:
        isolation: The value of ``LOCAL_ISOLATION``.
    """
    problem = probe_sandbox(environ)
    if problem is None:
        return ok("sandbox", "works" + _unless_wanted(isolation))
    if isolation in ("none", "container"):
        return ok("sandbox", f"none ({problem.reason}), and LOCAL_ISOLATION={isolation} wants none")
    if isolation == "sandbox":
        what = f"{problem.reason}, and LOCAL_ISOLATION=sandbox refuses tasks without it"
        return failed("sandbox", what, problem.remedy)
    what = f"{problem.reason}: what this user may do, commands of agents may do"
    return warning("sandbox", what, problem.remedy)


def _unless_wanted(isolation: str) -> str:
    if isolation in ("none", "container"):
        return f", but LOCAL_ISOLATION={isolation} leaves it unused"
    return ""


def _version(line: list[str], environ: Mapping[str, str]) -> str | None:
    """What a program says of itself; ``None``: it does not work."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            line,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_WITHIN_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()
