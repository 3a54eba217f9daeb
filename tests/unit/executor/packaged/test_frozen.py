"""What the loader of a built program changes is undone; a checkout is left alone."""

from __future__ import annotations

import os
import sys
from types import ModuleType

import pytest

from executor.packaged import frozen
from executor.packaged.build_info import version_line
from shared.version import __version__

BUNDLE = "/tmp/_MEI000004d2abcdef"


@pytest.fixture
def single_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process, as the loader of a single file would have started it."""
    build = ModuleType("wegent_build")
    build.__dict__.update(COMMIT="abc1234", PLATFORM="linux-x86_64")
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
