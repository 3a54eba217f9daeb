"""The executor's id lasts; what backends offered is remembered; damage costs a new start only."""

from __future__ import annotations

import stat
import uuid
from pathlib import Path

import pytest

from executor.modes.local.identity import BackendMemory, describe_host, load_executor_id
from shared.errors import ConfigError


def test_the_id_stays_the_same_and_is_private(tmp_path: Path) -> None:
    home = tmp_path / "home"

    first = load_executor_id(home)

    assert str(uuid.UUID(first)) == first
    assert load_executor_id(home) == first
    assert stat.S_IMODE((home / "executor_id").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_two_homes_have_two_ids(tmp_path: Path) -> None:
    assert load_executor_id(tmp_path / "a") != load_executor_id(tmp_path / "b")


@pytest.mark.parametrize("content", [b"", b"not an id", b"\xff\xfe"])
def test_a_damaged_id_is_replaced_with_a_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "executor_id").write_bytes(content)

    executor_id = load_executor_id(tmp_path)

    assert load_executor_id(tmp_path) == executor_id
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_an_id_with_a_line_end_of_another_system_is_kept(tmp_path: Path) -> None:
    (tmp_path / "executor_id").write_bytes(b"0b8d5d52-5c8f-4f0c-9a51-0c6f5b7a8e11\r\n")

    assert load_executor_id(tmp_path) == "0b8d5d52-5c8f-4f0c-9a51-0c6f5b7a8e11"


def test_a_home_that_cannot_be_used_is_an_error_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match="WEGENT_EXECUTOR_HOME"):
        load_executor_id(tmp_path / "file" / "home")


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
