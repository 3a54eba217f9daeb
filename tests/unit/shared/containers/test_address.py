"""Which engine is asked: as Docker's own tools would."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from shared.containers.address import DEFAULT_SOCKET, Address, find_engine, missing_socket
from shared.errors import ConfigError
from tests.fakes.authority import Authority


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Docker's configuration, in which a context is current."""
    meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"farm").hexdigest()
    meta.mkdir(parents=True)
    endpoint = {"Endpoints": {"docker": {"Host": "unix:///run/farm.sock"}}}
    (meta / "meta.json").write_text(json.dumps(endpoint))
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "farm"}))
    return tmp_path


def test_the_default_socket_is_asked_when_nothing_is_said(tmp_path: Path) -> None:
    assert find_engine({"DOCKER_CONFIG": str(tmp_path)}) == Address(DEFAULT_SOCKET)


def test_an_empty_variable_says_nothing(tmp_path: Path) -> None:
    environ = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_HOST": "", "DOCKER_CONTEXT": ""}
    assert find_engine(environ) == Address(DEFAULT_SOCKET)


def test_the_current_context_is_asked(config: Path) -> None:
    assert find_engine({"DOCKER_CONFIG": str(config)}) == Address("unix:///run/farm.sock")


def test_docker_host_wins_over_a_context(config: Path) -> None:
    environ = {
        "DOCKER_CONFIG": str(config),
        "DOCKER_CONTEXT": "farm",
        "DOCKER_HOST": "unix:///run/mine.sock",
    }
    assert find_engine(environ) == Address("unix:///run/mine.sock")


def test_docker_context_wins_over_the_current_one(config: Path) -> None:
    environ = {"DOCKER_CONFIG": str(config), "DOCKER_CONTEXT": "default"}
    assert find_engine(environ) == Address(DEFAULT_SOCKET)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("tcp://127.0.0.1:2375", "http://127.0.0.1:2375"),
        ("tcp://engine", "http://engine:2375"),
        ("http://engine:80", "http://engine:80"),
        ("tcp://[::1]:99", "http://[::1]:99"),
        ("npipe:////./pipe/docker_engine", "npipe:////./pipe/docker_engine"),
    ],
)
def test_an_address_is_understood(host: str, url: str, tmp_path: Path) -> None:
    assert find_engine({"DOCKER_CONFIG": str(tmp_path), "DOCKER_HOST": host}) == Address(url)


def test_tls_is_used_with_the_certificates_that_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    (tmp_path / "ca.pem").write_bytes(authority.file.read_bytes())
    address = find_engine(
        {
            "DOCKER_HOST": "tcp://engine",
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(tmp_path),
        }
    )
    assert address.url == "https://engine:2376"
    assert address.tls is not None
    assert len(address.tls.get_ca_certs()) == 1


@pytest.mark.parametrize("host", ["ssh://me@engine", "engine:2375", "tcp://", "tcp://a:99999999"])
def test_an_address_that_cannot_be_used_is_named_with_its_source(host: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="DOCKER_HOST"):
        find_engine({"DOCKER_CONFIG": str(tmp_path), "DOCKER_HOST": host})


def test_a_context_that_does_not_exist_is_an_error(config: Path) -> None:
    with pytest.raises(ConfigError, match="context"):
        find_engine({"DOCKER_CONFIG": str(config), "DOCKER_CONTEXT": "none"})


def test_a_broken_configuration_is_an_error(config: Path) -> None:
    (config / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="configuration"):
        find_engine({"DOCKER_CONFIG": str(config)})


def test_certificates_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    environ = {
        "DOCKER_HOST": "tcp://engine",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(tmp_path),
    }
    with pytest.raises(ConfigError, match="certificates"):
        find_engine(environ)


def test_only_a_socket_that_is_a_file_can_be_missing(tmp_path: Path) -> None:
    def missing(host: str) -> str | None:
        return missing_socket({"DOCKER_CONFIG": str(tmp_path), "DOCKER_HOST": host})

    (tmp_path / "there.sock").touch()
    assert missing(f"unix://{tmp_path}/none.sock") == f"{tmp_path}/none.sock"
    assert missing(f"unix://{tmp_path}/there.sock") is None
    assert missing("tcp://engine:2375") is None
    assert missing("npipe:////./pipe/docker_engine") is None
