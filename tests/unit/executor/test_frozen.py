"""What the loader of a built program changes is undone; a checkout is left alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from executor import certificates, frozen
from executor.build_info import version_line
from shared.version import __version__

BUNDLE = "/tmp/_MEI000004d2abcdef"


@pytest.fixture
def single_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process, as the loader of a single file would have started it."""
    build = ModuleType("wegent_build")
    build.__dict__.update(COMMIT="abc1234", PLATFORM="linux-x86_64", CERTIFICATE_PATHS=())
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", BUNDLE, raising=False)
    monkeypatch.setitem(sys.modules, "wegent_build", build)
    monkeypatch.setattr(os, "environ", {"PATH": "/bin"})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"LD_LIBRARY_PATH": BUNDLE}, {}),
        (
            {"LD_LIBRARY_PATH": f"{BUNDLE}:/opt/lib:/x", "LD_LIBRARY_PATH_ORIG": "/opt/lib:/x"},
            {"LD_LIBRARY_PATH": "/opt/lib:/x"},
        ),
        ({"LD_LIBRARY_PATH": "/opt/lib"}, {"LD_LIBRARY_PATH": "/opt/lib"}),
        (
            {"LD_LIBRARY_PATH": BUNDLE, "LD_LIBRARY_PATH_ORIG": "the user's own"},
            {"LD_LIBRARY_PATH_ORIG": "the user's own"},
        ),
        (
            {"_PYI_ARCHIVE_FILE": "x", "_PYI_PARENT_PROCESS_LEVEL": "1", "_MEIPASS2": "y"},
            {},
        ),
    ],
    ids=["made", "prolonged", "untouched", "another's copy", "loader's own"],
)
def test_children_get_the_environment_from_before_the_loader(
    before: dict[str, str], after: dict[str, str]
) -> None:
    environ = {"PATH": "/bin", **before}
    frozen.restore(environ, BUNDLE)
    assert environ == {"PATH": "/bin", **after}


def test_a_checkout_keeps_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_PYI_ARCHIVE_FILE", "of the program that has started this one")
    frozen.restore_environment()
    assert "_PYI_ARCHIVE_FILE" in os.environ
    assert frozen.unpacked_folder() is None


@pytest.mark.usefixtures("single_file")
def test_a_single_file_restores_its_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{BUNDLE}:/opt/lib")
    frozen.restore_environment()
    assert os.environ["LD_LIBRARY_PATH"] == "/opt/lib"
    assert frozen.unpacked_folder() == BUNDLE


@pytest.mark.usefixtures("single_file")
def test_a_folder_program_was_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_MEIPASS", "/opt/wegent-executor/_internal")
    assert frozen.unpacked_folder() is None


@pytest.mark.usefixtures("single_file")
def test_a_built_program_says_what_it_was_built_from() -> None:
    assert version_line() == f"wegent-executor {__version__} (abc1234, linux-x86_64)"


def test_from_source_there_is_only_the_version() -> None:
    assert version_line() == f"wegent-executor {__version__}"


@pytest.mark.usefixtures("single_file")
def test_where_the_build_machines_authorities_are_missing_the_systems_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "ca-bundle.crt"
    monkeypatch.setattr(certificates, "CERTIFICATE_FILES", (str(tmp_path / "none"), str(own)))
    certificates.trust_this_system()
    assert "SSL_CERT_FILE" not in os.environ
    own.touch()
    certificates.trust_this_system()
    assert os.environ["SSL_CERT_FILE"] == str(own)


@pytest.mark.usefixtures("single_file")
@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_authorities_that_the_operator_names_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    own = tmp_path / "ca-bundle.crt"
    own.touch()
    monkeypatch.setattr(certificates, "CERTIFICATE_FILES", (str(own),))
    monkeypatch.setenv(name, "/the/operator's")
    certificates.trust_this_system()
    assert {key: os.environ[key] for key in os.environ if key.startswith("SSL_")} == {
        name: "/the/operator's"
    }


@pytest.mark.usefixtures("single_file")
def test_authorities_where_the_build_expects_them_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["wegent_build"], "CERTIFICATE_PATHS", (str(tmp_path),))
    monkeypatch.setattr(certificates, "CERTIFICATE_FILES", (str(tmp_path),))
    certificates.trust_this_system()
    assert "SSL_CERT_FILE" not in os.environ
