"""One executor per home: two would share an id, a state file and the private files."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from executor.file_lock import lock
from shared.errors import ConfigError
from shared.private_files import PRIVATE_FILE, make_private_directory

LOCK_FILE: Final = "lock"


class HomeLock:
    """Holds a home for this process; the system lets go of it when the process ends, however."""

    def __init__(self, descriptor: int) -> None:
        """Use :meth:`acquire`."""
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, home: Path) -> Self:
        """Lock *home*, which is made when it is missing. Blocks for as long as the disk takes.

        Raises:
            ConfigError: Another executor has it, or it cannot be locked.
        """
        try:
            make_private_directory(home)
            # Not inherited by the programs that this process starts.
            descriptor = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
        except OSError as exc:
            raise _unusable(home, exc) from exc
        try:
            lock(descriptor)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise ConfigError(
                f"WEGENT_EXECUTOR_HOME: another executor is running in {home}"
                + (f" (pid {owner})" if owner else ""),
                hint="stop it, or give this one a home of its own",
            ) from None
        except OSError as exc:
            os.close(descriptor)
            raise _unusable(home, exc) from exc
        with suppress(OSError):  # only to tell others who it is; the disk may be full
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        return cls(descriptor)

    def release(self) -> None:
        """Let go of the home."""
        os.close(self._descriptor)


def holder(home: Path) -> int | None:
    """The process that holds *home*; ``None``: nobody does, or this system does not tell.

    Only Linux does. To try the lock instead could keep an executor from its home that is just
    starting.
    """
    file = home / LOCK_FILE
    try:
        owner, inode = file.read_text(encoding="ascii").strip(), file.stat().st_ino
        held = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in held:  # 1: FLOCK  ADVISORY  WRITE 4711 fd:01:131073 0 EOF
        match line.split():
            case [_, "FLOCK", _, _, pid, place, *_] if pid == owner:
                if place.rpartition(":")[2] == str(inode):
                    return int(pid)
    return None


def _unusable(home: Path, exc: OSError) -> ConfigError:
    return ConfigError(
        f"WEGENT_EXECUTOR_HOME: {home} cannot be used: {exc.strerror}",
        hint="make it writable for this user, or name another folder, on a local disk",
    )
