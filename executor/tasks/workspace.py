"""The workspace of a run: ``{root}/{task_id}/{repository}`` and what lies beside it.

A session's directory, its checkout and its attachments outlive the run: the next message finds
them. What was there is never discarded: an existing checkout is fetched and moved forward only
when nothing would be lost.
"""

from __future__ import annotations

import asyncio
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from executor.tasks.bound_session import remember_session
from executor.tasks.checkouts import UNFINISHED_CLONE, Checkouts
from executor.tasks.repository.changed_files import (
    NOTHING_CHANGED,
    ChangedFiles,
    Snapshot,
    changed_since_commit,
    changed_since_snapshot,
    take_snapshot,
)
from executor.tasks.repository.checkout import Checkout
from executor.tasks.repository.credentials import credentials_of
from executor.tasks.repository.git import Git, GitFailed
from executor.tasks.staging.folders import UNFINISHED
from executor.tasks.staging.stage import Staged, Staging
from shared.errors import Refusal, RunError
from shared.logging import get_logger
from shared.private_files import make_private_directory
from shared.protocol.execution import ExecutionRequest
from shared.protocol.repository import Repository
from shared.status import ErrorCode

logger = get_logger("workspace")


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where a run works.

    Attributes:
        session_dir: ``{root}/{task_id}``, 0700.
        cwd: The agent's working directory: the session's, once it has one, else the checkout, else
            ``session_dir``.
        checkout: The repository's folder; ``None`` when the run has no repository.
        repository: Its address, without credentials.
        branch: ``None`` when detached, or without a checkout.
        commit: What was checked out when the run began; ``None`` before the first commit.
        staged: What this run's request has brought.
        warnings: What could not be done, in sentences for the user.
    """

    session_dir: Path
    cwd: Path
    checkout: Path | None = None
    repository: str | None = None
    branch: str | None = None
    commit: str | None = None
    staged: Staged = field(default_factory=Staged)
    warnings: tuple[str, ...] = ()
    snapshot: Snapshot | None = field(default=None, repr=False)
    """Of ``cwd``, when there is no checkout to ask what has changed."""


class Workspaces:
    """Prepares workspaces and looks at them afterwards. One run of a session at a time.

    Args:
        root: ``LOCAL_WORKSPACE_ROOT``; made when it is missing.
        private_dir: 0700 and outside every workspace; made when it is missing.
        clone_timeout_s: For a clone, and for a fetch.
        allow_local_repositories: Whether ``file://`` addresses are taken.
        environ: The executor's environment; git gets an allow-listed part of it.
        backend_url: The backend this executor is connected to, for what it has to fetch.
        skill_cache: Keeps archives of skills; ``None``: beside *private_dir*.
        session_dir: The directory of the only session that is served, whichever comes first;
            ``None``: every session has its own, below *root*.
        session_id: Which session that is; ``None``: see :attr:`bound_session`.
    """

    def __init__(
        self,
        root: Path,
        *,
        private_dir: Path,
        clone_timeout_s: float,
        allow_local_repositories: bool,
        environ: Mapping[str, str],
        backend_url: str | None,
        session_dir: Path | None = None,
        session_id: str | None = None,
        skill_cache: Path | None = None,
    ) -> None:
        self._root = root
        self._only_dir = session_dir
        self.bound_session = session_id
        """The only session served, once it is known; ``None`` as well where all are."""
        self._remembered = session_id is not None
        """Whether the next start knows it, too."""
        self._private_dir = private_dir
        self._allow_local = allow_local_repositories
        self._git = Git(environ, allow_local=allow_local_repositories)
        self._checkouts = Checkouts(self._git, private_dir, timeout_s=clone_timeout_s)
        self._staging = Staging(
            backend_url=backend_url,
            environ=environ,
            cache_dir=skill_cache or private_dir.parent / "cache" / "skills",
            scratch=private_dir,
        )

    def check(self, request: ExecutionRequest) -> None:
        """Refuse what this executor may not or cannot prepare; touches nothing.

        Raises:
            Refusal: ``invalid_request``, naming the field.
        """
        if self._belongs_to_another(request):
            raise Refusal(
                ErrorCode.INVALID_REQUEST,
                "the session is another than the only one that this executor serves",
                hint="send it to the executor of its own session, or start one with another "
                "WORKSPACE_PATH",
            )
        if request.git_url is not None:
            repository = Repository.parse(request.git_url)
            if repository.scheme == "file" and not self._allow_local:
                raise Refusal(
                    ErrorCode.INVALID_REQUEST,
                    "git_url: this executor does not take local repositories",
                    hint="set LOCAL_ALLOW_LOCAL_REPOSITORIES=true on the executor to allow them",
                )
            credentials_of(request, repository)
        self._staging.check(request)

    async def prepare(self, request: ExecutionRequest, cwd: Path | None = None) -> Workspace:
        """Make the workspace ready.

        Args:
            cwd: The working directory of the session's first run, which stays the session's;
                ``None`` for a new session.

        Raises:
            RunError: ``workspace_error``, ``clone_failed`` or ``attachment_failed``. Cancelled or
                failed, no part of a clone or download is left.
        """
        if self._belongs_to_another(request):  # accepted before it was known whose this is
            raise RunError(ErrorCode.WORKSPACE_ERROR, "this executor serves another session")
        if self._only_dir is not None:
            self.bound_session = request.run.session
        try:
            session_dir = await asyncio.to_thread(self._session_directory, request)
            checkout, warnings = await self._checkouts.prepare(request, session_dir, cwd)
            staged = await self._staging.stage(request, session_dir)
            warnings += staged.warnings
            if cwd is not None and not await asyncio.to_thread(_is_within, cwd, session_dir):
                warnings += ("the session's working directory is gone; it continues elsewhere",)
                cwd = None
            place = cwd or (checkout.path if checkout is not None else session_dir)
            if checkout is None:
                return Workspace(
                    session_dir=session_dir,
                    cwd=place,
                    staged=staged,
                    warnings=warnings,
                    snapshot=await asyncio.to_thread(take_snapshot, place),
                )
            branch, commit = await checkout.head()
            origin = request.git_url or await checkout.origin()
        except OSError as exc:
            raise _workspace_error(exc) from exc
        except GitFailed as exc:
            raise RunError(ErrorCode.WORKSPACE_ERROR, f"the checkout is unusable: {exc}") from exc
        return Workspace(
            session_dir=session_dir,
            cwd=place,
            checkout=checkout.path,
            repository=_address(origin),
            branch=branch,
            commit=commit,
            staged=staged,
            warnings=warnings,
        )

    async def changes(self, workspace: Workspace) -> ChangedFiles:
        """What the run has changed; nothing, and a log line, when that cannot be found out."""
        try:
            if workspace.checkout is not None:
                checkout = Checkout(self._git, workspace.checkout, self._private_dir)
                return await changed_since_commit(checkout, workspace.commit)
            if workspace.snapshot is not None:
                return await asyncio.to_thread(
                    changed_since_snapshot, workspace.cwd, workspace.snapshot
                )
        except (GitFailed, OSError) as exc:
            logger.warning("cannot tell what has changed in %s: %s", workspace.cwd, exc)
        return NOTHING_CHANGED

    async def describe(self, workspace: Workspace) -> dict[str, Any]:
        """The workspace as a verdict tells it: ``{path, branch, commit, files}`` of this moment.

        Paths of ``files`` are relative to ``path``. When not all are listed, ``truncated`` is
        true and ``full_length`` their number.
        """
        branch, commit = workspace.branch, workspace.commit
        if workspace.checkout is not None:
            try:
                branch, commit = await Checkout(
                    self._git, workspace.checkout, self._private_dir
                ).head()
            except (GitFailed, OSError) as exc:
                logger.warning("cannot read the checkout %s: %s", workspace.checkout, exc)
        changed = await self.changes(workspace)
        description: dict[str, Any] = {
            "path": str(workspace.checkout or workspace.cwd),
            "branch": branch,
            "commit": commit,
            "files": changed.files,
        }
        if changed.total > len(changed.files):
            description |= {"truncated": True, "full_length": changed.total}
        return description

    def _session_directory(self, request: ExecutionRequest) -> Path:
        make_private_directory(self._private_dir)
        if self._only_dir is not None:
            return self._bound_directory(request, self._only_dir)
        make_private_directory(self._root)
        root = self._root.resolve()
        session_dir = root / str(request.task_id)
        if session_dir.parent != root or session_dir.name in ("", ".", ".."):
            raise RunError(ErrorCode.WORKSPACE_ERROR, "the session's id names no folder")
        session_dir.mkdir(mode=0o700, exist_ok=True)
        if not stat.S_ISDIR(session_dir.lstat().st_mode):
            raise RunError(
                ErrorCode.WORKSPACE_ERROR,
                f"{session_dir} is a link or a file instead of the session's directory",
                hint="remove it",
            )
        session_dir.chmod(0o700)
        _remove_unfinished(session_dir)
        return session_dir

    def _belongs_to_another(self, request: ExecutionRequest) -> bool:
        return self.bound_session not in (None, request.run.session)

    def _bound_directory(self, request: ExecutionRequest, session_dir: Path) -> Path:
        # Its mode stays: it is a mount, or a folder that somebody else has chosen.
        make_private_directory(session_dir)
        session_dir = session_dir.resolve()
        if not self._remembered:
            remember_session(session_dir, request.run.session)
            self._remembered = True
        _remove_unfinished(session_dir)
        return session_dir


def _remove_unfinished(session_dir: Path) -> None:
    for ending in (UNFINISHED_CLONE, UNFINISHED):
        for unfinished in session_dir.glob(f".*{ending}"):
            shutil.rmtree(unfinished, ignore_errors=True)


def _is_within(path: Path, directory: Path) -> bool:
    return path.is_dir() and path.resolve().is_relative_to(directory)


def _address(url: str | None) -> str | None:
    try:
        return Repository.parse(url).url if url is not None else None
    except ValueError:
        return None


def _workspace_error(exc: OSError) -> RunError:
    place = f" {exc.filename}" if isinstance(exc.filename, str) else ""
    return RunError(
        ErrorCode.WORKSPACE_ERROR,
        f"the workspace{place} cannot be prepared: {exc.strerror or type(exc).__name__}",
        hint="check that the disk has space and that the executor may write there",
    )
