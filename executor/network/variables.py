"""Proxies and authorities from ``config.env``: a service has no shell that would export them."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from shared.errors import ConfigError

NETWORK_VARIABLES: Final = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
)
"""What ``config.env`` may hold besides settings; those of proxies in small letters, too."""


def adopt(file: Path, environ: MutableMapping[str, str]) -> None:
    """Set in *environ* the variables of the network that *file* has and *environ* has not.

    The file need not exist. Reads it: call it before the event loop runs.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        lines = dotenv_values(file, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise ConfigError(f"{file} cannot be read: {reason}") from None
    found = {name: value for name, value in lines.items() if value}
    set_already = {name.upper() for name, value in environ.items() if value}
    for name, value in found.items():
        known = name in NETWORK_VARIABLES or name.upper().endswith("_PROXY")
        if known and name.upper() in NETWORK_VARIABLES and name.upper() not in set_already:
            environ[name] = value
