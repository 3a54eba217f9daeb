"""Settings: where they come from, what is refused and how that is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from executor.config.docker import DockerSettings
from executor.config.loading import exposed_config_file, load_settings
from executor.config.local import LocalSettings
from shared.errors import ConfigError
from tests.fakes.users import another_user

URL = "http://localhost:8001"
TOKEN = "a-token-for-tests"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, with the two required settings in the environment."""
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path))
    monkeypatch.setenv("WEGENT_BACKEND_URL", URL)
    monkeypatch.setenv("WEGENT_AUTH_TOKEN", TOKEN)
    return tmp_path


def refusal() -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings()
    return str(caught.value)


def load_local() -> LocalSettings:
    settings = load_settings()
    assert isinstance(settings, LocalSettings)
    return settings


def test_defaults_are_those_of_the_local_mode_document(home: Path) -> None:
    settings = load_local()

    assert settings.mode == "local"
    assert settings.home == home
    assert settings.workspace_root == home / "workspace"
    assert settings.log_dir / settings.log_file == home / "logs" / "executor.log"
    assert (settings.log_max_size_mb, settings.log_backup_count) == (10, 5)
    assert settings.log_level == "INFO"
    assert (settings.heartbeat_interval_s, settings.heartbeat_timeout_s) == (30, 90)
    assert (settings.reconnect_delay_s, settings.reconnect_max_delay_s) == (1, 30)
    assert settings.anthropic_api_key is None
    assert settings.skill_clear_cache is True


def test_without_a_setting_the_home_is_in_the_users_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEGENT_BACKEND_URL", URL)
    monkeypatch.setenv("WEGENT_AUTH_TOKEN", TOKEN)

    assert load_settings().home == Path.home() / ".wegent-executor"


def test_the_environment_wins_over_the_config_file_and_that_over_defaults(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "config.env").write_text(
        "# for this machine\n"
        "export LOCAL_HEARTBEAT_INTERVAL=5\n"
        "LOCAL_RECONNECT_DELAY='2'\n"
        'WEGENT_EXECUTOR_NAME="the one # under the desk"   # a comment\n'
        "WEGENT_AUTH_TOKEN=not-this-one\n"
        "SOMETHING_ELSE=1\n"
    )
    monkeypatch.setenv("LOCAL_RECONNECT_DELAY", "3")

    settings = load_local()

    assert settings.heartbeat_interval_s == 5
    assert settings.reconnect_delay_s == 3
    assert settings.executor_name == "the one # under the desk"
    assert settings.auth_token.get_secret_value() == TOKEN
    assert settings.heartbeat_timeout_s == 90


def test_an_empty_variable_counts_as_not_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "config.env").write_text("ANTHROPIC_MODEL=a-model\nLOG_LEVEL=\n")
    for name in ("LOG_LEVEL", "LOCAL_WORKSPACE_ROOT", "ANTHROPIC_API_KEY", "ANTHROPIC_MODEL"):
        monkeypatch.setenv(name, "")

    settings = load_settings()

    assert settings.log_level == "INFO"
    assert settings.workspace_root == home / "workspace"
    assert settings.anthropic_api_key is None
    assert settings.anthropic_model == "a-model"


