"""Whom TLS connections trust."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import truststore

from executor.network import trust
from executor.network.trust import trusting_context
from shared.errors import ConfigError
from tests.fakes.authority import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def trusted(context: ssl.SSLContext) -> list[bytes]:
    """The authorities that *context* has loaded."""
    return context.get_ca_certs(binary_form=True)


def der(authority: Authority) -> bytes:
    return ssl.PEM_cert_to_DER_cert(authority.file.read_text())


def test_the_systems_store_is_found_where_this_system_has_it(
    authority: Authority, tmp_path: Path
) -> None:
    files = (str(tmp_path / "of another system"), str(authority.file))
    context = trusting_context({}, files=files, directories=())
    assert trusted(context) == [der(authority)]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_without_a_known_store_openssls_own_is_used(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ssl.get_default_verify_paths()._replace(
        openssl_cafile=str(authority.file), openssl_capath="/nowhere"
    )
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    assert trusted(trusting_context({}, files=(), directories=())) == [der(authority)]


def test_a_system_without_any_store_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = ssl.get_default_verify_paths()._replace(
        openssl_cafile="/nowhere", openssl_capath="/nowhere"
    )
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    with pytest.raises(ConfigError, match=r"ca-certificates, or set SSL_CERT_FILE"):
        trusting_context({}, files=(), directories=())


def test_ssl_cert_file_stands_in_for_the_systems_file(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    context = trusting_context(
        {"SSL_CERT_FILE": str(authority.file)}, files=(str(other.file),), directories=()
    )
    assert trusted(context) == [der(authority)]


def test_where_the_system_itself_is_asked_ssl_cert_file_is_trusted_in_addition(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "STORE_IS_NO_FILE", True)
    context = trusting_context({"SSL_CERT_FILE": str(authority.file)})
    assert isinstance(context, truststore.SSLContext)
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        trusting_context({"SSL_CERT_FILE": "/nowhere"})


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_unusable_ssl_cert_file_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE: .*ca\.pem cannot be used: (No|it has)"):
        trusting_context({"SSL_CERT_FILE": str(file)})


def test_an_ssl_cert_dir_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"SSL_CERT_DIR: .*nowhere is not a directory"):
        trusting_context({"SSL_CERT_DIR": str(tmp_path / "nowhere")})
