"""What archives from outside may do, and mostly may not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from executor.tasks.staging import archives
from executor.tasks.staging.archives import opened_archive
from executor.tasks.staging.fetching import Unusable

MARKER = ("SKILL.md", b"text")
Files = Iterable[tuple[str, bytes]]


def zipped(*files: tuple[str, bytes], **attributes: Any) -> bytes:
    """A zip of *files* after the marker; *attributes* are set on each of their entries."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", attributes.pop("compression", zipfile.ZIP_DEFLATED)) as archive:
        archive.writestr(*MARKER)
        for name, content in files:
            info = zipfile.ZipInfo()
            info.filename = name  # the constructor would tidy it
            info.compress_type = archive.compression
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.writestr(info, content)
    return out.getvalue()


def tarred(*members: tarfile.TarInfo | tuple[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for member in (MARKER, *members):
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member, io.BytesIO(b"x" * member.size))
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **attributes: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


def unpacked(content: bytes, scratch: Path) -> dict[str, bytes]:
    with opened_archive(io.BytesIO(content), "SKILL.md", scratch) as entries:
        return {entry.path: b"".join(entry.chunks()) for entry in entries}


def gzipped(*members: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    return gzip.compress(tarred(*members))


@pytest.mark.parametrize("pack", [zipped, tarred, gzipped])
def test_plain_files_come_out(pack: Callable[..., bytes], tmp_path: Path) -> None:
    files = unpacked(pack(("scripts/run.py", b"pass"), ("empty", b"")), tmp_path)

    assert files == {"SKILL.md": b"text", "scripts/run.py": b"pass", "empty": b""}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_around_everything_is_left_out(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.mkdir("greet")
        archive.writestr("greet/SKILL.md", "text")
        archive.writestr("greet/a/b.txt", "b")
        archive.writestr("__MACOSX/greet/._SKILL.md", "litter")
        archive.writestr("greet/.DS_Store", "litter")

    assert unpacked(out.getvalue(), tmp_path) == {"SKILL.md": b"text", "a/b.txt": b"b"}


def test_what_tar_writes_of_the_current_folder_is_taken(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.addfile(member("./", tarfile.DIRTYPE))
        info = tarfile.TarInfo("./SKILL.md")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"text"))

    assert unpacked(out.getvalue(), tmp_path) == {"SKILL.md": b"text"}


def test_whether_a_file_is_executable_is_kept(tmp_path: Path) -> None:
    for content in (
        zipped(("run.sh", b"#"), external_attr=(stat.S_IFREG | 0o755) << 16),
        tarred(member("run.sh", mode=0o755)),
    ):
        with opened_archive(io.BytesIO(content), "SKILL.md", tmp_path) as entries:
            modes = {entry.path: entry.executable for entry in entries}
        assert modes == {"SKILL.md": False, "run.sh": True}


ESCAPES = [
    "../evil", "a/../../evil", "/etc/evil", "//h/evil", "..\\evil", "a\\..\\..\\evil", "C:\\evil",
    "C:evil", "a/..", "a//b", "a:stream", "con", "nul.txt", "a\u202eb", "a.", "a ", "x" * 300,
    "/".join("a" * 20),
]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_path_that_leads_out_or_means_something_else_is_refused(
    name: str, pack: Callable[..., bytes], tmp_path: Path
) -> None:
    with pytest.raises(Unusable):
        unpacked(pack((name, b"x")), tmp_path)


def test_a_name_that_hides_its_end_behind_a_nul_is_refused(tmp_path: Path) -> None:
    packed = zipped(("good.txt_../evil", b"x")).replace(b"good.txt_../", b"good.txt\0../")

    with pytest.raises(Unusable):
        unpacked(packed, tmp_path)


@pytest.mark.parametrize(
    "names",
    [("a.txt", "A.TXT"), ("a", "a/b"), ("a/b", "A/c"), ("SKILL.MD",), ("SKILL.md",),
     ("\u00e9", "e\u0301"), ("SKILL.md/x",)],
)  # fmt: skip
@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_files_that_are_one_on_some_system_are_refused(
    names: tuple[str, ...], pack: Callable[..., bytes], tmp_path: Path
) -> None:
    with pytest.raises(Unusable):
        unpacked(pack(*((name, b"x") for name in names)), tmp_path)


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
     tarfile.CONTTYPE, b"S", b"Z"],
)  # fmt: skip
@pytest.mark.parametrize("pack", [tarred, gzipped])
def test_links_and_devices_in_a_tar_are_refused(
    kind: bytes, pack: Callable[..., bytes], tmp_path: Path
) -> None:
    with pytest.raises(Unusable):
        unpacked(pack(member("link", kind, linkname="SKILL.md")), tmp_path)


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK]
)
def test_links_and_devices_in_a_zip_are_refused(kind: int, tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="a link or a device"):
        unpacked(zipped(("link", b"/etc/passwd"), external_attr=(kind | 0o777) << 16), tmp_path)


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="far too large"):
        unpacked(zipped(("bomb", b"\0" * 30_000_000)), tmp_path)


