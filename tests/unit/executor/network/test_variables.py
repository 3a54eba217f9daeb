"""Proxies and authorities from ``config.env``."""

from __future__ import annotations

from pathlib import Path

import pytest

from executor.network.variables import adopt
from shared.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.env"
    path.write_text(
        "# of this site\n"
        'export HTTPS_PROXY="http://user:p%40ss@proxy:3128"\n'
        "no_proxy=localhost\n"
        "SSL_CERT_FILE=/ca.pem\n"
        "ALL_PROXY=\n"
        "WEGENT_AUTH_TOKEN=s3cr3t\n"
        "LD_PRELOAD=/evil.so\n"
    )
    return path


def test_only_the_networks_variables_are_taken_from_the_file(file: Path) -> None:
    environ: dict[str, str] = {"PATH": "/bin"}
    adopt(file, environ)
    assert environ == {
        "PATH": "/bin",
        "HTTPS_PROXY": "http://user:p%40ss@proxy:3128",
        "no_proxy": "localhost",
        "SSL_CERT_FILE": "/ca.pem",
    }


def test_what_the_environment_has_counts_more_however_it_is_spelled(file: Path) -> None:
    environ = {"https_proxy": "http://other", "NO_PROXY": "h", "SSL_CERT_FILE": ""}
    adopt(file, environ)
    assert environ == {"https_proxy": "http://other", "NO_PROXY": "h", "SSL_CERT_FILE": "/ca.pem"}


def test_there_need_not_be_a_file(tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    adopt(tmp_path / "config.env", environ)
    assert environ == {}


def test_a_file_that_is_no_text_is_named(file: Path) -> None:
    file.write_bytes(b"HTTPS_PROXY=\xff\n")
    with pytest.raises(ConfigError, match=r"config\.env cannot be read: it is not UTF-8"):
        adopt(file, {})
