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

DEVICE_NAMES: Final = frozenset(
    {"con", "prn", "aux", "nul"}
    | {f"{name}{digit}" for name in ("com", "lpt") for digit in "0123456789¹²³"}
)
"""Lower-case stems that name a device, whatever the suffix, on Windows; source: "Naming Files,
Paths, and Namespaces" of the Win32 documentation."""

_SCHEMES: Final = frozenset({"https", "http", "ssh", "file"})
_SCP_LIKE: Final = re.compile(
    r"(?:(?P<user>[A-Za-z0-9._-]+)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^:].*)"
)
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f]")
_HOST: Final = re.compile(r"\w[\w.-]*|[0-9a-f:.]+")
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

    @property
    def identity(self) -> str:
        """What tells this repository from others: the address without user and trailing parts.

        The same project over https and over ssh counts as two: taking two for one would mix
        their histories, taking one for two only costs a second clone.
        """
        scheme, separator, rest = self.url.rpartition("://")
        authority, slash, path = rest.partition("/" if separator else ":")
        path = path.rstrip("/").removesuffix("/.git").removesuffix(".git")
        return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"

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
        if _CONTROL.search(url) or not _is_unicode(url):
            raise ValueError("must not contain spaces or control characters")
        if "::" in url.partition("/")[0]:
            raise ValueError("must not name a remote helper ('ext::' and the like)")
        if "://" not in url:
            return cls._parse_scp_like(url)
        return cls._parse_url(url)

    @classmethod
    def _parse_url(cls, url: str) -> Repository:
        try:
            parts = urlsplit(url)
            host, port_number = (parts.hostname or "").lower(), parts.port
        except ValueError:
            # The library's own words would repeat parts of the address.
            raise ValueError("must be a valid URL") from None
        scheme = parts.scheme.lower()
        if scheme not in _SCHEMES:
            raise ValueError("must be https, http, ssh or file")
        if parts.query or parts.fragment:
            raise ValueError("must not carry a query or a fragment")
        if scheme == "file":
            if parts.netloc not in ("", "localhost"):
                raise ValueError("a file address must not name a host")
            return cls(url=url, scheme=scheme, host="", name=_folder_name(parts.path))
        if not _HOST.fullmatch(host):
            raise ValueError("must name a host")
        username = unquote(parts.username) if parts.username else None
        if scheme == "ssh" and username is not None and username.startswith("-"):
            raise ValueError("must not name a user that starts with '-'")
        port = f":{port_number}" if port_number is not None else ""
        address = f"[{host}]" if ":" in host else host
        # ssh needs the user in the address; for http it goes through askpass with the password.
        user = f"{parts.username}@" if scheme == "ssh" and parts.username else ""
        return cls(
            url=urlunsplit((scheme, f"{user}{address}{port}", parts.path, "", "")),
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
        if user is None and len(match["host"]) == 1:
            raise ValueError("must be a URL or user@host:path, not a path with a drive letter")
        if match["path"].startswith("-"):
            raise ValueError("must not name a path that starts with '-'")
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
    trimmed = unquote(path).replace("\\", "/").rstrip("/").removesuffix("/.git")
    last = trimmed.rpartition("/")[2].removesuffix(".git")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", last).lstrip("-.")[:100].rstrip(".")
    if not name:
        raise ValueError("must name a repository")
    return f"_{name}" if name.partition(".")[0].lower() in DEVICE_NAMES else name


def _is_unicode(text: str) -> bool:
    # JSON can carry half a surrogate pair, which no command line can.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
    if len(value) > 255 or _FORBIDDEN_IN_BRANCH.search(value) or not _is_unicode(value):
        raise ValueError("must be a valid git branch name of at most 255 characters")
    return value
