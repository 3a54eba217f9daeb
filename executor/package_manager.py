"""The command that installs a program with this machine's package manager."""

from __future__ import annotations

import shutil
from typing import Final

_INSTALL: Final = {
    "apt-get": "sudo apt-get update && sudo apt-get install --yes {}",
    "dnf": "sudo dnf install {}",
    "pacman": "sudo pacman -S {}",
    "zypper": "sudo zypper install {}",
    "apk": "sudo apk add {}",
    "brew": "brew install {}",
    "winget": "winget install {}",
}


def install_command(packages: str, path: str | None) -> str:
    """What to type to install *packages*, separated by spaces; the manager is looked for on *path*.

    Looks at the disk: not for the event loop.
    """
    for manager, line in _INSTALL.items():
        if shutil.which(manager, path=path):
            return line.format(packages)
    return f"install {packages.replace(' ', ' and ')}"
