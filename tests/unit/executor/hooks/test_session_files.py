"""Files of a session: what an agent puts there leads nowhere else."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from executor.hooks import session_files as module
from executor.hooks.session_files import (
    read_record,
    session_files,
    write_record,
)
from executor.session_places import HOME


@pytest.fixture
def session(tmp_path: Path) -> Path:
    path = tmp_path / "sessions" / "1"
    path.mkdir(parents=True)
    return path


@pytest.fixture(params=["descriptors", "paths"], autouse=True)
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "paths":
        monkeypatch.setattr(module, "_HAS_DESCRIPTORS", False)
    elif not module._HAS_DESCRIPTORS:
        pytest.skip("this system has none")


def paths(session: Path) -> list[str]:
    return [found.path for found in session_files(session)]


def records(session: Path) -> list[str]:
    return sorted(path.name for path in (session / HOME).iterdir())


def test_files_are_found_in_order_without_gits_and_the_agents_own(session: Path) -> None:
    for name in (
        "repo/b.py",
        "repo/.git/config",
        "repo/.claude/settings.json",
        "a.txt",
        ".claude/projects/x.jsonl",
        ".wegent/manifest.json",
        ".mcp-servers/mcp.json",
        ".skills/s/SKILL.md",
        "output/report.md",
    ):
        path = session / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    assert paths(session) == [
        "a.txt",
        "output/report.md",
        "repo/b.py",
        "repo/.claude/settings.json",
    ]


def test_links_and_pipes_are_left_out(session: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("k")
    (session / "folder").symlink_to(tmp_path / "secret")
    (session / "file").symlink_to(tmp_path / "secret" / "key")
    os.mkfifo(session / "pipe")
    assert paths(session) == []


def test_a_session_that_is_a_link_itself_has_no_files(session: Path, tmp_path: Path) -> None:
    (session / "a").write_text("a")
    link = tmp_path / "link"
    link.symlink_to(session)
    if module._HAS_DESCRIPTORS:
        assert paths(link) == []


def test_a_file_is_read_where_it_was_found(session: Path) -> None:
    (session / "a").write_bytes(b"content")
    for found in session_files(session):
        assert found.sha256() == hashlib.sha256(b"content").hexdigest()
        assert found.status.st_size == 7


def test_a_file_that_is_too_large_is_not_read(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 3)
    (session / "a").write_bytes(b"long")
    assert [found.sha256() for found in session_files(session)] == [None]


def test_names_that_are_not_utf8_can_be_told(session: Path) -> None:
    (session / os.fsdecode(b"a\xff")).write_text("a")
    assert paths(session) == ["a\ufffd"]


def test_a_record_is_read_as_it_was_written_and_only_its_owner_may(session: Path) -> None:
    write_record(session, "r.json", {"a": 1})
    write_record(session, "r.json", {"a": "ü"})
    assert read_record(session, "r.json") == {"a": "ü"}
    assert records(session) == ["r.json"]
    if os.name == "posix":
        assert (session / HOME).stat().st_mode & 0o777 == 0o700
        assert (session / HOME / "r.json").stat().st_mode & 0o777 == 0o600


def test_nothing_is_written_through_links(session: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (session / HOME).symlink_to(elsewhere)
    with pytest.raises(OSError):
        write_record(session, "r.json", {})
    assert list(elsewhere.iterdir()) == []
    (session / HOME).unlink()
    (session / HOME).mkdir()
    (elsewhere / "mine").write_text("mine")
    (session / HOME / "r.json").symlink_to(elsewhere / "mine")
    assert read_record(session, "r.json") == {}
    write_record(session, "r.json", {})
    assert (elsewhere / "mine").read_text() == "mine"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_record_that_cannot_be_used_is_as_good_as_none(session: Path, content: bytes) -> None:
    (session / HOME).mkdir()
    (session / HOME / "r.json").write_bytes(content)
    assert read_record(session, "r.json") == {}


def test_a_record_that_cannot_be_written_leaves_the_old_one(session: Path) -> None:
    write_record(session, "r.json", {"old": True})
    (session / HOME / "d.json").mkdir()
    with pytest.raises(OSError):
        write_record(session, "d.json", {})
    assert json.loads((session / HOME / "r.json").read_text()) == {"old": True}
    assert records(session) == ["d.json", "r.json"]
