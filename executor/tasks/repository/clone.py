"""Cloning a repository, and saying why it could not be cloned.

The whole history is cloned: agents read logs and blame, and a partial clone would have to fetch,
with the token, whenever they do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from executor.tasks.repository.checkout import LOCAL_TIMEOUT_S, Checkout, Remote
from executor.tasks.repository.credentials import NO_HELPERS
from executor.tasks.repository.git import Git, GitFailed, GitMissing, GitTimedOut
from shared.errors import RunError
from shared.protocol.execution import User
from shared.protocol.repository import Repository
from shared.redaction import Redactor
from shared.status import ErrorCode

SSH_COMMAND: Final = "ssh -o BatchMode=yes -o ConnectTimeout=30"
"""Asks nobody. Whether an unknown host is trusted stays the decision of the user's ssh
configuration: accepting it here would be trusting whoever answers first."""

_LOGIN_HINT: Final = "give the task a git_token that may read the repository"
_HINTS: Final = (
    (r"Host key verification failed", "connect to the host once by hand, so that its key is known"),
    (r"Permission denied \(publickey", "add a key of this machine's user to the git host"),
    (
        r"Authentication failed|could not read (Username|Password)|Access denied|error: 40[13]",
        _LOGIN_HINT,
    ),
    (r"not found", f"check the address; for a private repository {_LOGIN_HINT}"),
    (
        r"(HTTP code|error:|response) 407",
        "put the proxy's user and password into HTTPS_PROXY: http://user:password@host:port",
    ),
    (
        r"from proxy|CONNECT",
        "ask whoever runs the proxy to allow this host, or put it into NO_PROXY",
    ),
    (
        r"certificate",
        "set SSL_CERT_FILE for the executor to a file with the certificates of your authorities",
    ),
    (
        r"Could not resolve|Failed to connect|Connection (refused|timed out)|Couldn't connect",
        "check the address, the network and the proxy of this machine",
    ),
    (r"transport 'file' not allowed", "this executor is not set to read local repositories"),
    (r"No space left", "free space on the disk of the workspace"),
    (r"dubious ownership", "the repository belongs to another user of this machine"),
)
"""What to do, by what git said; the first that fits."""

_MAX_DETAILS: Final = 2000
_MAX_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom commits in a new checkout name; ``None`` leaves it to the user's own configuration."""

    name: str | None
    email: str | None

    @classmethod
    def of(cls, user: User) -> Identity:
        """The identity that a request brings."""
        return cls(_plain(user.user_name) or _plain(user.git_login), _plain(user.git_email))


def _plain(text: str | None) -> str | None:
    # Line breaks would end the setting, "<" and ">" mark the address in a commit.
    kept = "".join(c for c in text or "" if c.isprintable() and c not in "<>").strip()[:_MAX_NAME]
    return kept or None


async def clone(
    git: Git,
    remote: Remote,
    into: Path,
    *,
    private_dir: Path,
    branch: str | None,
    identity: Identity,
    timeout_s: float,
) -> None:
    """Clone into *into*, which must not exist; on failure a part of it may be left there.

    Files are written as the repository has them: no filter runs, large files stay LFS pointers.

    Args:
        private_dir: As a :class:`Checkout` needs it.
        timeout_s: For fetching it, and again for writing its files.

    Raises:
        GitFailed: As git says.
    """
    await git.run(
        "clone",
        "--quiet",
        "--origin=origin",
        # Its files come below: a clone itself would run the filters that the user has configured.
        "--no-checkout",
        "--no-recurse-submodules",
        *([f"--branch={branch}"] if branch else []),
        *([f"--config=user.name={identity.name}"] if identity.name else []),
        *([f"--config=user.email={identity.email}"] if identity.email else []),
        "--",
        remote.url,
        str(into),
        timeout_s=timeout_s,
        options=NO_HELPERS if remote.with_credentials else (),
        env=remote.env,
        cwd=into.parent,
    )
    async with Checkout(git, into, private_dir).opened() as view:
        if await view.commit("HEAD") is not None:
            await view.git("read-tree", "-m", "-u", "HEAD", timeout_s=timeout_s)


async def ssh_environment(git: Git, private_dir: Path) -> dict[str, str]:
    """What makes ssh unattended, unless the user has chosen an ssh command of their own."""
    if git.has("GIT_SSH_COMMAND") or git.has("GIT_SSH"):
        return {}
    try:
        await git.run(
            "config",
            "--global",
            "--includes",
            "--get",
            "core.sshCommand",
            timeout_s=LOCAL_TIMEOUT_S,
            cwd=private_dir,
        )
    except GitFailed:
        return {"GIT_SSH_COMMAND": SSH_COMMAND}
    return {}


def clone_failed(
    failure: GitFailed, repository: Repository, branch: str | None, redactor: Redactor
) -> RunError:
    """The verdict for *failure*, in words that a person can act on and without credentials."""
    where = f"cannot clone {repository.url}"
    if isinstance(failure, GitTimedOut):
        return RunError(
            ErrorCode.CLONE_FAILED,
            f"{where}: {failure.message}",
            details=_details(failure, redactor),
            hint="check the network, or raise LOCAL_CLONE_TIMEOUT_SECONDS on the executor",
        )
    if isinstance(failure, GitMissing):
        hint = "install git on the executor's machine"
        return RunError(ErrorCode.CLONE_FAILED, f"{where}: {failure.message}", hint=hint)
    if branch is not None and re.search(r"Remote branch .* not found", failure.message):
        return missing_branch(repository, branch)
    said = f"{failure.message}\n{failure.stderr}"
    return RunError(
        ErrorCode.CLONE_FAILED,
        f"{where}: {redactor.redact(failure.message)}",
        details=_details(failure, redactor),
        hint=next((hint for pattern, hint in _HINTS if re.search(pattern, said)), None),
    )


def missing_branch(repository: Repository, branch: str) -> RunError:
    """The verdict for a branch that does not exist."""
    return RunError(
        ErrorCode.CLONE_FAILED,
        f"{repository.url} has no branch {branch!r}",
        hint="name an existing branch, or none for the default one",
    )


def _details(failure: GitFailed, redactor: Redactor) -> str | None:
    return redactor.redact(failure.stderr)[-_MAX_DETAILS:] or None
