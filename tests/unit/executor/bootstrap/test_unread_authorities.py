"""TLS contexts that are made while modules are imported, and what they trust then and later."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from executor.bootstrap.unread_authorities import authorities_unread, read_authorities
from tests.fakes.authority import Authority


@pytest.fixture(autouse=True)
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that has one."""
    monkeypatch.setenv("SSL_CERT_FILE", str(Authority(tmp_path).file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))


def test_a_context_trusts_nobody_until_the_authorities_are_read() -> None:
    with authorities_unread():
        context = ssl.create_default_context()

    assert context.get_ca_certs() == []
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    read_authorities()
    assert len(context.get_ca_certs()) == 1


def test_afterwards_contexts_are_made_as_ever() -> None:
    with pytest.raises(ImportError), authorities_unread():
        raise ImportError

    assert len(ssl.create_default_context().get_ca_certs()) == 1
