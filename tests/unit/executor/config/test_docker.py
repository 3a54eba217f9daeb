"""The settings of docker mode: who is served, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from executor.config.docker import DockerSettings
from executor.config.loading import load_settings
from executor.config.sources import load_right_settings
from shared.errors import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path))
    return tmp_path


def load() -> DockerSettings:
    settings = load_settings()
    assert isinstance(settings, DockerSettings)
    return settings


def refusal() -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings()
    return str(caught.value)


def test_defaults_are_those_of_the_docker_mode_document() -> None:
    settings = load()

    assert (settings.mode, settings.port) == ("docker", 10001)
    assert settings.workspace_root == Path("/workspace")
    assert settings.first_task is None
    assert settings.variables_of_agents == {}


def test_without_a_token_only_this_machine_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().host == "127.0.0.1"

    monkeypatch.setenv("HOST", "0.0.0.0")
    message = refusal()
    assert message.startswith("HOST: without a token only this machine is served")
    assert "EXECUTOR_API_TOKEN" in message

    monkeypatch.setenv("HOST", "localhost")
    assert load().host == "localhost"


def test_with_a_token_every_network_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECUTOR_API_TOKEN", "Bearer the-token")

    settings = load()

    assert settings.host == "0.0.0.0"
    assert settings.token is not None
    assert settings.token.get_secret_value() == "the-token"
    assert "the-token" in settings.secrets
    assert "the-token" not in repr(settings)


def test_a_token_may_be_in_a_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "token").write_text("the-token\n")
    monkeypatch.setenv("EXECUTOR_API_TOKEN_FILE", str(home / "token"))

    settings = load()

    assert settings.token is not None
    assert settings.token.get_secret_value() == "the-token"
    assert settings.host == "0.0.0.0"
    assert "the-token" in settings.secrets


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff\xfe"])
def test_a_file_without_a_token_is_refused_by_name(
    home: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    if content is not None:
        (home / "token").write_bytes(content)
    monkeypatch.setenv("EXECUTOR_API_TOKEN_FILE", str(home / "token"))

    message = refusal()

    assert message.startswith("EXECUTOR_API_TOKEN_FILE: ")
    assert "two words" not in message


def test_token_and_file_together_are_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "token").write_text("the-token\n")
    monkeypatch.setenv("EXECUTOR_API_TOKEN_FILE", str(home / "token"))
    monkeypatch.setenv("EXECUTOR_API_TOKEN", "another-token")

    assert "EXECUTOR_API_TOKEN_FILE: there is an EXECUTOR_API_TOKEN, too" in refusal()


@pytest.mark.parametrize("variable", ["TASK_INFO", "EXECUTOR_ENV"])
@pytest.mark.parametrize("value", ["hunter2", "[1]", '{"hunter2": '])
def test_what_is_no_json_object_is_refused_without_its_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)

    message = refusal()

    assert message.startswith(f"{variable}: must be a JSON object")
    assert "hunter2" not in message


def test_secrets_among_the_variables_of_agents_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECUTOR_ENV", '{"SERVICE_TOKEN": "hunter2", "PLACE": "here", "N": 1}')

    settings = load()

    assert settings.variables_of_agents == {"SERVICE_TOKEN": "hunter2", "PLACE": "here", "N": 1}
    assert settings.secrets == ["hunter2"]


@pytest.mark.parametrize("variable", ["DEBUG", "DEBUG_RUN"])
def test_debugging_logs_everything(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    assert load().lowest_level == "INFO"

    monkeypatch.setenv(variable, "true")

    assert load().lowest_level == "DEBUG"


def test_the_default_model_counts_more_than_that_of_the_api(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANTHROPIC_MODEL", "a")
    assert load().model == "a"

    monkeypatch.setenv("DEFAULT_MODEL", "b")
    assert load().model == "b"


def test_what_is_wrong_is_left_out_when_the_rest_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOST", "0.0.0.0")
    monkeypatch.setenv("PORT", "many")

    settings, wrong = load_right_settings()

    assert isinstance(settings, DockerSettings)
    assert (settings.host, settings.port) == ("127.0.0.1", 10001)
    assert wrong is not None
    assert wrong.variables == {"HOST", "PORT"}


@pytest.mark.parametrize("name", ["../hunter2", "hunter2/x", "-hunter2", "hunter2 x", "con"])
def test_a_session_that_no_task_can_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SESSION_ID", "s-1.a")
    assert load().session_id == "s-1.a"

    monkeypatch.setenv("SESSION_ID", name)
    message = refusal()

    assert message.startswith("SESSION_ID: ")
    assert "hunter2" not in message
