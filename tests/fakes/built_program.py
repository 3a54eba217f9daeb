"""The program as it is shipped, built once for all tests that start it."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]

GIVEN_BINARY: Final = "EXECUTOR_BINARY"
"""Names a program to take instead of building one file."""

_CACHE: Final = ROOT / "build" / "programs"
_UNUSED_S: Final = 86400
_SOURCES: Final = (
    *("executor", "shared", "scripts/binary", "scripts/build_local.py", "requirements/dev.txt"),
)


def built_program(*options: str) -> Path:
    """The folder with what `build_local.py OPTIONS` makes, and nothing else; not to be changed.

    It takes a minute, unless these sources have been built before. The commit that the program
    tells may be an older one with the same sources.
    """
    if importlib.util.find_spec("PyInstaller") is None:
        pytest.skip("NOTHING WAS TESTED: there is no PyInstaller")
    _CACHE.mkdir(parents=True, exist_ok=True)
    _forget_unused()
    place = _CACHE / "-".join([content_key(), *(option.strip("-") for option in options)])
    with only_one(place):
        if not place.exists():
            with tempfile.TemporaryDirectory(prefix="unfinished-", dir=_CACHE) as unfinished:
                _build(options, Path(unfinished)).rename(place)
        os.utime(place)
    return place


@contextmanager
def only_one(place: Path) -> Iterator[None]:
    """Wait until nobody else makes *place*, and let nobody else make it."""
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(options: tuple[str, ...], work: Path) -> Path:
    output = work / "dist"
    subprocess.run(
        [
            *(sys.executable, "scripts/build_local.py", *options),
            *("--output", str(output), "--work", str(work / "work")),
        ],
        cwd=ROOT,
        env={**os.environ, "PYINSTALLER_CONFIG_DIR": str(work / "cache")},
        check=True,
    )
    return output


def content_key(*more: str) -> str:
    """A name for what the program is built from, and the files or folders *more*."""
    digest = hashlib.sha256(f"{sys.version} {sys.executable}".encode())
    for source in (*_SOURCES, *more):
        path = ROOT / source
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(ROOT)}\0{file.stat().st_mode}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _forget_unused() -> None:
    for place in _CACHE.iterdir():
        if time.time() - place.stat().st_mtime > _UNUSED_S:
            shutil.rmtree(place, ignore_errors=True)  # of locks, the few bytes stay
