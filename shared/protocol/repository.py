"""What a repository's address and a branch name may look like.

Decided before anything is created, and without the network: an address reaches a ``git`` command
line, and its last part names a folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import SecretStr

MAX_URL_LENGTH: Final = 2048
_SCHEMES: Final = frozenset({"https", "http", "ssh", "file"})
_SCP_LIKE: Final = re.compile(
    r"(?:(?P<user>[A-Za-z0-9._-]+)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^:].*)"
)
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f]")
_FORBIDDEN_IN_BRANCH: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|$)")


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository's address, taken apart.

    Attributes:
        url: What ``git`` is given: without user name or password.
        scheme: ``https``, ``http``, ``ssh`` or ``file``.
        host: Lower case, without port; empty for ``file``.
        name: Safe folder name: the last part of the path without ``.git``.
        username: The user that the address named, or ``None``.
        password: The password or token that the address carried, or ``None``.
    """

    url: str
    scheme: str
    host: str
    name: str
    username: str | None = None
    password: SecretStr | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Repository:
        """Take *url* apart.

        Raises:
            ValueError: It is not an address that we hand to git; says why, without the address.
        """
        if len(url) > MAX_URL_LENGTH:
            raise ValueError(f"must be at most {MAX_URL_LENGTH} characters")
        if url.startswith("-"):
            raise ValueError("must not start with '-'")
        if _CONTROL.search(url):
            raise ValueError("must not contain spaces or control characters")
        if "::" in url.partition("/")[0]:
            raise ValueError("must not name a remote helper ('ext::' and the like)")
        if "://" not in url:
            return cls._parse_scp_like(url)
        return cls._parse_url(url)

    @classmethod
    def _parse_url(cls, url: str) -> Repository:
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        if scheme not in _SCHEMES:
            raise ValueError("must be https, http, ssh or file")
        host = (parts.hostname or "").lower()
        if scheme == "file":
            if host not in ("", "localhost"):
                raise ValueError("a file address must not name a host")
            return cls(url=url, scheme=scheme, host="", name=_folder_name(parts.path))
        if not host or host.startswith("-"):
            raise ValueError("must name a host")
        username = unquote(parts.username) if parts.username else None
        if scheme == "ssh" and username is not None and username.startswith("-"):
            raise ValueError("must not name a user that starts with '-'")
        port = f":{parts.port}" if parts.port else ""
        address = f"[{host}]" if ":" in host else host
        # ssh needs the user in the address; for http it goes through askpass with the password.
        user = f"{parts.username}@" if scheme == "ssh" and parts.username else ""
        return cls(
            url=urlunsplit((scheme, f"{user}{address}{port}", parts.path, parts.query, "")),
            scheme=scheme,
            host=host,
            name=_folder_name(parts.path),
            username=username,
            password=SecretStr(unquote(parts.password)) if parts.password else None,
        )

    @classmethod
    def _parse_scp_like(cls, url: str) -> Repository:
        match = _SCP_LIKE.fullmatch(url)
        if match is None:
            raise ValueError("must be a URL or user@host:path")
        user = match["user"]
        if user is not None and user.startswith("-"):
            raise ValueError("must not name a user that starts with '-'")
        return cls(
            url=url,
            scheme="ssh",
            host=match["host"].lower(),
            name=_folder_name(match["path"]),
            username=user,
        )


def _folder_name(path: str) -> str:
    last = unquote(path).replace("\\", "/").rstrip("/").rpartition("/")[2].removesuffix(".git")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", last).lstrip("-.")[:100].rstrip(".")
    if not name:
        raise ValueError("must name a repository")
    return name


def check_repository_url(value: str | None) -> str | None:
    """Pass an address that :meth:`Repository.parse` takes; otherwise raise its ``ValueError``."""
    if value is not None:
        Repository.parse(value)
    return value


def check_branch(value: str | None) -> str | None:
    """Pass a branch name that git takes and no command line mistakes for an option.

    The rules are those of ``git check-ref-format``.
    """
    if value is None:
        return None
    if value.startswith(("-", "/", ".")) or value.endswith(("/", ".")) or value == "@":
        raise ValueError("must not start with '-', '/' or '.', nor end with '/' or '.'")
    if len(value) > 255 or _FORBIDDEN_IN_BRANCH.search(value):
        raise ValueError("must be a valid git branch name of at most 255 characters")
    return value
