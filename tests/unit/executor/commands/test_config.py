"""``wegent-executor config``: values, where they come from, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from executor.cli import main
from executor.config.docker import DockerSettings
from executor.config.loading import variables_of
from executor.config.local import LocalSettings
from executor.exit_status import ExitStatus
from executor.network.variables import NETWORK_VARIABLES
from tests.fakes.terminal import Show

KEY = "sk-ant-the-key-of-this-operator"


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ``config.env`` of a home with all that has to be set."""
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path))
    for name in NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    file = tmp_path / "config.env"
    file.write_text(
        "export WEGENT_BACKEND_URL=http://localhost:8001\n"
        "WEGENT_AUTH_TOKEN='the-token-of-this-operator'\n"
        f"ANTHROPIC_API_KEY={KEY}\n"
        "LOG_LEVEL=DEBUG\n"
    )
    return file


def shown_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def row(text: str, variable: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"{variable} "))
    return line.split(maxsplit=2)


def test_each_value_is_shown_with_its_source(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("local_queue_limit", "7")
    monkeypatch.setenv("LOG_FORMAT", "")

    assert main(["config"]) == ExitStatus.OK

    shown = capsys.readouterr().out
    assert str(config_file) in shown
    assert row(shown, "LOCAL_QUEUE_LIMIT")[1:] == ["7", "environment"]
    assert row(shown, "LOG_LEVEL")[1:] == ["DEBUG", "config.env"]
    assert row(shown, "LOG_FORMAT")[1:] == ["text", "default"]
    assert row(shown, "SKILL_CLEAR_CACHE")[1:] == ["true", "default"]
    assert row(shown, "LOCAL_HEARTBEAT_INTERVAL")[1:] == ["30", "default"]
    assert row(shown, "LOCAL_ALLOWED_IMAGES")[1:] == ["-", "default"]


@pytest.mark.parametrize(("mode", "kind"), [("local", LocalSettings), ("docker", DockerSettings)])
def test_every_setting_of_the_mode_is_shown_and_no_other(
    config_file: Path,
    mode: str,
    kind: type[LocalSettings | DockerSettings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del config_file
    monkeypatch.setenv("EXECUTOR_MODE", mode)
    assert main(["config", "--json"]) == ExitStatus.OK

    assert list(shown_json(capsys)["settings"]) == list(variables_of(kind))


def test_tokens_and_tasks_of_docker_mode_are_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path))
    (tmp_path / "token").write_text("token-in-a-file\n")
    monkeypatch.setenv("EXECUTOR_API_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("EXECUTOR_ENV", '{"MY_SECRET": "hunter2"}')
    monkeypatch.setenv("EXECUTOR_NAME", "hunter2 token-in-a-file")

    assert main(["config"]) == ExitStatus.OK

    shown = capsys.readouterr().out
    assert row(shown, "EXECUTOR_ENV")[1:] == ["***", "environment"]
    assert row(shown, "HOST")[1:] == ["0.0.0.0", "default"]
    assert "hunter2" not in shown
    assert "token-in-a-file" not in shown


def test_names_stay_whole_on_a_narrow_terminal(
    config_file: Path, show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    del config_file
    monkeypatch.setenv("COLUMNS", "56")

    assert "WEGENT_EXECUTOR_LOG_BACKUP_COUNT  5" in show(lambda: main(["config"]))


def test_what_the_environment_overrides_is_told(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del config_file
    monkeypatch.setenv("LOG_LEVEL", "ERROR")

    main(["config"])
    assert row(capsys.readouterr().out, "LOG_LEVEL")[1:] == ["ERROR", "environment, not config.env"]

    main(["config", "--json"])
    assert shown_json(capsys)["settings"]["LOG_LEVEL"] == {
        "value": "ERROR",
        "source": "environment",
        "overrides_config_file": True,
    }


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_no_secret_is_shown_wherever_it_was_put(
    config_file: Path,
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del config_file
    monkeypatch.setenv("WEGENT_EXECUTOR_NAME", f"box {KEY}")

    assert main(["config", *options]) == ExitStatus.OK

    said = "".join(capsys.readouterr())
    assert KEY not in said
    assert "the-token-of-this-operator" not in said
    assert "box ***" in said


def test_a_misspelt_name_is_warned_of_with_the_right_one(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with config_file.open("a") as file:
        file.write("WEGENT_AUTH_TOKN=x\nSOMETHING=else\nlog_format=json\n")

    assert main(["config", "--json"]) == ExitStatus.OK

    said = capsys.readouterr()
    assert json.loads(said.out)["unknown"] == ["SOMETHING", "WEGENT_AUTH_TOKN"]
    assert "WEGENT_AUTH_TOKN is not a setting of the executor; did you mean WEGENT_AUTH_TOKEN?" in (
        said.err
    )
    assert "SOMETHING is not a setting" in said.err


def test_a_line_that_says_nothing_is_told_once_with_its_number(
    config_file: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with config_file.open("a") as file:
        file.write('this is no line\nPORT="10002\n')

    assert main(["config"]) == ExitStatus.OK

    said = capsys.readouterr().err
    assert said.count("has no effect") == 2
    assert f"line 5 of {config_file} has no effect" in said
    assert f"line 6 of {config_file} has no effect" in said
    assert "10002" not in said
    assert not caplog.records  # the library that reads the file says nothing of its own


def test_a_line_that_says_nothing_is_told_once_beside_what_is_missing(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config_file.write_text('WEGENT_BACKEND_URL=http://localhost:8001\nWEGENT_AUTH_TOKEN="secret\n')

    assert main(["config"]) == ExitStatus.USAGE

    said = capsys.readouterr().err
    assert "WEGENT_AUTH_TOKEN is not set" in said
    assert said.count(f"line 2 of {config_file} has no effect") == 1
    assert "secret" not in said


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_all_that_is_wrong_is_listed_and_ends_as_a_usage_error(
    config_file: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    config_file.write_text(
        "LOG_LEVEL=loud\nLOCAL_QUEUE_LIMIT=many\nWEGENT_BACKEND_URL=http://localhost:8001\n"
    )

    assert main(["config", *options]) == ExitStatus.USAGE

    said = capsys.readouterr()
    for variable in ("LOG_LEVEL", "LOCAL_QUEUE_LIMIT", "WEGENT_AUTH_TOKEN"):
        assert said.err.count(f"  {variable}") == 1
    assert "loud" not in said.out + said.err
    if options:
        document = json.loads(said.out)
        assert len(document["problems"]) == 3
        assert document["settings"]["LOG_LEVEL"]["value"] is None
        assert document["settings"]["WEGENT_AUTH_TOKEN"]["value"] is None
        assert document["settings"]["WEGENT_BACKEND_URL"]["value"] == "http://localhost:8001"
    else:
        assert row(said.out, "LOG_LEVEL")[1:] == ["wrong", "config.env"]
        assert row(said.out, "WEGENT_AUTH_TOKEN")[1:] == ["missing", "default"]
        assert row(said.out, "WEGENT_BACKEND_URL")[1] == "http://localhost:8001"
        assert row(said.out, "WEGENT_EXECUTOR_LOG_DIR")[1] == str(config_file.parent / "logs")


def test_times_that_do_not_fit_are_told_after_a_wrong_one_is_put_right(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with config_file.open("a") as file:
        file.write("LOCAL_QUEUE_LIMIT=many\nLOCAL_HEARTBEAT_TIMEOUT=10\n")

    assert main(["config"]) == ExitStatus.USAGE

    said = capsys.readouterr()
    assert row(said.out, "LOCAL_HEARTBEAT_INTERVAL")[1:] == ["30", "default"]
    assert row(said.out, "LOCAL_HEARTBEAT_TIMEOUT")[1:] == ["wrong", "config.env"]
    assert "  LOCAL_QUEUE_LIMIT" in said.err
    assert "  LOCAL_HEARTBEAT_TIMEOUT" in said.err


def test_proxies_are_shown_when_they_are_set_without_their_logins(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with config_file.open("a") as file:
        file.write("HTTPS_PROXY=http://me:pass-of-proxy@localhost:1\nNO_PROXY=localhost\n")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    assert main(["config"]) == ExitStatus.OK

    said = capsys.readouterr()
    assert said.err == ""
    assert row(said.out, "HTTPS_PROXY")[2] == "config.env"
    assert row(said.out, "no_proxy")[1:] == ["127.0.0.1", "environment"]
    assert "HTTP_PROXY" not in said.out
    assert "pass-of-proxy" not in said.out

    main(["config", "--json"])
    assert list(shown_json(capsys)["network"]) == ["HTTPS_PROXY", "no_proxy"]


def test_a_file_that_is_not_text_is_a_usage_error(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config_file.write_bytes(b"\xff\xfe")

    assert main(["config"]) == ExitStatus.USAGE
    assert str(config_file) in capsys.readouterr().err