def test_words_are_accepted_in_any_case(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del home
    monkeypatch.setenv("EXECUTOR_MODE", " LOCAL ")
    monkeypatch.setenv("LOG_LEVEL", "debug")
    monkeypatch.setenv("LOG_FORMAT", "JSON")
    monkeypatch.setenv("LOCAL_PERMISSION_MODE", "acceptedits")

    settings = load_settings()

    assert settings.log_level == "DEBUG"
    assert settings.log_format == "json"
    assert settings.permission_mode == "acceptEdits"


def test_paths_are_absolute_and_know_the_tilde(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("LOCAL_WORKSPACE_ROOT", "~/work")
    monkeypatch.setenv("WEGENT_EXECUTOR_LOG_DIR", "somewhere")

    settings = load_settings()

    assert settings.workspace_root == Path.home() / "work"
    assert settings.log_dir == home / "somewhere"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://localhost:8000", "http://localhost:8000"),
        (" HTTPS://example.org/team/a/ ", "https://example.org/team/a"),
        ("ws://[::1]:8000", "ws://[::1]:8000"),
        ("wss://example.org", "wss://example.org"),
    ],
)
def test_backend_urls_keep_their_path(
    home: Path, monkeypatch: pytest.MonkeyPatch, given: str, kept: str
) -> None:
    del home
    monkeypatch.setenv("WEGENT_BACKEND_URL", given)

    assert load_local().backend_url == kept


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://example.org",
        "http://",
        "http://host:port",
        "http://host:99999",
        "http://user:hunter2@host",
        "http://hunter2@host",
        "http://host/?a=hunter2",
        "http://ho st",
        "http://ho\nst",
        "http://[::1",
    ],
)
def test_a_bad_backend_url_is_refused_by_name_without_its_value(
    home: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    del home
    monkeypatch.setenv("WEGENT_BACKEND_URL", url)

    message = refusal()

    assert "WEGENT_BACKEND_URL" in message
    assert "hunter2" not in message
    assert url == "http://" or url not in message


def test_a_leading_bearer_is_not_part_of_the_token(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del home
    monkeypatch.setenv("WEGENT_AUTH_TOKEN", "bearer  abc.def ")

    assert load_local().auth_token.get_secret_value() == "abc.def"


@pytest.mark.parametrize("token", ["Bearer ", "  ", "two words", "line\nbreak"])
def test_a_token_that_cannot_be_one_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    del home
    monkeypatch.setenv("WEGENT_AUTH_TOKEN", token)

    assert "WEGENT_AUTH_TOKEN" in refusal()


def test_a_token_alone_asks_for_the_backend_and_tells_of_docker_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path))
    monkeypatch.setenv("WEGENT_AUTH_TOKEN", TOKEN)

    message = refusal()

    assert message.startswith("WEGENT_BACKEND_URL is not set: export WEGENT_BACKEND_URL=")
    assert str(tmp_path / "config.env") in message
    assert "EXECUTOR_MODE=docker" in message


def test_local_mode_without_url_and_token_names_both_with_the_commands_that_set_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path))
    monkeypatch.setenv("EXECUTOR_MODE", "local")

    message = refusal()

    assert "export WEGENT_BACKEND_URL=" in message
    assert "export WEGENT_AUTH_TOKEN=" in message


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, DockerSettings),
        ({"WEGENT_BACKEND_URL": URL, "WEGENT_AUTH_TOKEN": TOKEN}, LocalSettings),
        ({"WEGENT_BACKEND_URL": " ", "WEGENT_AUTH_TOKEN": ""}, DockerSettings),
        ({"WEGENT_BACKEND_URL": URL, "EXECUTOR_MODE": "Docker"}, DockerSettings),
    ],
)
def test_the_mode_follows_from_what_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], kind: type
) -> None:
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path))
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    assert type(load_settings()) is kind


def test_a_backend_in_the_config_file_means_local_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path))
    (tmp_path / "config.env").write_text(f"WEGENT_BACKEND_URL={URL}\nWEGENT_AUTH_TOKEN={TOKEN}\n")

    assert type(load_settings()) is LocalSettings


