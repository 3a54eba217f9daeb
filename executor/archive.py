"""An archive of texts without secrets, for a bug report."""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import WegentError
from shared.private_files import PRIVATE_FILE


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the archive.

    Attributes:
        what: What it is, for whoever decides whether to pass it on.
    """

    name: str
    what: str
    text: str


def write_archive(path: Path, parts: Sequence[Part], redact: Callable[[str], str]) -> list[int]:
    """Make *path*, readable by its owner only, of the *parts*; every text goes through *redact*.

    Returns:
        The size of each part.

    Raises:
        WegentError: It exists, or cannot be written.
    """
    contents = [redact(part.text).encode("utf-8", "backslashreplace") for part in parts]
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    except FileExistsError:
        raise WegentError(
            f"{path} exists already", hint="name another file with -o, or remove it"
        ) from None
    except OSError as exc:
        raise _unwritable(path, exc) from exc
    try:
        with (
            os.fdopen(descriptor, "wb") as file,
            tarfile.open(fileobj=file, mode="w:gz") as archive,
        ):
            for part, content in zip(parts, contents, strict=True):
                # The names inside begin with the archive's own, so that it unpacks into one folder.
                member = tarfile.TarInfo(f"{path.name.split('.')[0]}/{part.name}")
                member.size = len(content)
                member.mode = PRIVATE_FILE
                member.mtime = int(time.time())
                archive.addfile(member, io.BytesIO(content))
    except BaseException as exc:
        path.unlink(missing_ok=True)
        if isinstance(exc, OSError):
            raise _unwritable(path, exc) from exc
        raise
    return list(map(len, contents))


def _unwritable(path: Path, exc: OSError) -> WegentError:
    return WegentError(
        f"{path} cannot be written: {exc.strerror or exc}", hint="name another place with -o"
    )
