"""As whom git clones: user name and token, given to one git process and written nowhere.

The token travels in the environment of that git alone (readable by the same user only) and is
printed by a small ``GIT_ASKPASS`` script, never part of an address, a command line or a file. The
script answers only for the host that was asked for, so that a redirect to elsewhere gets nothing.

Without a token nothing is asked and nobody prompted; the credential helpers of the user whose
machine this is still apply, so that a repository they can clone by hand can be cloned here. With a
token those helpers are off: they could neither store it nor answer in its place.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from shared.errors import Refusal
from shared.protocol.execution import ExecutionRequest
from shared.protocol.repository import Repository
from shared.status import ErrorCode

TOKEN_USERNAMES: Final[Mapping[str, str]] = {
    # Any name does for personal tokens; installation tokens need this one.
    # https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/authenticating-as-a-github-app-installation
    "github": "x-access-token",
    # Any name does for personal and project tokens; OAuth tokens need this one.
    # https://docs.gitlab.com/api/oauth2/#access-git-over-https-with-access-token
    "gitlab": "oauth2",
    # The name of repository, project and workspace access tokens.
    # https://support.atlassian.com/bitbucket-cloud/docs/using-project-access-tokens/
    "bitbucket": "x-token-auth",
}
"""The user name that goes with a bare token, by a word in the host's name."""

DEFAULT_USERNAME: Final = "oauth2"
"""For other hosts (Gitee, Gitea, ...) when the request names nobody; Gerrit needs a real name."""

NO_HELPERS: Final = ("-c", "credential.helper=")
"""Options of a git that is given credentials: an empty helper empties the list before it."""

_ASKPASS: Final = r"""#!/bin/sh
# Answers git's questions about one host from the environment of that git.
nl='
'
case "$nl$ASKPASS_USERNAME_PROMPTS$nl" in
*"$nl$1$nl"*) printf '%s\n' "$ASKPASS_USERNAME"; exit 0 ;;
esac
case "$nl$ASKPASS_PASSWORD_PROMPTS$nl" in
*"$nl$1$nl"*) printf '%s\n' "$ASKPASS_PASSWORD"; exit 0 ;;
esac
exit 1
"""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and what proves it."""

    username: str
    password: str = field(repr=False)

    def environment(self, repository: Repository, askpass: Path) -> dict[str, str]:
        """What the git that may use these credentials for *repository* gets in addition."""
        origins = _origins(repository)
        # Newer versions of git encode the name in the prompt, older ones do not.
        names = {self.username, quote(self.username, safe="")}
        return {
            "GIT_ASKPASS": str(askpass),
            "ASKPASS_USERNAME": self.username,
            "ASKPASS_PASSWORD": self.password,
            "ASKPASS_USERNAME_PROMPTS": "\n".join(f"Username for '{o}': " for o in origins),
            "ASKPASS_PASSWORD_PROMPTS": "\n".join(
                f"Password for '{origin.replace('://', f'://{name}@', 1)}': "
                for origin in origins
                for name in sorted(names)
            ),
        }


def credentials_of(request: ExecutionRequest, repository: Repository) -> Credentials | None:
    """The credentials that *request* brings for *repository*; ``None``: clone without.

    The first of ``git_token``, ``git_password``, a password in the address, ``user.git_token``
    counts; ssh and ``file://`` know neither.

    Raises:
        Refusal: A name or token that cannot be one, by the name of its field.
    """
    if repository.scheme not in ("https", "http"):
        return None
    sources: tuple[tuple[str, SecretStr | None], ...] = (
        ("git_token", request.git_token),
        ("git_password", request.git_password),
        ("git_url", repository.password),
        ("user.git_token", request.user.git_token),
    )
    for place, secret in sources:
        password = secret.get_secret_value().strip() if secret is not None else ""
        if password:
            username = _username(request, repository, bare_token=place.endswith("git_token"))
            _check_printable(place, password)
            _check_printable("git_username", username)
            return Credentials(username, password)
    return None


def _username(request: ExecutionRequest, repository: Repository, *, bare_token: bool) -> str:
    named = (request.git_username or repository.username or "").strip()
    if named:
        return named
    by_host = next((n for word, n in TOKEN_USERNAMES.items() if word in repository.host), None)
    login = (request.user.git_login or "").strip()
    if bare_token and by_host:
        return by_host
    return login or by_host or DEFAULT_USERNAME


def _check_printable(place: str, value: str) -> None:
    # Environment variables take no NUL, git's prompts no line breaks.
    if not value.isprintable():
        raise Refusal(ErrorCode.INVALID_REQUEST, f"{place}: must not contain control characters")


def _origins(repository: Repository) -> list[str]:
    """The hosts, in git's spelling, that may be told the token."""
    parts = urlsplit(repository.url)
    origins = [f"{parts.scheme}://{parts.netloc}"]
    if parts.scheme == "http" and parts.port is None:
        origins.append(f"https://{parts.netloc}")  # http only as the way to https
    return origins


def install_askpass(directory: Path) -> Path:
    """Write the script into *directory*, which must be private; returns its path. Blocks."""
    path = directory / "git-askpass.sh"
    if path.exists():
        return path
    temporary = directory / f".git-askpass.{secrets.token_hex(4)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
        file.write(_ASKPASS)
    temporary.replace(path)
    return path
