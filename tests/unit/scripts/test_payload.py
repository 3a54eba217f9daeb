"""A CLI that a build carries is written into an entry, and read from the built program."""

from __future__ import annotations

import hashlib
import lzma
import struct
import sys
from pathlib import Path

import pytest

from executor.packaged.carried_cli import ENTRY, carried_cli
from scripts.binary.payload import Cli, bundled_cli, write_payload

CONTENT = bytes(range(256)) * 4000


def archive(*entries: tuple[str, bytes], before: bytes = b"", after: bytes = b"") -> bytes:
    """A program with an archive as PyInstaller 6 writes it."""
    content, toc = b"", b""
    for name, blob in entries:
        raw = name.encode() + b"\0"
        raw += b"\0" * (-(18 + len(raw)) % 16)
        toc += struct.pack("!IIIIBc", 18 + len(raw), len(content), len(blob), len(blob), 0, b"a")
        toc += raw
        content += blob
    length = len(content) + len(toc) + 88
    cookie = struct.pack(
        "!8sIIII64s", b"MEI\014\013\012\013\016", length, len(content), len(toc), 311, b"libpython"
    )
    return before + content + toc + cookie + after


@pytest.fixture
def payload(tmp_path: Path) -> bytes:
    cli = tmp_path / "claude"
    cli.write_bytes(CONTENT)
    write_payload(Cli(cli, "2.1.330"), tmp_path / ENTRY)
    return (tmp_path / ENTRY).read_bytes()


def test_a_carried_cli_comes_out_as_it_went_in(tmp_path: Path, payload: bytes) -> None:
    program = tmp_path / "program"
    program.write_bytes(
        archive(("a.so", b"x" * 100), (ENTRY, payload), ("PYZ.pyz", b"y" * 9), after=b"headers")
    )
    cli = carried_cli(program)
    assert cli is not None
    assert (cli.version, cli.size) == ("2.1.330", len(CONTENT))
    assert cli.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert b"".join(cli.chunks()) == CONTENT


def test_pyinstaller_writes_what_is_read(tmp_path: Path, payload: bytes) -> None:
    api = pytest.importorskip("PyInstaller.building.api", reason="NOTHING WAS TESTED")
    writers = pytest.importorskip("PyInstaller.archive.writers")
    (tmp_path / "other").write_bytes(b"x" * 1000)
    entries = [
        ("other", str(tmp_path / "other"), True, "x"),
        (ENTRY, str(tmp_path / ENTRY), False, api.PKG.xformdict["PKG"]),
    ]
    writers.CArchiveWriter(str(tmp_path / "program"), entries, pylib_name="libpython")
    cli = carried_cli(tmp_path / "program")
    assert cli is not None
    assert b"".join(cli.chunks()) == CONTENT


def test_the_last_archive_is_the_programs_own(tmp_path: Path, payload: bytes) -> None:
    program = tmp_path / "program"
    program.write_bytes(archive(("other", b"x"), before=archive((ENTRY, payload))))
    assert carried_cli(program) is None


def test_a_program_without_an_archive_carries_nothing(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"no archive")
    assert carried_cli(program) is None
    assert carried_cli() is None  # from source


def test_a_damaged_or_cut_cli_is_an_error(tmp_path: Path, payload: bytes) -> None:
    program = tmp_path / "program"
    at = len(payload) // 2
    program.write_bytes(archive((ENTRY, payload[:at] + bytes(64) + payload[at + 64 :])))
    damaged = carried_cli(program)
    assert damaged is not None
    with pytest.raises(lzma.LZMAError):
        b"".join(damaged.chunks())

    whole = archive((ENTRY, payload))
    program.write_bytes(whole)
    cut = carried_cli(program)
    assert cut is not None
    program.write_bytes(whole[:at])
    with pytest.raises(EOFError):
        b"".join(cut.chunks())


def test_the_same_cli_is_compressed_once_and_another_one_anew(
    tmp_path: Path, payload: bytes
) -> None:
    entry = tmp_path / ENTRY
    entry.write_bytes(payload + b"kept")
    write_payload(Cli(tmp_path / "claude", "2.1.330"), entry)
    assert entry.read_bytes() == payload + b"kept"
    (tmp_path / "claude").write_bytes(CONTENT + b"!")
    write_payload(Cli(tmp_path / "claude", "2.1.330"), entry)
    assert hashlib.sha256(CONTENT + b"!").hexdigest().encode() in entry.read_bytes()


def test_the_cli_of_the_sdk_is_found_with_its_version(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        bundled_cli(tmp_path)
    name = "claude.exe" if sys.platform == "win32" else "claude"
    (tmp_path / "_bundled").mkdir()
    (tmp_path / "_bundled" / name).touch()
    (tmp_path / "_cli_version.py").write_text('__cli_version__ = "2.1.330"\n')
    assert bundled_cli(tmp_path) == Cli(tmp_path / "_bundled" / name, "2.1.330")
