"""The two tokens and the key of this manager: from the settings, or made on the first start.

What is made is kept in the home, 0600 in a 0700 folder, and never printed: the commands that
:func:`first_steps` gives read the files.
"""

from __future__ import annotations

import base64
import secrets
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from executor_manager.config import MIN_TOKEN_LENGTH, PREFIX, ManagerSettings
from shared.errors import ConfigError
from shared.private_files import PRIVATE_FILE, make_private_directory, write_private_file

API_TOKEN_FILE: Final = "api-token"  # noqa: S105 - the name of a file
ENCRYPTION_KEY_FILE: Final = "encryption-key"
EXECUTOR_TOKEN_FILE: Final = "executor-token"  # noqa: S105 - the name of a file

_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Tokens:
    """Who may come in, and what keeps the secrets of requests.

    Attributes:
        encryption_key: For secrets at rest: 32 bytes in URL-safe base64.
        api: For callers of the HTTP API.
        executor: For executors.
        api_source: A shell expression that yields ``api`` without showing it.
        executor_source: A shell expression that yields ``executor`` without showing it.
    """

    api: SecretStr = field(repr=False)
    executor: SecretStr = field(repr=False)
    encryption_key: bytes = field(repr=False)
    api_source: str
    executor_source: str


def prepare_home(home: Path) -> None:
    """Make the home, for this user only; one that exists stays as it is. Blocks.

    Raises:
        ConfigError: It cannot be made or used.
    """
    try:
        make_private_directory(home)
    except OSError as exc:
        raise ConfigError(
            f"{PREFIX}HOME: the folder cannot be used: {exc.strerror}",
            hint=f"make {home} writable for this user, or set {PREFIX}HOME to another folder",
        ) from None


def load_tokens(settings: ManagerSettings) -> Tokens:
    """The tokens and the key; makes and keeps what the settings do not give. Blocks.

    Raises:
        ConfigError: A kept one cannot be read or is unusable.
    """
    api, api_source = _token(settings.api_token, settings.home, API_TOKEN_FILE)
    executor, executor_source = _token(settings.executor_token, settings.home, EXECUTOR_TOKEN_FILE)
    if api.get_secret_value() == executor.get_secret_value():
        raise ConfigError(
            f"{PREFIX}API_TOKEN and {PREFIX}EXECUTOR_TOKEN are the same",
            hint="an executor must not be able to call the API: give them different values",
        )
    return Tokens(api, executor, _encryption_key(settings.home), api_source, executor_source)


def first_steps(tokens: Tokens, url: str) -> str:
    """The commands that start an executor and call the API; shows no token."""
    return (
        "Start an executor:\n"
        f'  WEGENT_BACKEND_URL={url} WEGENT_AUTH_TOKEN="{tokens.executor_source}" wegent-executor\n'
        "Call the API:\n"
        f'  curl -H "Authorization: Bearer {tokens.api_source}" {url}/api/v1/nodes'
    )


def _token(given: SecretStr | None, home: Path, name: str) -> tuple[SecretStr, str]:
    if given is not None:
        return given, f"${PREFIX}{name.replace('-', '_').upper()}"
    path = home / name
    value = _kept(path, secrets.token_urlsafe(32))
    if len(value) < MIN_TOKEN_LENGTH:
        raise ConfigError(
            f"the token in {path} has less than {MIN_TOKEN_LENGTH} characters",
            hint="delete the file to get a new one",
        )
    return SecretStr(value), f"$(cat {shlex.quote(str(path))})"


def _encryption_key(home: Path) -> bytes:
    path = home / ENCRYPTION_KEY_FILE
    key = _kept(path, base64.urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).decode())
    try:
        usable = len(base64.urlsafe_b64decode(key)) == _KEY_BYTES
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f"the key in {path} is not {_KEY_BYTES} bytes of URL-safe base64",
            hint="restore the file; without it the secrets of waiting tasks cannot be read",
        )
    return key.encode()


def _kept(path: Path, fresh: str) -> str:
    try:
        if not path.exists():
            write_private_file(path, fresh + "\n")
        path.chmod(PRIVATE_FILE)
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"{path} cannot be read or written: {type(exc).__name__}",
            hint="let this user read and write it, or delete it to get a new one",
        ) from None
