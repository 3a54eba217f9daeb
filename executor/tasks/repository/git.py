"""Running git: a hardened command line, an allow-listed environment, a bounded lifetime.

Git reads the system's and the user's configuration, so that their proxy, certificates, ssh settings
and address rewrites work; nothing here ever writes to them. What could run a program, ask a person
or touch more than was meant is switched off on every call (:data:`_OPTIONS`). A checkout's own
configuration belongs to whoever works in it and is not read at all: see :mod:`.checkout`.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from executor.agents import process_tree
from executor.network.children import children_environment
from executor.tasks.search_path import with_absolute_path
from shared.errors import WegentError
from shared.shielding import finish

MAX_OUTPUT_BYTES: Final = 8 * 1024 * 1024
"""A command that prints more to its standard output is ended, and the rest is lost."""

_KEPT_ERROR_BYTES: Final = 8 * 1024
_END_GRACE_S: Final = 2.0
"""How long git may take to remove its lock files after SIGTERM."""
_PIPE_GRACE_S: Final = 1.0
"""How long output may follow a git that has ended, e.g. from an ssh that stays as a master."""

_INHERITED: Final = frozenset(
    """
    PATH HOME USER LOGNAME SHELL LANG TMPDIR TEMP TMP XDG_CONFIG_HOME XDG_CACHE_HOME XDG_RUNTIME_DIR
    SSH_AUTH_SOCK SSH_AGENT_PID GIT_SSH GIT_SSH_COMMAND GIT_SSH_VARIANT
    GIT_CONFIG_GLOBAL GIT_CONFIG_SYSTEM GIT_CONFIG_NOSYSTEM GIT_EXEC_PATH
    GIT_SSL_CAINFO GIT_SSL_CAPATH SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE
    HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY DBUS_SESSION_BUS_ADDRESS KRB5CCNAME
    SYSTEMROOT SYSTEMDRIVE WINDIR COMSPEC PATHEXT USERPROFILE HOMEDRIVE HOMEPATH APPDATA
    LOCALAPPDATA PROGRAMDATA PROGRAMFILES
    """.split()  # noqa: SIM905 - a table reads better than fifty lines
)
"""Upper-case names of what git gets from the executor's environment; nothing else of it."""

_FIXED: Final[Mapping[str, str]] = {
    "LC_ALL": "C",  # its messages are read here
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",  # empty: ask nobody, not even SSH_ASKPASS
    "GCM_INTERACTIVE": "never",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_DEFAULT_REF_FORMAT": "files",
}

_OPTIONS: Final = tuple(
    part
    for setting in (
        f"core.hooksPath={os.devnull}",
        "core.fsmonitor=false",
        "submodule.recurse=false",
        "fetch.recurseSubmodules=false",
        "fetch.prune=false",
        "fetch.pruneTags=false",
        "gc.auto=0",
        "maintenance.auto=false",
        # Prompts then name the host alone, which is what askpass checks.
        "credential.useHttpPath=false",
    )
    for part in ("-c", setting)
)

_ESCAPES: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


class GitFailed(WegentError):
    """A git command failed; the message is git's own reason.

    Attributes:
        stderr: The end of what git printed, cleaned of control characters.
    """

    code = "git_failed"

    def __init__(self, message: str, *, stderr: str = "") -> None:
        super().__init__(message)
        self.stderr = stderr


class GitMissing(GitFailed):
    """There is no git program on this machine."""


class GitTimedOut(GitFailed):
    """A git command took too long; it and everything it started was ended."""


