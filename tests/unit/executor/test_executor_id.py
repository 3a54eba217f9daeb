"""The executor's id lasts, and damage costs a new one only."""

from __future__ import annotations

import stat
import uuid
from pathlib import Path

import pytest

from executor.executor_id import load_executor_id
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
