"""A systemd of a user's own that looks after nothing but what a test gives it.

In namespaces of its own: it has its own /run, processes and control groups, and sees the files and
the network of the machine. Making them takes root.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.fakes.service_manager import listening

START_SECONDS = 60.0

_PROGRAMS = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
_GROUPS = Path("/sys/fs/cgroup")

_ENTER = """\
set -e
for group in "$@"; do echo $$ > "$group/cgroup.procs"; done
exec unshare --mount --pid --fork --kill-child --mount-proc --cgroup sh -ec "$INSIDE"
"""

_INSIDE = """\
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system "$XDG_RUNTIME_DIR"
chmod 700 "$XDG_RUNTIME_DIR"
if [ -d /sys/fs/cgroup/systemd ]; then
  umount -l /sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
  if [ -d /sys/fs/cgroup/unified ]; then
    umount -l /sys/fs/cgroup/unified
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
  fi
else
  umount -l /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
# As the first process of its namespace it would be the system's, not a user's.
"$SYSTEMD" --user --unit=basic.target &
wait
"""


@dataclass(frozen=True)
class UserSystemd:
    """A running one, whose user lives in *home*."""

    home: Path
    environ: dict[str, str]
    pid: int
    """Of the first process in its namespaces."""

    async def run(self, *argv: str, **variables: str) -> tuple[int, str]:
        """Run a program as a login of this user would; its exit status and all that it says."""
        process = await asyncio.create_subprocess_exec(
            "nsenter", f"--target={self.pid}", "--mount", "--pid", "--", *argv,
            env=self.environ | variables,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()

    async def shows(self, unit: str, name: str) -> str:
        """A property of a unit."""
        status, said = await self.run("systemctl", "--user", "show", unit, "-p", name, "--value")
        assert status == 0, said
        return said.strip()


class NoUserSystemd(Exception):
    """It cannot be had here; says why."""


@asynccontextmanager
async def user_systemd(place: Path) -> AsyncIterator[UserSystemd]:
    """Start one with a home in *place*; it and all it has started is gone at the end.

    Raises:
        NoUserSystemd: This machine does not let us.
    """
    program = next((path for path in _PROGRAMS if Path(path).exists()), None)
    if sys.platform != "linux" or program is None or shutil.which("unshare") is None:
        raise NoUserSystemd("systemd or unshare is missing")
    if os.geteuid() != 0:
        raise NoUserSystemd("making namespaces takes root")
    home = place / "user home"
    home.mkdir()
    async with listening(place) as end, _control_groups() as groups:
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_RUNTIME_DIR": "/run/user/test",
        }
        with (place / "systemd.log").open("w") as log:
            process = await asyncio.create_subprocess_exec(
                "sh", "-ec", _ENTER, "sh", *map(str, groups),
                env={
                    **environ,
                    "NOTIFY_SOCKET": end.address,
                    "INSIDE": _INSIDE,
                    "SYSTEMD": program,
                    "SYSTEMD_LOG_TARGET": "console",
                },
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )  # fmt: skip
        try:
            ready = asyncio.create_task(end.hears("READY=1"))
            ended = asyncio.create_task(process.wait())
            await asyncio.wait(
                {ready, ended}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            ended.cancel()
            if not ready.done():
                ready.cancel()
                raise NoUserSystemd((place / "systemd.log").read_text()[-500:] or "not in time")
            (first,) = psutil.Process(process.pid).children()
            yield UserSystemd(home, environ, first.pid)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@asynccontextmanager
async def _control_groups() -> AsyncIterator[list[Path]]:
    """Groups for it alone, one in each hierarchy that systemd uses."""
    named = [_GROUPS / name for name in ("systemd", "unified") if (_GROUPS / name).is_dir()]
    made = [root / f"wegent-test-{os.getpid()}" for root in named or [_GROUPS]]
    try:
        for group in made:
            group.mkdir()
    except OSError as exc:
        raise NoUserSystemd(f"no control group can be made: {exc}") from None
    try:
        yield made
    finally:
        for group in made:
            await _emptied(group)


async def _emptied(group: Path) -> None:
    """Remove a group and those in it, as soon as the kernel has seen the last process end."""
    inner = [path for path in group.rglob("*") if path.is_dir()]
    for path in [*sorted(inner, key=lambda path: len(path.parts), reverse=True), group]:
        for _ in range(50):
            try:
                path.rmdir()
                break
            except OSError:
                await asyncio.sleep(0.1)
