"""The checkout of a session: where its repository lies in its directory, and how it comes there.

A checkout that is there is fetched and moved forward only when nothing would be lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
from pathlib import Path
from typing import Final

from executor.session_places import TAKEN
from executor.tasks.repository.checkout import Checkout, Remote
from executor.tasks.repository.clone import (
    Identity,
    clone,
    clone_failed,
    missing_branch,
    ssh_environment,
)
from executor.tasks.repository.credentials import credentials_of, install_askpass
from executor.tasks.repository.git import Git, GitFailed
from executor.tasks.repository.update import BranchMissing, remember_branch, update
from shared.errors import RunError
from shared.protocol.execution import ExecutionRequest
from shared.protocol.repository import Repository
from shared.redaction import Redactor
from shared.shielding import in_thread
from shared.status import ErrorCode

UNFINISHED_CLONE: Final = ".clone"
"""How the folder of a clone ends that is not complete yet."""


class Checkouts:
    """Clones repositories and brings checkouts up to date. One run of a session at a time."""

    def __init__(self, git: Git, private_dir: Path, *, timeout_s: float) -> None:
        """Take the parts.

        Args:
            git: Runs git.
            private_dir: 0700 and outside every workspace.
            timeout_s: For a clone, and for a fetch.
        """
        self._git = git
        self._private_dir = private_dir
        self._timeout_s = timeout_s

    async def prepare(
        self, request: ExecutionRequest, session_dir: Path, cwd: Path | None
    ) -> tuple[Checkout | None, tuple[str, ...]]:
        """Have the checkout of *request* in *session_dir*; ``None``: there is none to have.

        Cancelled or failed, no part of a clone is left.

        Args:
            cwd: The working directory of the session's first run; ``None`` for a new session.

        Returns:
            The checkout, and what could not be done, in sentences for the user.

        Raises:
            RunError: ``clone_failed`` or ``workspace_error``.
            GitFailed: What is there cannot be read.
        """
        if request.git_url is None:
            # A later message need not name the repository again.
            known = cwd if cwd is not None and cwd.parent == session_dir else None
            if known is None or not await asyncio.to_thread(_is_directory, known / ".git"):
                return None, ()
            return Checkout(self._git, known, self._private_dir), ()
        repository = Repository.parse(request.git_url)
        redactor, remote = await self._remote(request, repository)
        branch = request.branch_name
        path, exists = await self._place(repository, session_dir)
        checkout = Checkout(self._git, path, self._private_dir)
        try:
            if exists:
                warnings = await update(checkout, remote, branch, self._timeout_s)
                return checkout, tuple(redactor.redact(warning) for warning in warnings)
            await self._clone(remote, path, branch, Identity.of(request.user))
        except BranchMissing as exc:
            raise missing_branch(repository, str(branch)) from exc
        except GitFailed as exc:
            raise clone_failed(exc, repository, branch, redactor) from None
        return checkout, ()

    async def _remote(
        self, request: ExecutionRequest, repository: Repository
    ) -> tuple[Redactor, Remote]:
        credentials = credentials_of(request, repository)
        if credentials is None:
            ssh = repository.scheme == "ssh"
            env = await ssh_environment(self._git, self._private_dir) if ssh else {}
            return Redactor(), Remote(repository.url, env, with_credentials=False)
        askpass = await asyncio.to_thread(install_askpass, self._private_dir)
        env = credentials.environment(repository, askpass)
        return Redactor([credentials.password]), Remote(repository.url, env, with_credentials=True)

    async def _place(self, repository: Repository, session_dir: Path) -> tuple[Path, bool]:
        """The folder for *repository*, and whether its checkout is there already.

        A name that something else has taken, another repository or a folder of the agent, gets
        a suffix that is always the same for this repository.
        """
        suffix = hashlib.sha256(repository.identity.encode()).hexdigest()[:8]
        for name in (repository.name, f"{repository.name}-{suffix}"):
            path = session_dir / name
            if name.lower() in TAKEN:
                continue
            if not await asyncio.to_thread(os.path.lexists, path):
                return path, False
            try:
                origin = await Checkout(self._git, path, self._private_dir).origin()
            except GitFailed:
                continue
            if origin is not None and _identity(origin) == repository.identity:
                return path, True
        raise RunError(
            ErrorCode.WORKSPACE_ERROR,
            f"both folders for {repository.url} in {session_dir} are taken by something else",
            hint="move them away",
        )

    async def _clone(
        self, remote: Remote, path: Path, branch: str | None, identity: Identity
    ) -> None:
        # Beside its place and renamed when complete: half a clone never passes for a checkout.
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED_CLONE}")
        try:
            await clone(
                self._git,
                remote,
                unfinished,
                private_dir=self._private_dir,
                branch=branch,
                identity=identity,
                timeout_s=self._timeout_s,
            )
            await in_thread(remember_branch, unfinished, branch)
            await in_thread(unfinished.rename, path)
        finally:
            await in_thread(shutil.rmtree, unfinished, ignore_errors=True)


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _identity(url: str) -> str | None:
    try:
        return Repository.parse(url).identity
    except ValueError:
        return None
