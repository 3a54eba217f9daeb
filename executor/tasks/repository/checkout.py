"""A checkout that an agent works in, as git may see it.

Its ``.git/config`` belongs to the agent and could name programs (``core.fsmonitor``, ``filter.*``,
``diff.external``, ``core.sshCommand``), other addresses and proxies for the next fetch with the
user's token. So git is never run on it as it is: :meth:`Checkout.opened` gives git a common
directory of our own (``GIT_COMMON_DIR``) with a configuration of ours beside the checkout's
references and objects. Attributes in the working tree then name drivers that do not exist; hooks
and submodules are off, textconv and external diffs are refused.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import stat
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from executor.plain_files import copy_plain
from executor.tasks.repository.credentials import NO_HELPERS
from executor.tasks.repository.git import Git, GitFailed
from shared.shielding import in_thread

LOCAL_TIMEOUT_S: Final = 60.0
"""For commands that touch only the disk."""

_MAX_CONFIG_BYTES: Final = 1024 * 1024
MAX_COPIED_BYTES: Final = 512 * 1024 * 1024
"""For an index or a list of packed references: the largest known have a tenth of it."""

_UNUSED: Final = frozenset({"hooks", "modules", "worktrees", "lfs", "annex", "rr-cache"})
"""In a git directory: what git does not touch, the way it is run here."""

_IN_PROGRESS: Final = (
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "rebase-merge",
    "rebase-apply",
)

_TAKEN_OVER: Final[Mapping[str, frozenset[str]]] = {
    "core.repositoryformatversion": frozenset({"0", "1"}),
    "core.filemode": frozenset({"true", "false"}),
    "core.ignorecase": frozenset({"true", "false"}),
    "core.precomposeunicode": frozenset({"true", "false"}),
    "core.symlinks": frozenset({"true", "false"}),
    "core.autocrlf": frozenset({"true", "false", "input"}),
    "core.eol": frozenset({"lf", "crlf", "native"}),
    "extensions.objectformat": frozenset({"sha1", "sha256"}),
}
"""What a checkout's own configuration may say: how its files lie on the disk."""


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a checkout comes from, and what a git that talks to it gets in addition."""

    url: str
    env: Mapping[str, str] = field(repr=False)
    with_credentials: bool


class Checkout:
    """An existing checkout.

    Args:
        path: The working tree; its git directory is ``.git`` in it.
        private_dir: 0700, for short-lived files of ours.
    """

    def __init__(self, git: Git, path: Path, private_dir: Path) -> None:
        self.path = path
        self._git = git
        self._private_dir = private_dir

    @property
    def _git_dir(self) -> Path:
        return self.path / ".git"

    async def origin(self) -> str | None:
        """The address of ``origin`` as the checkout's configuration has it."""
        return (await self._settings()).get("remote.origin.url")

    async def head(self) -> tuple[str | None, str | None]:
        """The current branch (``None``: detached) and commit (``None``: no commit yet)."""
        async with self.opened() as view:
            return await view.head()

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[View]:
        """The checkout as git may see it.

        Raises:
            GitFailed: It is not a checkout that can be read safely.
        """
        settings = await self._settings()
        common = self._private_dir / f"git-{secrets.token_hex(8)}"
        try:
            await in_thread(_lay_out, self._git_dir, common, settings)
            yield View(self._git, self.path, common)
        finally:
            await in_thread(shutil.rmtree, common, ignore_errors=True)

    async def _settings(self) -> dict[str, str]:
        await asyncio.to_thread(_check_git_directory, self._git_dir)
        listed = await self._git.run(
            "config",
            f"--file={self._git_dir / 'config'}",
            "--no-includes",
            "--null",
            "--list",
            timeout_s=LOCAL_TIMEOUT_S,
            cwd=self._private_dir,
        )
        text = listed.decode("utf-8", "replace")
        entries = (entry.partition("\n") for entry in text.split("\0") if entry)
        return {name: value for name, _, value in entries}


