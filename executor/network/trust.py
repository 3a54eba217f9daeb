"""Whom TLS connections trust: ``SSL_CERT_FILE``, ``SSL_CERT_DIR``, or the system's own store.

OpenSSL has the paths of its store built in, and in a binary these are the paths of the machine that
it was made on. So they are looked for where this system may have them. On macOS and Windows the
store is no file: there the system itself is asked, and what ``SSL_CERT_FILE`` names is trusted in
addition.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from shared.errors import ConfigError

FILE_VARIABLE: Final = "SSL_CERT_FILE"
DIRECTORY_VARIABLE: Final = "SSL_CERT_DIR"

SYSTEM_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",  # older ones of these
    "/var/lib/ca-certificates/ca-bundle.pem",  # SUSE
    "/etc/ssl/ca-bundle.pem",  # older SUSE
    "/etc/ssl/cert.pem",  # Alpine, BSD
)
"""Where systems keep all their authorities in one file, the most complete file of each first."""

STORE_IS_NO_FILE: Final = sys.platform in ("darwin", "win32")
"""Whether the system itself has to be asked whom it trusts."""

SYSTEM_DIRECTORIES: Final = ("/etc/ssl/certs", "/etc/pki/tls/certs")


def trusting_context(
    environ: Mapping[str, str],
    *,
    files: tuple[str, ...] = SYSTEM_FILES,
    directories: tuple[str, ...] = SYSTEM_DIRECTORIES,
) -> ssl.SSLContext:
    """A context for clients. Reads files: not for the event loop.

    As OpenSSL has it, each variable replaces its own half of the system's store only.

    Args:
        environ: Where the variables are read from.
        files: Where the system's authorities may be in one file.
        directories: Where they may be in one file each, by their hashes.

    Raises:
        ConfigError: ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` cannot be used, or there is no store.
    """
    file, directory = environ.get(FILE_VARIABLE), environ.get(DIRECTORY_VARIABLE)
    if STORE_IS_NO_FILE:
        import truststore

        system: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load(system, file, directory)
        return system
    # Not ssl.create_default_context(): from Python 3.13 on it refuses the certificates of many a
    # company's proxy, which lack what the standard asks for and every other program does without.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    defaults = ssl.get_default_verify_paths()
    file = file or _first(*files, defaults.openssl_cafile)
    directory = directory or _first(*directories, defaults.openssl_capath)
    if file is None and directory is None:
        raise ConfigError(
            "this system has no certificates of authorities",
            hint=f"install its package ca-certificates, or set {FILE_VARIABLE}",
        )
    _load(context, file, directory)
    return context


def _load(context: ssl.SSLContext, file: str | None, directory: str | None) -> None:
    if directory and not Path(directory).is_dir():  # OpenSSL would not say so
        raise ConfigError(f"{DIRECTORY_VARIABLE}: {directory} is not a directory")
    if directory:
        context.load_verify_locations(capath=directory)
    if not file:
        return
    try:
        context.load_verify_locations(cafile=file)
    except ssl.SSLError:
        reason = "it has no certificate in PEM form"
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
    else:
        return
    raise ConfigError(
        f"{FILE_VARIABLE}: {file} cannot be used: {reason}",
        hint="name a file with the certificates of your authorities, "
        "each between BEGIN CERTIFICATE and END CERTIFICATE",
    )


def _first(*paths: str) -> str | None:
    return next((path for path in paths if Path(path).exists()), None)
