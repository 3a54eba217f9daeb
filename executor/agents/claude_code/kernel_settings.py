"""The settings of the kernel, out of reach for sandboxes of an executor that runs as root.

Bubblewrap mounts ``/proc`` anew, and what lies in ``/proc/sys`` is writable for root whatever else
it may not do, in any namespace: ``kernel.core_pattern`` names a program that the kernel starts
outside of every wall.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from shared.errors import RunError
from shared.private_files import PRIVATE_DIRECTORY
from shared.status import ErrorCode

KEPT: Final = ("--ro-bind", "/proc/sys", "/proc/sys")
"""Arguments of bubblewrap that belong behind ``--proc /proc``."""

_SCRIPT: Final = """#!/bin/sh
# The settings of the kernel are root's to write wherever /proc is mounted anew.
previous= outside=1 first=1
for part do
    [ -z "$first" ] || set --
    first=
    set -- "$@" "$part"
    [ "$part" != -- ] || outside=
    [ -z "$outside" ] || [ "$previous" != --proc ] || set -- "$@" --ro-bind /proc/sys "$part/sys"
    previous=$part
done
exec {bubblewrap} "$@"
"""


def place_bubblewrap(folder: Path, env: Mapping[str, str]) -> Path | None:
    """Make *folder*, to come first in the CLI's ``PATH``, with a bubblewrap that keeps them.

    The CLI's sandbox has no setting for it. Blocks.

    Args:
        env: Variables of the CLI.

    Returns:
        *folder*; ``None`` where nothing is needed, and where there is no bubblewrap to begin with.

    Raises:
        RunError: ``isolation_unavailable``: programs in *folder* cannot be started.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        return None
    bubblewrap = shutil.which("bwrap", path=env.get("PATH", os.defpath))
    if bubblewrap is None:
        return None
    folder.mkdir(mode=PRIVATE_DIRECTORY)
    script = folder / "bwrap"
    script.write_text(_SCRIPT.format(bubblewrap=shlex.quote(bubblewrap)), encoding="utf-8")
    script.chmod(PRIVATE_DIRECTORY)
    if not os.access(script, os.X_OK):
        raise RunError(
            ErrorCode.ISOLATION_UNAVAILABLE,
            f"no program can be started in {folder}, which the sandbox of root needs",
            hint="put WEGENT_EXECUTOR_HOME on a file system that is not mounted noexec, or do not "
            "run the executor as root",
        )
    return folder
