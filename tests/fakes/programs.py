"""Small programs in the place of wegent-executor: shell scripts that answer what is asked of it."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

NAME = "wegent-executor"


def program(
    version: str = "9.9.9", *, status: int = 3, doctor: int = 0, says: str = "", run: str = ""
) -> bytes:
    """A program of *version* whose commands exit as told.

    Args:
        status: Exit status of ``status``; 3: no executor is running.
        doctor: Exit status of ``doctor``.
        says: What ``doctor`` prints.
        run: Shell commands for everything else.
    """
    return f"""#!/bin/sh
case "${{1:-}}" in
  --version) echo "{NAME} {version}" ;;
  status) exit {status} ;;
  doctor) echo "{says}"; exit {doctor} ;;
  *) :; {run} ;;
esac
""".encode()


def archive(content: bytes, *, name: str = NAME) -> bytes:
    """A ``.tar.gz`` of a folder as packagers get it: the program, and what it needs beside it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path, mode, data in (("_internal/library", 0o644, b"library"), (name, 0o755, content)):
            entry = tarfile.TarInfo(f"{NAME}-linux/{path}")
            entry.mode, entry.size = mode, len(data)
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def checksum_line(content: bytes) -> bytes:
    """What ``sha256sum`` writes."""
    return f"{sha256(content)}  {NAME}\n".encode()


def put(path: Path, content: bytes, *, checksum: bool = True) -> Path:
    """Write *content*, with its checksum beside it unless told otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if checksum:
        path.with_name(f"{path.name}.sha256").write_bytes(checksum_line(content))
    return path
