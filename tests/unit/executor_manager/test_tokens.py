from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from executor_manager.config import ManagerSettings
from executor_manager.tokens import first_steps, load_tokens, prepare_home
from shared.errors import ConfigError

GIVEN = "a-token-from-the-settings"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "new" / "it's home"
    prepare_home(folder)
    return folder


def test_what_the_first_start_makes_is_this_users_only(home: Path) -> None:
    load_tokens(ManagerSettings(home=home))
    assert mode(home) == mode(home.parent) == 0o700
    files = {path.name: mode(path) for path in home.iterdir()}
    assert files == {"api-token": 0o600, "executor-token": 0o600, "encryption-key": 0o600}


def test_the_second_start_finds_what_the_first_has_made(home: Path) -> None:
    settings = ManagerSettings(home=home)
    first = load_tokens(settings)
    assert load_tokens(settings) == first
    assert first.api != first.executor
    assert len(first.api.get_secret_value()) == 43


def test_a_token_file_that_others_could_read_is_closed(home: Path) -> None:
    settings = ManagerSettings(home=home)
    load_tokens(settings)
    (home / "api-token").chmod(0o644)
    load_tokens(settings)
    assert mode(home / "api-token") == 0o600


def test_a_token_of_the_settings_is_used_and_not_written_down(home: Path) -> None:
    tokens = load_tokens(ManagerSettings(home=home, api_token=GIVEN))
    assert tokens.api.get_secret_value() == GIVEN
    assert not (home / "api-token").exists()
    assert "Bearer $MANAGER_API_TOKEN" in first_steps(tokens, "http://127.0.0.1:1")


def test_the_commands_show_no_token_and_yield_it_in_a_shell(home: Path) -> None:
    tokens = load_tokens(ManagerSettings(home=home))
    text = first_steps(tokens, "http://127.0.0.1:8001")
    assert tokens.api.get_secret_value() not in text
    assert tokens.executor.get_secret_value() not in text
    command = next(line for line in text.splitlines() if "WEGENT_AUTH_TOKEN" in line)
    shown = command.replace("wegent-executor", "env")
    output = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=True).stdout
    assert f"WEGENT_AUTH_TOKEN={tokens.executor.get_secret_value()}" in output.splitlines()
    assert "WEGENT_BACKEND_URL=http://127.0.0.1:8001" in output.splitlines()


def test_one_token_for_both_doors_is_refused(home: Path) -> None:
    settings = ManagerSettings(home=home, api_token=GIVEN, executor_token=GIVEN)
    with pytest.raises(ConfigError, match="are the same"):
        load_tokens(settings)


@pytest.mark.parametrize("name", ["api-token", "executor-token", "encryption-key"])
@pytest.mark.parametrize("content", ["", "too-short", "ünusable-as-a-token-of-ours"])
def test_a_kept_file_without_a_usable_secret_is_told_by_name(
    home: Path, name: str, content: str
) -> None:
    (home / name).write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=name) as caught:
        load_tokens(ManagerSettings(home=home))
    assert content == "" or content not in str(caught.value)


def test_a_home_that_cannot_be_made_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="MANAGER_HOME"):
        prepare_home(tmp_path / "file" / "home")
