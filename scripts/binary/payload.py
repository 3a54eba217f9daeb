"""Make the entry that carries the Claude Code CLI; executor/packaged/carried_cli.py reads it."""

from __future__ import annotations

import errno
import hashlib
import json
import lzma
import os
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PRESET: Final = 6
"""Of xz, which the standard library can read: it makes 126 MB of the 378 MB of CLI 2.1.329, and 7 s
of a processor unpack and check them. gzip makes 172 MB. zstd makes 150 MB, and a second would do,
but it takes one more library."""

_FILTERS: Final[list[dict[str, Any]]] = [{"id": lzma.FILTER_LZMA2, "preset": PRESET}]

_CHUNK: Final = 2**20


@dataclass(frozen=True, slots=True)
class Cli:
    """A Claude Code CLI to be carried."""

    path: Path
    version: str


def bundled_cli(sdk: Path) -> Cli:
    """The CLI that comes with the installed claude-agent-sdk in the folder *sdk*.

    Raises:
        FileNotFoundError: This SDK comes without one.
    """
    path = sdk / "_bundled" / ("claude.exe" if sys.platform == "win32" else "claude")
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    version = runpy.run_path(str(sdk / "_cli_version.py"))["__cli_version__"]
    return Cli(path, version)


def write_payload(cli: Cli, payload: Path) -> None:
    """Write *cli* into *payload*, unless it is in there already. Takes minutes."""
    about = json.dumps(
        {"version": cli.version, "size": cli.path.stat().st_size, "sha256": _sha256(cli.path)}
    )
    head = f"{about}\n".encode()
    if payload.exists():
        with payload.open("rb") as file:
            if file.read(len(head)) == head:
                return
    unfinished = payload.with_suffix(".unfinished")
    with cli.path.open("rb") as source, unfinished.open("wb") as target:
        target.write(head)
        compressor = lzma.LZMACompressor(lzma.FORMAT_XZ, filters=_FILTERS)
        while chunk := source.read(_CHUNK):
            target.write(compressor.compress(chunk))
        target.write(compressor.flush())
    unfinished.replace(payload)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
