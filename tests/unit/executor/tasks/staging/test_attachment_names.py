from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from executor.tasks.staging.attachment_names import MAX_NAME_BYTES, numbered, safe_name
from shared.protocol.repository import DEVICE_NAMES


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\x\\a.txt", "a.txt"),
        ("..", "attachment"),
        (".", "attachment"),
        ("", "attachment"),
        ("///", "attachment"),
        ("a\0b.txt", "a_b.txt"),
        ("a\nb.txt", "a_b.txt"),
        ("a.txt:stream", "a.txt_stream"),
        ("con", "_con"),
        ("NUL.txt", "_NUL.txt"),
        ("com1.tar.gz", "_com1.tar.gz"),
        ("console.txt", "console.txt"),
        ("-rf", "_-rf"),
        ("a. . ", "a"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("half\ud800.txt", "half.txt"),
        ("日本語.txt", "日本語.txt"),
        (".env", ".env"),
    ],
)
def test_a_name_becomes_a_plain_file_name(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@pytest.mark.parametrize("letter", ["x", "é", "日", "😀"])
def test_a_long_name_is_shortened_before_its_extension(letter: str) -> None:
    safe = safe_name(letter * 300 + ".pdf")

    assert safe.endswith(".pdf")
    assert safe.startswith(letter * 50)
    assert len(safe.encode()) <= MAX_NAME_BYTES


def test_a_number_goes_before_the_extension() -> None:
    assert numbered("report.pdf", 2) == "report-2.pdf"
    assert numbered("Makefile", 3) == "Makefile-3"
    assert numbered(".env", 2) == ".env-2"


@given(st.text(st.characters(), max_size=400), st.integers(2, 10_000))
@example("a" * 254 + ".", 2)
@example("." * 300, 2)
@example("x." + "y" * 300, 2)
def test_any_name_stays_a_direct_child_on_every_platform(name: str, number: int) -> None:
    for safe in (safe_name(name), numbered(safe_name(name), number)):
        assert 0 < len(safe.encode()) <= MAX_NAME_BYTES
        assert PurePosixPath(safe).parts == (safe,)
        assert PureWindowsPath(safe).parts == (safe,)
        assert PureWindowsPath(safe).drive == ""
        assert safe not in (".", "..")
        assert safe.partition(".")[0].lower() not in DEVICE_NAMES
        assert not safe.endswith((" ", "."))
        assert not {unicodedata.category(c) for c in safe} & {"Cc", "Cf", "Cs"}


@given(st.text(max_size=300))
def test_a_safe_name_stays_as_it_is(name: str) -> None:
    assert safe_name(safe_name(name)) == safe_name(name)