class View:
    """Git commands on an opened checkout."""

    def __init__(self, git: Git, path: Path, common: Path) -> None:
        self._git = git
        self._path = path
        self.common = common
        self._env = {
            "GIT_DIR": str(path / ".git"),
            "GIT_WORK_TREE": str(path),
            "GIT_COMMON_DIR": str(common),
            "GIT_OBJECT_DIRECTORY": str(path / ".git" / "objects"),
        }

    async def git(
        self,
        *arguments: str,
        timeout_s: float = LOCAL_TIMEOUT_S,
        options: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
    ) -> bytes:
        """Run git here; what exceeds the output limit is cut."""
        return await self._git.run(
            *arguments,
            timeout_s=timeout_s,
            options=options,
            env={**self._env, **(env or {})},
            cwd=self._path,
        )

    async def line(self, *arguments: str) -> str | None:
        """The one line that a command prints, or ``None`` when it fails."""
        try:
            return (await self.git(*arguments)).decode("utf-8", "replace").strip() or None
        except GitFailed:
            return None

    async def head(self) -> tuple[str | None, str | None]:
        """As :meth:`Checkout.head`."""
        branch = await self.line("symbolic-ref", "--quiet", "--short", "HEAD")
        return branch, await self.commit("HEAD")

    async def commit(self, name: str) -> str | None:
        """The commit that *name* stands for."""
        return await self.line("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")

    async def fetch(self, remote: Remote, timeout_s: float) -> None:
        """Bring ``refs/remotes/origin`` up to date."""
        await self.git(
            "fetch",
            "--quiet",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--",
            remote.url,
            "+refs/heads/*:refs/remotes/origin/*",
            timeout_s=timeout_s,
            options=NO_HELPERS if remote.with_credentials else (),
            env=remote.env,
        )

    async def clean(self) -> bool:
        """Whether nothing would be lost or mixed up by moving to another commit.

        Untracked files do not count: git itself refuses to overwrite them.
        """
        if await asyncio.to_thread(self._in_progress):
            return False
        status = await self.git(
            "status", "--porcelain", "-z", "--untracked-files=no", "--ignore-submodules=dirty"
        )
        return not status

    def _in_progress(self) -> bool:
        return any(os.path.lexists(self._path / ".git" / name) for name in _IN_PROGRESS)


def _check_git_directory(git_dir: Path) -> None:
    """Raise unless *git_dir* and all that git reads and writes in it are plain and in their place.

    Through a link git would write its logs, references, packs or index somewhere else.
    """
    for directory in (git_dir.parent, git_dir, git_dir / "objects", git_dir / "refs"):
        if not _mode_is(directory, stat.S_ISDIR):
            raise GitFailed(f"{directory} is not a directory")
    if not _mode_is(git_dir / "config", stat.S_ISREG):
        raise GitFailed(f"{git_dir / 'config'} is not a file")
    if (git_dir / "config").lstat().st_size > _MAX_CONFIG_BYTES:
        raise GitFailed(f"{git_dir / 'config'} is too large")
    if not _is_empty(git_dir / "objects" / "info" / "alternates"):
        # Git would look there for objects, and run there with what that place configures. An empty
        # file is what the sandbox leaves of a place that commands may not write.
        raise GitFailed(f"{git_dir} takes objects from elsewhere")
    _check_plain(git_dir, deep=False, but=_UNUSED)
    _check_plain(git_dir / "objects", deep=False)
    for folder in ("objects/pack", "objects/info", "info", "refs", "logs"):
        _check_plain(git_dir / folder)


def _check_plain(folder: Path, *, deep: bool = True, but: frozenset[str] = frozenset()) -> None:
    """Raise unless everything in *folder*, with *deep* at any depth, is a file or a folder."""
    unseen = [folder]
    while unseen:  # no recursion: an agent may nest folders deeper than Python goes
        try:
            entries = list(os.scandir(unseen.pop()))
        except FileNotFoundError:
            continue
        for entry in entries:
            if entry.name in but:
                continue
            if entry.is_dir(follow_symlinks=False):
                if deep:
                    unseen.append(Path(entry.path))
            elif not entry.is_file(follow_symlinks=False):
                raise GitFailed(f"{entry.path} is neither a file nor a folder")


def _lay_out(git_dir: Path, common: Path, settings: Mapping[str, str]) -> None:
    """Make the common directory that git gets instead of *git_dir*."""
    common.mkdir(mode=0o700)
    lines = ["[core]\n\tbare = false\n\tlogallrefupdates = true\n"]
    for name, allowed in _TAKEN_OVER.items():
        if (value := settings.get(name)) in allowed:
            section, _, key = name.partition(".")
            lines.append(f"[{section}]\n\t{key} = {value}\n")
    (common / "config").write_text("".join(lines))
    (common / "info").mkdir()
    # Counts more than any file of the repository. A driver of the user's own configuration would
    # run on content, and perhaps in a folder, that a stranger has made.
    (common / "info" / "attributes").write_text("* -filter\n")
    for name in ("packed-refs", "shallow", "info/exclude"):
        # Copies are enough: what we write goes into loose references.
        copy_plain(git_dir / name, common / name, MAX_COPIED_BYTES)
    for name in ("refs", "logs"):
        if _mode_is(git_dir / name, stat.S_ISDIR):
            _link_directory(common / name, git_dir / name)


def _link_directory(link: Path, target: Path) -> None:
    if sys.platform == "win32":
        import _winapi

        _winapi.CreateJunction(str(target), str(link))
    else:
        link.symlink_to(target, target_is_directory=True)


def _is_empty(path: Path) -> bool:
    """Whether there is nothing at *path*, or a regular file without content."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return True
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def _mode_is(path: Path, kind: Callable[[int], bool]) -> bool:
    try:
        return kind(path.lstat().st_mode)
    except OSError:
        return False
