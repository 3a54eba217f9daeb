"""Walls around MCP servers that are commands: the CLI starts them outside of its own sandbox.

Each gets the walls of the run's commands (same lists of paths), but no network at all: the proxy
that lets only listed hosts pass is the CLI's and serves commands alone.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from executor.agents.claude_code.kernel_settings import KEPT
from executor.agents.claude_code.sandbox import HIDDEN_VARIABLES
from executor.agents.claude_code.socket_filter import socket_filter
from executor.agents.protocol import Sandbox

NAMESPACES: Final = (
    "--new-session", "--die-with-parent", "--unshare-pid", "--unshare-net", "--unshare-ipc",
    "--cap-drop", "ALL",  # root could otherwise unmount what hides
    "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", *KEPT,
)  # fmt: skip
"""Arguments of bubblewrap: everything readable, nothing writable, nobody to talk to."""

_NOT_FOR_SERVERS: Final = (
    *HIDDEN_VARIABLES,
    "CLAUDE_CODE_MESSAGING_SOCKET",
    "CLAUDE_CODE_MESSAGING_TOKEN",
    "SSH_AUTH_SOCK",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy",
)  # fmt: skip
"""Of the CLI's variables: credentials, and ways to places that are out of reach anyway."""

_MADE_LATER: Final = ("/.npm/_logs", "/.cache/claude-cli-nodejs")
"""Hidden folders that the CLI itself makes: only what is there can be covered."""

_CARRIED: Final = "WEGENT_SERVER_"
"""How a server's own variables are named until it is inside: outside, ``LD_PRELOAD`` and others
would already act on the programs that build its walls."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def can_wall_servers() -> bool:
    """Whether this system has what the walls are made of, bubblewrap aside."""
    return sys.platform == "linux" and socket_filter() is not None


def is_command(server: Mapping[str, Any]) -> bool:
    """Whether the CLI starts *server* as a program; one without a type is taken for that."""
    return bool(server.get("type", "stdio") == "stdio")


@dataclass(frozen=True, slots=True)
class ServerWalls:
    """What the walls of one session's servers are built from."""

    sandbox: Sandbox
    cwd: Path
    temporary: Path
    """The session's folder for temporary files."""
    filter: Path
    """Holds :func:`socket_filter`; opened before the walls are up."""

    def around(self, server: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration of *server* by which the CLI starts it inside. Looks at the disk.

        Values of its variables stay in ``env``, which no process list shows.
        """
        given = {str(name): value for name, value in (server.get("env") or {}).items()}
        env = {name: str(value) for name, value in given.items() if _NAME.fullmatch(name)}
        command = [str(part) for part in (server.get("command"), *(server.get("args") or ()))]
        outside = f'unset {" ".join(_NOT_FOR_SERVERS)}; exec bwrap --seccomp 9 "$@" 9<"$0"'
        inside = [f'export {name}="${_CARRIED}{name}"; unset {_CARRIED}{name}' for name in env]
        start = ["/bin/sh", "-c", "; ".join([*inside, 'exec "$0" "$@"']), *command]
        return {
            **server,
            "command": "/bin/sh",
            "args": ["-c", outside, str(self.filter), *self._arguments(), "--", *start],
            "env": {f"{_CARRIED}{name}": value for name, value in env.items()},
        }

    def _arguments(self) -> Iterable[str]:
        yield from NAMESPACES
        # Outer folders first, since what is mounted later covers what was there.
        for path, how in sorted(self._mounts().items(), key=lambda mount: mount[0].parts):
            yield from (*how, str(path))
        yield from ("--setenv", "TMPDIR", str(self.temporary), "--chdir", str(self.cwd))

    def _mounts(self) -> dict[Path, Sequence[str]]:
        """Places and what to do there; where one is listed twice, the last counts."""
        mounts: dict[Path, Sequence[str]] = {}
        for hidden in (*self.sandbox.hidden, self.sandbox.temporary):
            path = hidden.resolve()
            if path.as_posix().endswith(_MADE_LATER):
                path.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                mounts[path] = ("--tmpfs",)
            elif path.exists():
                mounts[path] = ("--ro-bind", os.devnull)
        for readable in self.sandbox.readable:
            mounts[readable.resolve()] = ("--ro-bind", str(readable.resolve()))
        git = self.cwd / ".git"
        for writable in (*self.sandbox.writable, self.temporary, self.cwd, git):
            # A mount of its own cannot be renamed and replaced, either.
            if _is_directory(writable):
                mounts[writable.resolve()] = ("--bind", str(writable.resolve()))
        for guarded in (git / "config", git / "hooks"):
            # The user's own git would start what they name.
            if _is_directory(git) and guarded.exists():
                mounts[guarded.resolve()] = ("--ro-bind", str(guarded.resolve()))
        for protected in self.sandbox.protected:
            mounts[protected.resolve()] = ("--ro-bind", str(protected.resolve()))
        return mounts


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def without_network(names: Iterable[str]) -> str:
    """What a run is told about servers with walls."""
    listed = ", ".join(shlex.quote(name) for name in names)
    return f"MCP servers that are commands run inside the sandbox and have no network: {listed}"
