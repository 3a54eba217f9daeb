"""Who this executor is: its lasting id, its host, and what its backends have offered."""

from __future__ import annotations

import json
import platform
import socket
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.errors import ConfigError
from shared.logging import get_logger
from shared.private_files import make_private_directory, write_private_file

logger = get_logger("identity")

ID_FILE: Final = "executor_id"
BACKENDS_FILE: Final = "backends.json"


@dataclass(frozen=True)
class Host:
    """The machine, as the register payload tells it."""

    hostname: str
    platform: str
    arch: str


def describe_host() -> Host:
    """Name, operating system (``linux``, ``darwin``, ``windows``) and processor of this machine."""
    return Host(
        hostname=socket.gethostname(),
        platform=platform.system().lower(),
        arch=platform.machine().lower(),
    )


def load_executor_id(home: Path) -> str:
    """Return the id of the executor that lives in *home*; made on the first call, then kept.

    An id that cannot be read is replaced by a new one: the backend then sees a new executor.
    Blocks for as long as the disk takes.

    Raises:
        ConfigError: *home* cannot be read or written.
    """
    try:
        make_private_directory(home)
        return _read_id(home / ID_FILE) or _new_id(home / ID_FILE)
    except OSError as exc:
        raise ConfigError(
            f"WEGENT_EXECUTOR_HOME: {home} cannot be used: {exc.strerror}",
            hint="make it writable for this user, or name another folder",
        ) from exc


class BackendMemory:
    """Which features each backend has offered; outlives the process.

    A backend that once offered features and now does not answer a register is a broken one, not a
    base one (Delivery 7 of the local protocol).
    """

    def __init__(self, home: Path) -> None:
        """Read what is remembered in *home*; blocks for as long as the disk takes."""
        self._file = home / BACKENDS_FILE
        self._features = _read(self._file)

    def features(self, url: str) -> frozenset[str] | None:
        """What the backend at *url* has offered; ``None`` when it never offered anything."""
        return self._features.get(url)

    def remember(self, url: str, features: Iterable[str]) -> None:
        """Keep what the backend at *url* offers now; a disk that refuses costs a warning.

        Writes only when something has changed, and then blocks for as long as the disk takes: call
        it in a thread.
        """
        offered = frozenset(features)
        if self._features.get(url) == offered:
            return
        self._features = {**self._features, url: offered}
        content = {backend: sorted(known) for backend, known in self._features.items()}
        try:
            make_private_directory(self._file.parent)
            write_private_file(self._file, json.dumps(content, indent=2) + "\n")
        except OSError as exc:
            logger.warning("%s cannot be written: %s", self._file, exc.strerror)


def _read_id(file: Path) -> str | None:
    try:
        return str(uuid.UUID(file.read_bytes().decode().strip()))
    except FileNotFoundError:
        return None
    except ValueError:
        logger.warning("%s holds no id; this executor gets a new one", file)
        return None


def _new_id(file: Path) -> str:
    executor_id = str(uuid.uuid4())
    write_private_file(file, f"{executor_id}\n")
    return executor_id


def _read(file: Path) -> dict[str, frozenset[str]]:
    try:
        content = json.loads(file.read_bytes())
        return {url: frozenset(map(str, features)) for url, features in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError):
        logger.warning("%s cannot be read; what backends offered is learned anew", file)
        return {}
