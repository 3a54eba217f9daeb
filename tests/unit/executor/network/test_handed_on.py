"""What an executor in a container is given of this machine's network, and what it makes of it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pytest

from executor.bootstrap.process import HANDED_ON_VARIABLE
from executor.network import trust
from executor.network.handed_on import HandedOn, adopt_handed_on, pack
from shared.containers.spec import FIXED_ENVIRONMENT, NETWORK_FILE
from shared.errors import ConfigError

INSIDE = "host.docker.internal"
OWN = f"localhost,127.0.0.1,::1,{INSIDE}"


def packed(environ: Mapping[str, str], *local_authorities: Path) -> HandedOn:
    return pack(
        environ,
        file=PurePosixPath("/given/network.json"),
        this_machine=INSIDE,
        local_authorities=tuple(map(str, local_authorities)),
    )


@pytest.fixture(autouse=True)
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with all authorities of the system."""
    store = tmp_path / "store.pem"
    store.write_text("the system's\n")
    monkeypatch.setattr(trust, "STORE_IS_NO_FILE", False)
    monkeypatch.setattr(trust, "SYSTEM_FILES", (str(tmp_path / "none"), str(store)))
    return store


def test_where_there_is_just_the_internet_nothing_is_handed_on(tmp_path: Path) -> None:
    given = packed({"PATH": "/bin", "HTTPS_PROXY": ""}, tmp_path / "none")
    assert (given.files, given.variables, given.on_loopback) == ({}, {}, ())


def test_proxies_go_along_with_their_logins_and_this_machine_is_reached_without_them() -> None:
    proxy = "http://ada:p%40ss@proxy.corp.test:3128"
    given = packed({"https_proxy": proxy, "ALL_PROXY": "p:1", "NO_PROXY": ".corp.test"})
    assert json.loads(given.files["network.json"]) == {
        "HTTPS_PROXY": proxy,
        "ALL_PROXY": "http://p:1",
        "NO_PROXY": f".corp.test,{OWN}",
        "SSL_CERT_FILE": "/given/ssl_cert_file.pem",
    }
    assert given.on_loopback == ()
    assert "p%40ss" not in repr(given)


def test_what_is_reached_without_any_proxy_stays_so() -> None:
    given = packed({"HTTPS_PROXY": "http://p:1", "no_proxy": "*"})
    assert given.variables["NO_PROXY"] == "*"


@pytest.mark.parametrize(
    ("proxy", "inside"),
    [
        ("http://localhost:3128", f"http://{INSIDE}:3128"),
        ("127.0.0.1:3128", f"http://{INSIDE}:3128"),
        ("http://a:b%40@127.1.2.3:3128/", f"http://a:b%40@{INSIDE}:3128/"),
        ("https://[::1]:3128", f"https://{INSIDE}:3128"),
    ],
)
def test_a_proxy_on_the_loopback_is_asked_for_as_this_machine_is_called_inside(
    proxy: str, inside: str
) -> None:
    given = packed({"HTTP_PROXY": proxy, "HTTPS_PROXY": "http://10.0.0.1:3128"})
    assert given.variables["HTTP_PROXY"] == inside
    assert given.variables["HTTPS_PROXY"] == "http://10.0.0.1:3128"
    assert given.on_loopback == ("HTTP_PROXY",)


def test_a_proxy_that_cannot_be_read_is_for_the_one_who_needs_it() -> None:
    assert packed({"HTTP_PROXY": "http://[::1"}).variables["HTTP_PROXY"] == "http://[::1"


def test_authorities_go_along_as_the_contents_of_their_files(tmp_path: Path) -> None:
    environ = {}
    for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"):
        environ[name] = str(tmp_path / name)
        Path(environ[name]).write_text(f"of {name}")
    given = packed(environ)
    assert given.files["ssl_cert_file.pem"] == b"of SSL_CERT_FILE\n"
    assert given.files["node_extra_ca_certs.pem"] == b"of NODE_EXTRA_CA_CERTS\n"
    assert given.variables["GIT_SSL_CAINFO"] == "/given/git_ssl_cainfo.pem"


def test_a_folder_of_authorities_goes_along_as_one_file(tmp_path: Path) -> None:
    for name, content in (("0a1b2c3d.0", "one"), ("ffffffff.1", "two\n"), ("readme", "no")):
        (tmp_path / "ca").mkdir(exist_ok=True)
        (tmp_path / "ca" / name).write_text(content)
    given = packed({"SSL_CERT_DIR": str(tmp_path / "ca"), "GIT_SSL_CAPATH": str(tmp_path / "ca")})
    assert given.files["ssl_cert_file.pem"] == b"the system's\none\ntwo\n"
    assert given.files["git_ssl_cainfo.pem"] == b"one\ntwo\n"
    assert "SSL_CERT_DIR" not in given.variables


def test_what_the_system_trusts_goes_along_when_somebody_has_added_to_it(tmp_path: Path) -> None:
    anchors = tmp_path / "anchors"
    anchors.mkdir()
    assert packed({}, anchors).files == {}
    (anchors / "company.crt").write_text("a company's")
    assert packed({}, anchors).files["ssl_cert_file.pem"] == b"the system's\n"


def test_where_the_store_is_no_file_an_own_authority_comes_beside_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Known(ssl.SSLContext):
        def get_ca_certs(self, binary_form: bool = False) -> list[bytes]:  # type: ignore[override]
            return [b"der"]

    monkeypatch.setattr(trust, "STORE_IS_NO_FILE", True)
    monkeypatch.setattr(ssl, "create_default_context", lambda: Known(ssl.PROTOCOL_TLS_CLIENT))
    (tmp_path / "own").write_text("own")
    given = packed({"SSL_CERT_FILE": str(tmp_path / "own")}).files["ssl_cert_file.pem"]
    assert given == b"own\n" + ssl.DER_cert_to_PEM_cert(b"der").encode()


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"])
def test_authorities_that_are_not_there_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: .*none"):
        packed({name: str(tmp_path / "none")})


def test_what_was_handed_on_is_adopted_but_for_what_the_image_has(tmp_path: Path) -> None:
    file = tmp_path / "network.json"
    file.write_bytes(packed({"HTTPS_PROXY": "http://p:1"}).files["network.json"])
    environ = {"https_proxy": "http://image:1", "SSL_CERT_FILE": ""}
    adopt_handed_on(file, environ)
    assert environ == {
        "https_proxy": "http://image:1",
        "NO_PROXY": OWN,
        "SSL_CERT_FILE": "/given/ssl_cert_file.pem",
    }


def test_only_the_networks_variables_are_adopted(tmp_path: Path) -> None:
    file = tmp_path / "network.json"
    file.write_text(json.dumps({"LD_PRELOAD": "/evil.so"}))
    environ: dict[str, str] = {}
    adopt_handed_on(file, environ)
    adopt_handed_on(tmp_path / "none", environ)
    assert environ == {}


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "network.json"
    file.write_text("{")
    with pytest.raises(ConfigError, match=r"network\.json cannot be read"):
        adopt_handed_on(file, {})


def test_a_container_is_told_where_it_lies() -> None:
    assert FIXED_ENVIRONMENT[HANDED_ON_VARIABLE] == str(NETWORK_FILE)