def test_a_tar_bomb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="far too large"):
        unpacked(gzipped(("bomb", b"\0" * 30_000_000)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_all_files_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 1000)
    content = zipped(*((f"f{n}", b"x" * 300) for n in range(4)), compression=zipfile.ZIP_STORED)

    with pytest.raises(Unusable, match="far too large"):
        unpacked(content, tmp_path)


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    packed = zipped(("bomb", b"\0" * 30_000_000))
    packed = packed.replace(struct.pack("<L", 30_000_000), struct.pack("<L", 5))

    with pytest.raises(Unusable):
        unpacked(packed, tmp_path)


@pytest.mark.parametrize("pack", [zipped, tarred, gzipped])
def test_too_many_entries_are_refused(pack: Callable[..., bytes], tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="more than 2000 entries"):
        unpacked(pack(*((f"{n}/", b"") for n in range(2001))), tmp_path)


def test_a_zip_that_lies_about_the_number_of_its_entries_is_refused(tmp_path: Path) -> None:
    packed = bytearray(zipped(*((f"f{n}", b"") for n in range(2100))))
    at = packed.rfind(b"PK\x05\x06")
    packed[at + 8 : at + 12] = struct.pack("<2H", 2, 2)

    with pytest.raises(Unusable, match="more than 2000 entries"):
        unpacked(bytes(packed), tmp_path)


def test_a_list_of_entries_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    packed = bytearray(zipped())
    at = packed.rfind(b"PK\x05\x06")
    packed[at + 12 : at + 16] = struct.pack("<L", 2**30)

    with pytest.raises(Unusable, match="more than 2000 entries"):
        unpacked(bytes(packed), tmp_path)


def test_the_larger_form_of_a_zip_is_refused(tmp_path: Path) -> None:
    packed = zipped()
    at = packed.rfind(b"PK\x05\x06")
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)

    with pytest.raises(Unusable):
        unpacked(packed[:at] + locator + packed[at:], tmp_path)


class Watched(io.BytesIO):
    """A file that remembers how much was asked for at once."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.most = max(self.most, len(self.getbuffer()) if size is None or size < 0 else size)
        return super().read(size)


def test_a_tar_header_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    header = member("x", tarfile.XHDTYPE, size=2**30).tobuf(tarfile.USTAR_FORMAT)
    file = Watched(header + b"\0" * 1024)

    with pytest.raises(Unusable), opened_archive(file, "SKILL.md", tmp_path):
        pass

    assert file.most <= 2**20


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    info = member("holes")
    info.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**40)}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member("SKILL.md"))
        archive.addfile(info)

    with pytest.raises(Unusable, match="a link or a device"):
        unpacked(out.getvalue(), tmp_path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_may_take_gigabytes_of_memory_is_refused(
    compression: int, tmp_path: Path
) -> None:
    with pytest.raises(Unusable, match="in an unusual way"):
        unpacked(zipped(("a", b"x"), compression=compression), tmp_path)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    packed = bytearray(zipped())
    at = packed.find(b"PK\x01\x02")
    packed[at + 8] |= 1

    with pytest.raises(Unusable, match="encrypted"):
        unpacked(bytes(packed), tmp_path)


def test_an_archive_that_is_too_large_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 10)

    with pytest.raises(Unusable, match="larger than 10 bytes"):
        unpacked(zipped(), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"PK", b"PK\x03\x04" + b"x" * 100, b"\x1f\x8b", b"\x1f\x8b\x08" + b"x" * 100, b"text",
        b"\0" * 10240, zipped()[:-10], zipped()[10:], tarred()[:300], gzip.compress(tarred())[:-9],
        bz2.compress(tarred()), lzma.compress(tarred()), b"Rar!\x1a\x07\0", b"7z\xbc\xaf'\x1c",
    ],
)  # fmt: skip
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(Unusable):
        unpacked(content, tmp_path)


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_damage_anywhere_is_refused_or_does_no_harm(cut: int, tmp_path: Path) -> None:
    for packed in (zipped(("a", b"x")), gzipped(("a", b"x"))):
        damaged = bytearray(packed)
        damaged[cut % len(packed)] ^= 0xFF
        try:
            files = unpacked(bytes(damaged), tmp_path)
        except Unusable:
            continue
        assert "SKILL.md" in files


def test_an_archive_without_a_skill_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/SKILL.md", "text")
        archive.writestr("b/SKILL.md", "text")

    with pytest.raises(Unusable, match=r"no SKILL\.md"):
        unpacked(out.getvalue(), tmp_path)
