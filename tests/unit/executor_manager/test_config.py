from __future__ import annotations

from pathlib import Path

import pytest

from executor_manager.config import ManagerSettings, load_settings
from shared.errors import ConfigError

SECRET = "Zq8-unmistakable-value-of-a-secret"


def test_defaults_serve_this_machine_only_from_a_home_of_the_user() -> None:
    settings = load_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8001)
    assert settings.loopback_only
    assert settings.home == Path.home() / ".wegent-executor-manager"
    assert settings.store_url == f"sqlite+aiosqlite:///{settings.home}/manager.db"
    assert settings.api_token is None and settings.executor_token is None
    assert (settings.heartbeat_interval, settings.heartbeat_timeout) == (10, 30)
    assert settings.lost_after_seconds == 86400


def test_the_environment_wins_over_the_file_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manager.env").write_text(
        "export MANAGER_PORT=9001\nMANAGER_LOG_LEVEL=debug\n", encoding="utf-8"
    )
    monkeypatch.setenv("MANAGER_HOME", str(tmp_path))
    monkeypatch.setenv("MANAGER_PORT", "9002")
    settings = load_settings()
    assert (settings.port, settings.log_level) == (9002, "DEBUG")


def test_names_without_the_prefix_belong_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "0.0.0.0")
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://somebody/else")
    settings = load_settings()
    assert settings.host == "127.0.0.1"
    assert settings.store_url.startswith("sqlite+aiosqlite:///")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("MANAGER_PORT", "http", "integer"),
        ("MANAGER_PORT", "65536", "65535"),
        ("MANAGER_API_TOKEN", "short-Zq8", "at least 16 characters"),
        ("MANAGER_API_TOKEN", "change-this-token-in-production", "placeholder"),
        ("MANAGER_EXECUTOR_TOKEN", "your-secure-token-Zq8", "placeholder"),
        ("MANAGER_EXECUTOR_TOKEN", "with spaces in between Zq8", "without spaces"),
        ("MANAGER_DATABASE_URL", "mysql://user:Zq8@host/db", "sqlite+aiosqlite"),
        ("MANAGER_HEARTBEAT_INTERVAL", "0", "greater than 0"),
        ("MANAGER_LOST_AFTER_SECONDS", "inf", "finite"),
        ("MANAGER_LOG_FORMAT", "Zq8", "'text' or 'json'"),
    ],
)
def test_a_wrong_value_is_told_by_name_and_reason_without_the_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert caught.value.message.startswith(f"{name}: ")
    assert reason in caught.value.message
    assert "Zq8" not in str(caught.value)
    assert "manager.env" in str(caught.value.hint)


def test_a_timeout_that_one_lost_heartbeat_exceeds_names_both_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MANAGER_HEARTBEAT_INTERVAL", "20")
    with pytest.raises(
        ConfigError, match=r"MANAGER_HEARTBEAT_TIMEOUT .* MANAGER_HEARTBEAT_INTERVAL"
    ):
        load_settings()


def test_a_settings_file_that_is_no_text_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manager.env").write_bytes(b"\xff\xfe\x00")
    monkeypatch.setenv("MANAGER_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"manager\.env cannot be read"):
        load_settings()


def test_tokens_do_not_show_in_the_settings_text() -> None:
    settings = ManagerSettings(api_token=SECRET, executor_token=SECRET)
    assert SECRET not in f"{settings!r} {settings}"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("box.example.org", False),
    ],
)
def test_only_loopback_counts_as_this_machine(host: str, loopback: bool) -> None:
    assert ManagerSettings(host=host).loopback_only is loopback
