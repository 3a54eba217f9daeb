"""The executor's folders: there or to be made, writable, and the home closed to others."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Final

from executor.config.loading import exposed_config_file
from executor.config.settings import ExecutorSettings
from executor.diagnosis.finding import Finding, failed, ok, warning
from executor.diagnosis.remedies import command

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def look_at_folders(settings: ExecutorSettings) -> list[Finding]:
    """The home, the workspace and the logs. Looks at the disk: not for the event loop."""
    workspace = settings.only_session_dir or settings.workspace_root
    findings = [
        _usable("home", settings.home) or _closed(settings.home),
        _usable("workspace", workspace) or _there("workspace", workspace),
        _usable("logs", settings.log_dir) or _there("logs", settings.log_dir),
    ]
    if file := exposed_config_file(settings.home):
        what = f"others can read {file}, which holds secrets"
        findings.append(warning("config file", what, command("chmod", "600", file)))
    return findings


def existing_part(path: Path) -> Path:
    """*path*, or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if _is_there(folder))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False  # what a folder above it closes is not there for this user


def _usable(check: str, path: Path) -> Finding | None:
    """Why files cannot be made in *path*; ``None``: they can, or it will be made."""
    there = existing_part(path)
    if not there.is_dir():
        return failed(check, f"{there} is not a folder", command("mv", there, f"{there}.old"))
    if os.access(there, os.W_OK | os.X_OK):
        return None
    if there != path:
        what = f"{path} does not exist, and cannot be made in {there}"
        remedy = f"{command('sudo', 'mkdir', '-p', path)} && {_take_over(path)}"
    else:
        what = f"{path} is not writable for this user"
        remedy = command("chmod", "u+rwx", path) if _is_ours(path) else _take_over(path)
    return failed(check, what, None if sys.platform == "win32" else remedy)


def _there(check: str, path: Path) -> Finding:
    return ok(check, str(path) if path.is_dir() else f"{path} does not exist yet: it will be made")


def _closed(home: Path) -> Finding:
    if not home.is_dir() or sys.platform == "win32":
        return _there("home", home)
    if not _is_ours(home):
        return warning("home", f"{home} belongs to another user", _take_over(home))
    if stat.S_IMODE(home.stat().st_mode) & _OTHERS:
        return warning("home", f"others can look into {home}", command("chmod", "700", home))
    return ok("home", f"{home}, closed to others")


def _is_ours(path: Path) -> bool:
    return sys.platform == "win32" or path.stat().st_uid == os.geteuid()


def _take_over(path: Path) -> str:
    return f'sudo chown -R "$(id -un)" {command(path)}'
