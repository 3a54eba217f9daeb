"""What backends offered is remembered; damage costs a new start only."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from executor.modes.local.identity import BackendMemory, describe_host


def test_offered_features_are_remembered_per_backend_across_restarts(tmp_path: Path) -> None:
    memory = BackendMemory(tmp_path / "home")
    assert memory.features("http://a") is None

    memory.remember("http://a", ["seq_ack", "input"])
    memory.remember("http://b", [])

    again = BackendMemory(tmp_path / "home")
    assert again.features("http://a") == frozenset({"seq_ack", "input"})
    assert again.features("http://b") == frozenset()
    assert again.features("http://c") is None
    assert stat.S_IMODE((tmp_path / "home" / "backends.json").stat().st_mode) == 0o600


def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    memory = BackendMemory(tmp_path)
    memory.remember("http://a", ["input"])
    (tmp_path / "backends.json").unlink()

    memory.remember("http://a", ["input"])

    assert not (tmp_path / "backends.json").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"http://a": 7}', "{", '"text"'])
def test_a_damaged_memory_counts_as_empty_and_is_replaced(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "backends.json").write_text(content)

    memory = BackendMemory(tmp_path)
    assert memory.features("http://a") is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]

    memory.remember("http://a", ["input"])
    assert BackendMemory(tmp_path).features("http://a") == frozenset({"input"})


def test_a_memory_that_cannot_be_written_still_works_until_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    memory = BackendMemory(tmp_path / "file" / "home")

    memory.remember("http://a", ["input"])

    assert memory.features("http://a") == frozenset({"input"})
    assert "cannot be written" in caplog.text


def test_the_host_is_described_in_plain_words() -> None:
    host = describe_host()

    assert host.hostname
    assert host.platform in {"linux", "darwin", "windows"}
    assert host.arch == host.arch.lower() != ""
