"""The certificate authorities that a built program trusts."""

from __future__ import annotations

import os
from typing import Final

from executor.frozen import is_frozen

CERTIFICATE_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, BSD
)
"""Where systems keep the certificate authorities that they trust."""


def trust_this_system() -> None:
    """Have a built program find the certificate authorities of the system that it runs on.

    Its OpenSSL looks where the machine has them that it was built on. Where this one has none
    there, ``SSL_CERT_FILE`` names its own, unless the operator has set it or ``SSL_CERT_DIR``.
    """
    if not is_frozen() or "SSL_CERT_FILE" in os.environ or "SSL_CERT_DIR" in os.environ:
        return
    import wegent_build

    if any(_exists(path) for path in wegent_build.CERTIFICATE_PATHS):
        return
    for file in CERTIFICATE_FILES:
        if _exists(file):
            os.environ["SSL_CERT_FILE"] = file
            return


def _exists(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110  this comes at every start, and pathlib costs 3 ms
