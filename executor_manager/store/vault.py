"""Encryption of what is secret, at rest."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from cryptography.fernet import Fernet, InvalidToken

from shared.errors import ConfigError


class Vault:
    """Seals and opens the secrets of requests, and answers of users, with one key."""

    def __init__(self, key: bytes) -> None:
        """*key*: 32 bytes in URL-safe base64, as ``Fernet.generate_key`` makes them."""
        self._fernet = Fernet(key)
        self._fingerprint_key = hmac.digest(key, b"fingerprint", "sha256")

    def seal(self, secrets: Mapping[str, Any]) -> bytes:
        """Encrypt; the result says nothing but its length."""
        return self._fernet.encrypt(json.dumps(secrets).encode())

    def fingerprint(self, secrets: Mapping[str, Any]) -> str:
        """Tells whether two are equal, and nothing else to who does not have the key."""
        text = json.dumps(secrets, sort_keys=True)
        return hmac.new(self._fingerprint_key, text.encode(), hashlib.sha256).hexdigest()

    def open(self, ciphertext: bytes) -> dict[str, Any]:
        """Decrypt what :meth:`seal` gave.

        Raises:
            ConfigError: It was sealed with another key.
        """
        try:
            opened: dict[str, Any] = json.loads(self._fernet.decrypt(ciphertext))
        except InvalidToken:
            raise ConfigError(
                "stored secrets were encrypted with another key",
                hint="restore the key file that belongs to this database",
            ) from None
        return opened