def test_several_wrong_values_are_listed_together_without_the_values(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {
        "EXECUTOR_MODE": "hunter2",
        "LOCAL_HEARTBEAT_INTERVAL": "hunter2",
        "LOCAL_RECONNECT_DELAY": "nan",
        "LOCAL_MAX_CONCURRENT_TASKS": "0",
        "LOG_LEVEL": "hunter2",
        "LOCAL_ALLOW_LOCAL_REPOSITORIES": "hunter2",
        "LOCAL_PERMISSION_MODE": "hunter2",
        "WEGENT_EXECUTOR_LOG_FILE": "../hunter2",
        "ANTHROPIC_BASE_URL": "hunter2",
        "OPENAI_BASE_URL": "hunter2",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    file = home / "file"
    file.touch()
    monkeypatch.setenv("LOCAL_WORKSPACE_ROOT", str(file))

    message = refusal()

    for name in (*wrong, "LOCAL_WORKSPACE_ROOT"):
        assert name in message
    assert "11 settings" in message
    assert "for example LOCAL_HEARTBEAT_INTERVAL=30" in message
    assert "hunter2" not in message


def test_times_that_do_not_fit_together_are_refused_together(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del home
    monkeypatch.setenv("LOCAL_HEARTBEAT_TIMEOUT", "59")
    monkeypatch.setenv("LOCAL_RECONNECT_MAX_DELAY", "0.5")

    message = refusal()

    assert "LOCAL_HEARTBEAT_TIMEOUT: must be at least twice LOCAL_HEARTBEAT_INTERVAL" in message
    assert "LOCAL_RECONNECT_MAX_DELAY: must not be smaller" in message


def test_a_home_that_is_a_file_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").touch()
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(home / "file"))

    assert "WEGENT_EXECUTOR_HOME: is not a directory" in refusal()


def test_a_relative_path_in_a_folder_that_is_gone_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORKSPACE_ROOT", "work")
    (home / "here").mkdir()
    monkeypatch.chdir(home / "here")
    (home / "here").rmdir()

    assert "LOCAL_WORKSPACE_ROOT: is relative, and the working directory is gone" in refusal()


def test_a_folder_that_this_user_cannot_see_is_no_fault_of_the_config_file(home: Path) -> None:
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    load_local()
    with another_user():
        settings = LocalSettings(
            WEGENT_BACKEND_URL=URL,
            WEGENT_AUTH_TOKEN=SecretStr(TOKEN),
            LOCAL_WORKSPACE_ROOT=closed / "workspace",
        )

    assert settings.workspace_root == closed / "workspace"


def test_an_unknown_user_in_a_path_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del home
    monkeypatch.setenv("LOCAL_WORKSPACE_ROOT", "~nobody-of-this-name/work")

    assert "LOCAL_WORKSPACE_ROOT" in refusal()


def test_the_config_file_cannot_move_the_home_it_lies_in(home: Path) -> None:
    (home / "config.env").write_text(f"WEGENT_EXECUTOR_HOME={home / 'other'}\n")
    # The environment of the fixture wins, so nothing is in conflict yet.
    assert load_settings().home == home


def test_a_config_file_that_moves_the_home_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEGENT_BACKEND_URL", URL)
    monkeypatch.setenv("WEGENT_AUTH_TOKEN", TOKEN)
    default_home = Path.home() / ".wegent-executor"
    default_home.mkdir()
    (default_home / "config.env").write_text("WEGENT_EXECUTOR_HOME=/elsewhere\n")

    assert "export WEGENT_EXECUTOR_HOME=" in refusal()


def test_a_config_file_that_is_not_text_is_refused_by_name(home: Path) -> None:
    (home / "config.env").write_bytes(b"\xff\xfe\x00")

    assert str(home / "config.env") in refusal()


def test_a_config_file_that_others_can_read_is_reported(home: Path) -> None:
    file = home / "config.env"
    assert exposed_config_file(home) is None

    file.touch(mode=0o600)
    assert exposed_config_file(home) is None

    file.chmod(0o640)
    assert exposed_config_file(home) == file


def test_secrets_show_neither_in_repr_nor_in_text(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del home
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-of-the-api")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-of-the-api")

    settings = load_settings()

    assert settings.secrets == [TOKEN, "key-of-the-api", "token-of-the-api"]
    for secret in settings.secrets:
        assert secret not in repr(settings)
        assert secret not in str(settings)


def test_settings_cannot_be_changed(home: Path) -> None:
    del home
    with pytest.raises(ValueError, match="frozen"):
        load_settings().log_level = "DEBUG"  # type: ignore[misc]  # that is the point


def test_a_home_of_an_unknown_user_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", "~nobody-of-this-name/home")
    assert refusal().startswith("WEGENT_EXECUTOR_HOME: names a user (~name)")


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a user always has a home")
def test_a_user_without_a_home_is_told_to_name_a_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 54_321)  # as in a container, known to nobody
    assert load_settings().home == home
    monkeypatch.delenv("WEGENT_EXECUTOR_HOME")
    assert refusal().startswith("WEGENT_EXECUTOR_HOME: is not set")


@pytest.mark.parametrize(
    ("written", "read"), [("512m", 512 * 2**20), ("4g", 4 * 2**30), ("1GiB", 2**30)]
)
def test_the_memory_of_containers_is_written_with_dockers_units(
    home: Path, monkeypatch: pytest.MonkeyPatch, written: str, read: int
) -> None:
    monkeypatch.setenv("CONTAINER_MEMORY", written)
    assert load_local().container_memory == read


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CONTAINER_MEMORY", "much"),
        ("CONTAINER_MEMORY", "1m"),
        ("EXECUTOR_IMAGE", "--privileged"),
        ("EXECUTOR_IMAGE", "one,two"),
        ("LOCAL_ALLOWED_IMAGES", "one, -two"),
        ("MAX_EXECUTOR_CONTAINERS", "0"),
    ],
)
def test_what_containers_cannot_be_made_with_is_refused_by_name(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable):
        load_local()
