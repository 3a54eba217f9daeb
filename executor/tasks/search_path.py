"""The ``PATH`` of programs that are started in folders where others write."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def with_absolute_path(environ: Mapping[str, str]) -> dict[str, str]:
    """*environ* with the absolute entries of its ``PATH`` only.

    Relative and empty ones mean the working directory, where a repository may bring a program of
    its own under the name of another.
    """
    entries = environ.get("PATH", "").split(os.pathsep)
    path = os.pathsep.join(entry for entry in entries if Path(entry).is_absolute())
    rest = {name: value for name, value in environ.items() if name != "PATH"}
    # An empty PATH means the working directory, too; without any, programs use the system's.
    return {**rest, "PATH": path} if path else rest
