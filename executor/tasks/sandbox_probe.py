"""Does the operating system's sandbox work here? Asked once at start, by trying it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from executor.package_manager import install_command

PROBE_TIMEOUT_S: Final = 5.0
"""For each program tried; they take a few milliseconds."""

_BUBBLEWRAP: Final = (
    "bwrap", "--new-session", "--die-with-parent", "--unshare-net", "--unshare-pid",
    "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "true",
)  # fmt: skip
_SEATBELT: Final = ("/usr/bin/sandbox-exec", "-p", "(version 1)(allow default)", "/usr/bin/true")

_PACKAGES: Final = "bubblewrap socat"

_FORBIDDING: Final = {
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),
    "kernel/unprivileged_userns_clone": ("0", "1"),
    "user/max_user_namespaces": ("0", "15000"),
}
"""Settings of Linux below ``/proc/sys`` that keep bubblewrap from working: the value that forbids
it, and one that allows it."""


@dataclass(frozen=True, slots=True)
class SandboxProblem:
    """Why there is no sandbox; ``remedy`` is what to type or to do."""

    reason: str
    remedy: str


def probe_sandbox(
    environ: Mapping[str, str],
    *,
    platform: str = sys.platform,
    kernel_settings: Path = Path("/proc/sys"),
) -> SandboxProblem | None:
    """Start a program inside the sandbox of this system; ``None`` when that works. Blocks."""
    path = environ.get("PATH")
    if platform == "linux":
        missing = [name for name in ("bwrap", "socat") if shutil.which(name, path=path) is None]
        install = install_command(_PACKAGES, path)
        if missing:
            return SandboxProblem(f"{' and '.join(missing)} not installed", install)
        return _try(_BUBBLEWRAP, environ, _allow_namespaces(kernel_settings)) or _try(
            ("socat", "-V"), environ, install
        )
    if platform == "darwin":
        return _try(_SEATBELT, environ, "run the executor outside of any other sandbox")
    return SandboxProblem(f"Claude Code has none for {platform}", "use Linux or macOS for it")


def _allow_namespaces(settings: Path) -> str:
    for name, (forbids, allows) in _FORBIDDING.items():
        with suppress(OSError):
            if (settings / name).read_text(encoding="ascii").strip() == forbids:
                return f"sudo sysctl -w {name.replace('/', '.')}={allows}"
    return "allow unprivileged user namespaces, or run the executor where they are allowed"


def _try(command: Sequence[str], environ: Mapping[str, str], remedy: str) -> SandboxProblem | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            command,
            env={"PATH": environ.get("PATH", "")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return SandboxProblem(f"{command[0]} does not answer", remedy)
    except OSError as exc:
        return SandboxProblem(f"{command[0]} cannot be started: {exc.strerror}", remedy)
    if done.returncode == 0:
        return None
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    status = f"exit status {done.returncode}"
    return SandboxProblem(f"{command[0]} fails: {(said or [status])[-1][:200]}", remedy)
