"""What a register tells of this machine, and what the backends have offered."""

from __future__ import annotations

import json
import platform
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.logging import get_logger
from shared.private_files import make_private_directory, write_private_file

logger = get_logger("identity")

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


def _read(file: Path) -> dict[str, frozenset[str]]:
    try:
        content = json.loads(file.read_bytes())
        return {url: frozenset(map(str, features)) for url, features in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError):
        logger.warning("%s cannot be read; what backends offered is learned anew", file)
        return {}
