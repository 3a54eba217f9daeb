"""Commands to paste, as this platform writes them."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import Final

_SET_THE_CLOCK: Final = {
    "linux": "sudo timedatectl set-ntp true",
    "darwin": "sudo sntp -sS time.apple.com",
    "win32": "w32tm /resync",
}


_SET: Final = "$env:" if sys.platform == "win32" else "export "
"""How the setting of a variable begins."""


def command(*words: object) -> str:
    """A command line of *words*, quoted where that is needed."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if sys.platform == "win32" else shlex.join(texts)


def set_variable(name: str, value: str) -> str:
    """Set an environment variable; *value* is for the reader to replace, so it is not quoted."""
    return f'{_SET}{name} = "{value}"' if sys.platform == "win32" else f"{_SET}{name}={value}"


def sets_variable(remedy: str | None) -> bool:
    """Whether a remedy tells to set an environment variable."""
    return remedy is not None and _SET in remedy


def add_to_no_proxy(host: str) -> str:
    """Reach *host* without a proxy."""
    if sys.platform == "win32":
        return f'{_SET}NO_PROXY = "$env:NO_PROXY,{host}"'
    return f'{_SET}NO_PROXY="$NO_PROXY,{host}"'


def set_the_clock() -> str:
    """Let the clock follow the network's time."""
    return _SET_THE_CLOCK.get(sys.platform, "set the clock")
