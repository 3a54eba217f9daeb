"""What one more Docker engine on a machine needs for itself: a folder, a bridge, addresses."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

ROOT: Final = Path(__file__).resolve().parents[2]

CACHE: Final = ROOT / "build" / "engine"
"""What is kept from one session to the next: the data of engines, and the root of base images."""

_NEEDED: Final = ("dockerd", "docker", "docker-proxy", "ip", "setpriv")
_CAPABILITIES: Final = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
_BRIDGE: Final = "wegent"
_ADDRESSES: Final = [ipaddress.IPv4Network(f"10.{number}.0.0/16") for number in range(201, 250)]


class EngineError(Exception):
    """The engine does not do what it should; the text has what it said."""


def unavailable() -> str | None:
    """Why no engine can be started here; None when one can."""
    if sys.platform != "linux":
        return "an engine of one's own needs Linux"
    missing = [command for command in _NEEDED if shutil.which(command) is None]
    if missing:
        return f"{', '.join(missing)} missing: make test as root installs docker.io"
    effective = next(
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapEff:")
    )
    absent = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    return f"an engine of one's own needs root with {', '.join(absent)}" if absent else None


@contextlib.contextmanager
def engine_data() -> Iterator[tuple[Path, int]]:
    """The first folder that no other engine holds, and the open file that holds it.

    The engine inherits that: one whose tests were killed needs its folder until it has ended.
    """
    for number in range(100):
        place = CACHE / str(number)
        place.mkdir(parents=True, exist_ok=True)
        with (place / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield place / "data", lock.fileno()
            return
    raise EngineError(f"a hundred engines run in {CACHE}")


@contextlib.contextmanager
def engine_bridge() -> Iterator[str]:
    """A bridge with addresses that nobody else has here."""
    for block in _ADDRESSES:
        name = f"{_BRIDGE}{block.network_address.packed[1]}"
        alias = Path("/sys/class/net", name, "ifalias")
        owner = alias.read_text().strip() if alias.exists() else ""
        if owner and not psutil.pid_exists(int(owner)):
            _ip("link", "delete", name)  # of a session that was killed
        # Only one of two sessions can make it.
        if not _in_use(block) and _ip("link", "add", "name", name, "type", "bridge"):
            break
    else:
        raise EngineError("all addresses for bridges are taken")
    try:
        _ip("link", "set", name, "alias", str(os.getpid()))
        _ip("address", "add", f"{block[1]}/{block.prefixlen}", "dev", name)
        _ip("link", "set", name, "up")
        yield name
    finally:
        _ip("link", "delete", name)


def _in_use(block: ipaddress.IPv4Network) -> bool:
    return any(
        ipaddress.ip_address(address.address) in block
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET
    )


def _ip(*arguments: str) -> bool:
    return not subprocess.run(["ip", *arguments], check=False).returncode


def unmount(place: Path) -> None:
    """An engine that was killed leaves mounts behind."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in reversed(mounts):
        if Path(mount).is_relative_to(place):
            subprocess.run(["umount", "--lazy", mount], check=False)
