"""The executor's home: where everything lies that outlives a process. Imports nearly nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from shared.errors import ConfigError

HOME_VARIABLE: Final = "WEGENT_EXECUTOR_HOME"


def executor_home() -> Path:
    """The home that the environment names, or else the user's own; it need not exist.

    Raises:
        ConfigError: The variable names no folder, or this user has none.
    """
    named = os.environ.get(HOME_VARIABLE)
    try:
        return absolute(Path(named)) if named else default_home()
    except ValueError as exc:
        raise ConfigError(
            f"{HOME_VARIABLE}: {exc}",
            hint=f"name a folder of this user: export {HOME_VARIABLE}=<folder>",
        ) from None


def default_home() -> Path:
    """The home when none is named.

    Raises:
        ValueError: This user has no home directory.
    """
    try:
        return Path.home() / ".wegent-executor"
    except RuntimeError:
        raise ValueError("is not set, and this user has no home directory") from None


def absolute(path: Path) -> Path:
    """Expand a leading ``~``; a relative path begins in the working directory.

    Raises:
        ValueError: It names a user whom this machine does not know, or begins in a folder that is
            gone.
    """
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise ValueError("names a user (~name) whom this machine does not know") from None
    except FileNotFoundError:
        raise ValueError("is relative, and the working directory is gone") from None
