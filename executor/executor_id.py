"""The lasting id of the executor that lives in a home."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Final

from shared.errors import ConfigError
from shared.logging import get_logger
from shared.private_files import make_private_directory, write_private_file

logger = get_logger("identity")

ID_FILE: Final = "executor_id"


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
