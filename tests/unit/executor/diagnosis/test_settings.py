"""What is wrong with the settings is one finding each, and keeps nothing else from being seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from executor.diagnosis.finding import State
from executor.diagnosis.settings import read_settings
from tests.fakes.users import another_user


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path))
    return tmp_path


def test_each_wrong_variable_is_a_failure_with_its_own_remedy(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEGENT_AUTH_TOKEN", "a-token-for-tests")
    monkeypatch.setenv("LOG_LEVEL", "SHOUT")

    read = read_settings()

    assert {finding.state for finding in read.findings} == {State.FAILED}
    assert [(finding.what.split()[0], finding.remedy) for finding in read.findings] == [
        ("WEGENT_BACKEND_URL", "export WEGENT_BACKEND_URL=http://localhost:8001"),
        ("LOG_LEVEL:", "export LOG_LEVEL=INFO"),
    ]
    assert "SHOUT" not in str(read.findings)
    assert read.settings is not None
    assert read.settings.home == home
    assert read.wrong == {"WEGENT_BACKEND_URL", "LOG_LEVEL"}


def test_what_does_not_fit_together_has_a_remedy_as_well(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST", "0.0.0.0")

    (finding,) = read_settings().findings

    assert finding.what.startswith("HOST: without a token only this machine is served")
    assert finding.remedy == f"correct it in the environment, or in {home / 'config.env'}"


def test_complete_settings_are_one_finding_that_names_the_file(home: Path) -> None:
    file = home / "config.env"
    file.write_text("WEGENT_BACKEND_URL=http://localhost:1\nWEGENT_AUTH_TOKEN=a-token-for-tests\n")

    read = read_settings()

    (finding,) = read.findings
    assert finding.state is State.OK
    assert finding.what.startswith("complete for local mode, ")
    assert str(file) in finding.what
    assert read.wrong == frozenset()


def test_what_leads_to_local_mode_is_said_where_nobody_has_chosen_docker_mode(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del home
    (chosen_by_none,) = read_settings().findings
    monkeypatch.setenv("EXECUTOR_MODE", "docker")
    (chosen,) = read_settings().findings

    assert (chosen_by_none.state, chosen.state) == (State.OK, State.OK)
    assert "for local mode set WEGENT_BACKEND_URL and WEGENT_AUTH_TOKEN" in chosen_by_none.what
    assert chosen.what.startswith("complete for docker mode, ")


def test_a_name_in_the_file_that_is_no_setting_is_a_warning(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEGENT_BACKEND_URL", "http://localhost:1")
    (home / "config.env").write_text("WEGENT_AUTH_TOKN=a-token-for-tests\n")

    missing, unknown = read_settings().findings

    assert missing.what == "WEGENT_AUTH_TOKEN is not set"
    assert unknown.state is State.WARNING
    assert "WEGENT_AUTH_TOKN" in unknown.what
    assert unknown.remedy == "correct its name (to WEGENT_AUTH_TOKEN?), or remove it"
    assert "a-token-for-tests" not in str(unknown)


def test_a_line_that_says_nothing_is_a_warning_with_its_number(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEGENT_BACKEND_URL", "http://localhost:1")
    (home / "config.env").write_text('# mine\nWEGENT_AUTH_TOKEN="a-token-for-tests\n')

    broken, missing = read_settings().findings

    assert broken.state is State.WARNING
    assert broken.what.startswith(f"line 2 of {home / 'config.env'} has no effect")
    assert "a-token-for-tests" not in str(broken)
    assert missing.what == "WEGENT_AUTH_TOKEN is not set"


def test_a_file_that_cannot_be_read_is_a_failure(home: Path) -> None:
    (home / "config.env").write_bytes(b"\xff\xfe")

    read = read_settings()

    (finding,) = read.findings
    assert finding.state is State.FAILED
    assert "config.env cannot be read" in finding.what
    assert finding.remedy == "every line is KEY=value"
    assert read.settings is None


def test_a_file_that_may_not_be_read_has_another_remedy_than_one_that_makes_no_sense(
    home: Path,
) -> None:
    (home / "config.env").touch(mode=0o600)
    home.chmod(0o700)
    read_settings()
    with another_user():
        (finding,) = read_settings().findings

    assert finding.what == f"{home / 'config.env'} cannot be read: Permission denied"
    assert finding.remedy is not None
    assert finding.remedy.startswith("let this user read it")