class Git:
    """Runs git commands.

    Args:
        environ: The executor's environment; only what git needs is passed on.
        allow_local: Whether ``file://`` addresses may be read.
    """

    def __init__(self, environ: Mapping[str, str], *, allow_local: bool) -> None:
        self._environment = {
            **{
                name: value
                for name, value in children_environment(with_absolute_path(environ)).items()
                if name.upper() in _INHERITED
            },
            **_FIXED,
            process_tree.MARK_VARIABLE: process_tree.OWN_MARK,
            # Overrides the user's protocol.*.allow: no ext::, no other helper, whoever asks.
            "GIT_ALLOW_PROTOCOL": "https:http:ssh" + (":file" if allow_local else ""),
        }

    def has(self, variable: str) -> bool:
        """Whether the user has set *variable* for git."""
        return variable in self._environment

    async def run(
        self,
        *arguments: str,
        timeout_s: float,
        options: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> bytes:
        """Run ``git`` *options* *arguments* in a process group of its own.

        However this ends, cancellation included, the whole group has ended before it returns.

        Returns:
            Its standard output, cut at :data:`MAX_OUTPUT_BYTES`.

        Raises:
            GitFailed: Git could not be started or reports an error.
            GitTimedOut: It took longer than *timeout_s*.
        """
        transport, protocol = await self._start(
            [*_OPTIONS, *options, *arguments], {**self._environment, **(env or {})}, cwd
        )
        try:
            async with asyncio.timeout(timeout_s):
                await protocol.wait()
        except TimeoutError:
            raise GitTimedOut(
                f"git {arguments[0]} took longer than {timeout_s:g} s", stderr=protocol.error_text
            ) from None
        finally:
            await finish(_end(transport, protocol), within_s=3 * _END_GRACE_S)
        if not protocol.overflowed and transport.get_returncode() != 0:
            stderr = protocol.error_text
            raise GitFailed(_reason(stderr, arguments[0]), stderr=stderr)
        return bytes(protocol.stdout)

    async def _start(
        self, arguments: list[str], env: Mapping[str, str], cwd: Path | None
    ) -> tuple[asyncio.SubprocessTransport, _GitProcess]:
        loop = asyncio.get_running_loop()
        starting = asyncio.ensure_future(
            loop.subprocess_exec(
                _GitProcess,
                "git",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        )
        try:
            # Asyncio, cancelled in there, would kill git but not what git has started by then.
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await finish(_end_started(starting), within_s=3 * _END_GRACE_S)
            raise
        except FileNotFoundError as exc:
            if cwd is not None and str(exc.filename) == str(cwd):
                raise GitFailed(f"the directory {cwd} is gone") from None
            raise GitMissing("git is not installed, or not on the PATH") from None
        except OSError as exc:
            raise GitFailed(f"git cannot be started: {exc.strerror}") from exc


class _GitProcess(asyncio.SubprocessProtocol):
    """Collects bounded output.

    ``asyncio.create_subprocess_exec`` would not do: its ``wait()`` also waits for the pipes, which
    a process that git left behind may hold for ever.
    """

    def __init__(self) -> None:
        self.stdout = bytearray()
        self._stderr = bytearray()
        self.overflowed = False
        self._done = asyncio.Event()
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self._stderr += data
            del self._stderr[:-_KEPT_ERROR_BYTES]
            return
        self.stdout += data
        if len(self.stdout) > MAX_OUTPUT_BYTES:
            del self.stdout[MAX_OUTPUT_BYTES:]
            self.overflowed = True
            self._done.set()

    def process_exited(self) -> None:
        self.exited.set()
        self._done.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()

    async def wait(self) -> None:
        """Wait until the process has ended and its output is here, or there is too much of it."""
        await self._done.wait()
        if not self.overflowed:
            await _within(_PIPE_GRACE_S, self.closed)

    @property
    def error_text(self) -> str:
        return _ESCAPES.sub("", self._stderr.decode("utf-8", "replace").replace("\r", "\n")).strip()


async def _end_started(
    starting: asyncio.Future[tuple[asyncio.SubprocessTransport, _GitProcess]],
) -> None:
    with suppress(OSError):
        await _end(*await starting)


async def _end(transport: asyncio.SubprocessTransport, process: _GitProcess) -> None:
    if not process.exited.is_set():
        _signal_group(transport, graceful=True)
        await _within(_END_GRACE_S, process.exited)
    _signal_group(transport, graceful=False)
    await process.exited.wait()
    transport.close()
    await _within(_PIPE_GRACE_S, process.closed)


def _signal_group(transport: asyncio.SubprocessTransport, *, graceful: bool) -> None:
    try:
        if os.name == "posix":
            # Its group is its pid. A group that still has members keeps its number.
            os.killpg(transport.get_pid(), signal.SIGTERM if graceful else signal.SIGKILL)
        else:
            transport.kill()
    except ProcessLookupError:
        pass


async def _within(seconds: float, event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _reason(stderr: str, command: str) -> str:
    """Git's own words about what went wrong, in one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for index in range(len(lines) - 1, -1, -1):
        word, _, reason = lines[index].partition(": ")
        if word.lower() not in ("fatal", "error"):
            continue
        # What ssh said comes before git's summary of it.
        if reason.startswith("Could not read from remote repository") and index:
            return lines[index - 1]
        return reason
    return lines[-1] if lines else f"git {command} failed without a word"
