"""Ask a CLI for its version, by starting it, and remember the answer. All of it blocks."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from executor.agents.claude_code.cli_process import describe_status
from executor.agents.process_tree import MARK_VARIABLE, OWN_MARK
from shared.private_files import PRIVATE_DIRECTORY, write_private_file

VERSION_TIMEOUT_S: Final = 10.0
"""How long a CLI may take to tell its version. Measured: 0.03 s, from a cold disk 0.2 s; one that
needs Node, or is looked at by a virus scanner, may take seconds."""

_BUSY_PAUSE_S: Final = 0.02
"""Until a file that is being written is tried again."""

_ANSWER: Final = re.compile(r"(\d{1,9}\.\d{1,9}\.\d{1,9})\S* \(Claude Code\)")

_INHERITED: Final = frozenset(
    {
        "PATH", "HOME", "LANG", "TMPDIR", "APPDATA", "COMSPEC", "LOCALAPPDATA", "PATHEXT",
        "SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "TMP", "USERPROFILE", "WINDIR",
    }
)  # fmt: skip
"""Enough for a version: a program that may not be Claude Code gets no key to see."""


class Unusable(Exception):
    """A file is not a CLI that works; the text follows its path: ``is a folder``."""


def ask_version(cli: Path, environ: Mapping[str, str]) -> str:
    """What ``--version`` answers, like ``2.1.329``.

    Raises:
        Unusable: It is no program, does not start, fails, takes too long, or is something else.
    """
    if not cli.is_file():
        raise Unusable("is not a file")
    if not os.access(cli, os.X_OK):
        raise Unusable("may not be executed")
    if sys.platform == "win32" and cli.suffix.lower() != ".exe":
        raise Unusable("is not a claude.exe, and anything else would run through a shell")
    try:
        process = _start(cli, environ)
    except OSError as exc:
        raise Unusable(f"does not start: {exc.strerror}") from exc
    with process:
        try:
            answer, complaint = process.communicate(timeout=VERSION_TIMEOUT_S)
        except BaseException as exc:
            _kill(process)
            if isinstance(exc, subprocess.TimeoutExpired):
                raise Unusable(f"did not tell its version within {VERSION_TIMEOUT_S:g} s") from None
            raise
    if process.returncode != 0:
        said = _lines(complaint)[-1:] or [describe_status(process.returncode)]
        raise Unusable(f"fails when asked for its version: {said[0][:200]}")
    told = _ANSWER.match("".join(_lines(answer)[:1]))
    if told is None:
        raise Unusable("is another program: it does not answer with a version of Claude Code")
    return told[1]


def _start(cli: Path, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    give_up_at = time.monotonic() + VERSION_TIMEOUT_S
    while True:
        try:
            # In a session of its own, so that whatever it starts can be ended with it.
            return subprocess.Popen(  # noqa: S603 - no shell, and no word of anybody else's
                [cli, "--version"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cli.anchor,
                env=_environment(environ),
                start_new_session=True,
            )
        except OSError as exc:
            # A child that another thread has just forked has what was open here until it starts
            # its own program, also a CLI that was being unpacked in that moment.
            if exc.errno != errno.ETXTBSY or time.monotonic() >= give_up_at:
                raise
            time.sleep(_BUSY_PAUSE_S)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in environ.items() if name.upper() in _INHERITED}
    return {**inherited, "DISABLE_AUTOUPDATER": "1", MARK_VARIABLE: OWN_MARK}


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill it and what it has started: a wrapper's child would keep the pipes open."""
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)


def _lines(written: bytes) -> list[str]:
    return written.decode("utf-8", "replace").strip().splitlines()


class VersionMemory:
    """The versions of CLIs that have not changed since they told them.

    Only good answers are kept: what did not work is tried again.
    """

    def __init__(self, file: Path) -> None:
        """Read what an earlier search has written to *file*, if it has."""
        self._file = file
        self._known = _read(file)
        self._used: dict[str, Any] = {}

    def version_of(self, cli: Path, environ: Mapping[str, str]) -> str:
        """See :func:`ask_version`, which is called unless the file is as it was.

        Raises:
            Unusable: See there.
        """
        try:
            found = cli.stat()
        except FileNotFoundError:
            raise Unusable("does not exist") from None
        except OSError as exc:
            raise Unusable(f"cannot be looked at: {exc.strerror}") from exc
        looks = [found.st_mtime_ns, found.st_size]
        match self._known.get(str(cli)):
            case [*looked, str(version)] if looked == looks and os.access(cli, os.X_OK):
                pass
            case _:
                version = ask_version(cli, environ)
        self._used[str(cli)] = [*looks, version]
        return version

    def save(self) -> None:
        """Write down what this search has used, and nothing else; when it cannot, never mind."""
        if self._used != self._known:
            with suppress(OSError):
                # Not its parents: whoever only looks does not make a home.
                self._file.parent.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
                write_private_file(self._file, json.dumps(self._used))


def _read(file: Path) -> dict[str, Any]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
