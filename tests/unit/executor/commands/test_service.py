"""``wegent-executor service``: what a person sees, and what a service gets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from executor.cli import main
from executor.exit_status import ExitStatus
from executor.service import systemd

TOKEN = "the-token-of-this-operator"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is looked for on Linux")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose ``config.env`` has what a service needs, in a shell that has nothing."""
    home = tmp_path / "my home"
    home.mkdir()
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(home))
    monkeypatch.setenv("PATH", "/usr/bin:relative:/opt/tools/bin:/usr/bin:")
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"):
        monkeypatch.delenv(name, raising=False)
    (home / "config.env").write_text(
        f"WEGENT_BACKEND_URL=http://localhost:8001\nWEGENT_AUTH_TOKEN={TOKEN}\n"
        "LOCAL_SHUTDOWN_GRACE_SECONDS=100\n"
    )
    return home


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """A ``systemctl`` that answers with a text, on a machine that systemd has started."""
    calls = tmp_path / "calls"

    def answering(text: str) -> list[str]:
        (tmp_path / "answer").write_text(text)
        return calls.read_text().splitlines() if calls.exists() else []

    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "systemctl"
    wants = unit_file().parent / "default.target.wants"
    script.write_text(
        f'#!/bin/sh\necho "$*" >> {calls}\ncat {tmp_path / "answer"}\n'
        f'case $2 in enable) mkdir {wants} && ln -s "{unit_file()}" {wants}/$3 ;; esac\n'
    )
    script.chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(systemd, "BOOTED", tmp_path)
    return answering


def unit_file() -> Path:
    return Path.home() / ".config" / "systemd" / "user" / "wegent-executor.service"


def test_a_dry_run_shows_all_and_does_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["service", "install", "--dry-run"]) == ExitStatus.OK
    shown = capsys.readouterr()
    assert f"write {unit_file()}:" in shown.out
    assert f"ExecStart={Path(sys.executable).with_name('wegent-executor')} run" in shown.out
    assert f'Environment="WEGENT_EXECUTOR_HOME={home}"' in shown.out
    assert "Environment=PATH=/usr/bin:/opt/tools/bin\n" in shown.out
    assert "TimeoutStopSec=160" in shown.out  # by the grace in config.env
    assert "run: systemctl --user enable wegent-executor.service" in shown.out
    assert TOKEN not in shown.out + shown.err
    assert shown.err == ""
    assert not unit_file().exists()


def frozen(monkeypatch: pytest.MonkeyPatch, program: Path, bundle: Path) -> None:
    """Be the program that PyInstaller has made, as far as Python tells."""
    program.parent.mkdir(parents=True, exist_ok=True)
    program.touch(mode=0o700)
    stamp = ModuleType("wegent_build")
    monkeypatch.setattr(stamp, "COMMIT", "abc", raising=False)
    monkeypatch.setattr(stamp, "PLATFORM", "linux", raising=False)
    monkeypatch.setitem(sys.modules, "wegent_build", stamp)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", str(bundle), raising=False)
    monkeypatch.setattr(sys, "executable", str(program))


def test_an_installed_folder_is_started_by_the_link_that_an_update_exchanges(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = home / "versions" / "abc" / "wegent-executor"
    frozen(monkeypatch, program, program.parent / "_internal")
    link = home / "bin" / "wegent-executor"
    link.parent.mkdir()
    link.symlink_to(program)
    assert main(["service", "install", "--dry-run"]) == ExitStatus.OK
    shown = capsys.readouterr().out
    assert f'ExecStart="{link}" run' in shown
    assert "NotifyAccess=main" in shown


def test_a_single_file_speaks_through_the_process_that_it_is_unpacked_for(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "downloads" / "wegent-executor"
    frozen(monkeypatch, program, tmp_path / "_MEI123")
    assert main(["service", "install", "--dry-run"]) == ExitStatus.OK
    shown = capsys.readouterr().out
    assert f"ExecStart={program} run" in shown
    assert "NotifyAccess=all" in shown


@pytest.mark.parametrize("lines", ["", "EXECUTOR_MODE=docker\n"])
def test_a_service_needs_a_backend(
    home: Path, lines: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "config.env").write_text(lines)
    assert main(["service", "install", "--dry-run"]) == ExitStatus.USAGE
    shown = capsys.readouterr()
    assert "a service runs in local mode" in shown.err
    assert "WEGENT_BACKEND_URL" in shown.err
    assert shown.out == ""


def test_what_only_the_shell_has_does_not_make_a_service(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "config.env").write_text("WEGENT_BACKEND_URL=http://localhost:8001\n")
    monkeypatch.setenv("WEGENT_AUTH_TOKEN", TOKEN)
    assert main(["service", "install", "--dry-run"]) == ExitStatus.USAGE
    shown = capsys.readouterr()
    assert "WEGENT_AUTH_TOKEN is not set" in shown.err
    assert "WEGENT_BACKEND_URL" not in shown.err
    assert str(home / "config.env") in shown.err
    assert shown.out == ""


def test_what_the_service_will_lack_is_said_by_name_only(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("https_proxy", "http://user:password@proxy:3128")
    monkeypatch.setenv("WEGENT_AUTH_TOKEN", "another-token")  # config.env has one as well
    assert main(["service", "install", "--dry-run"]) == ExitStatus.OK
    shown = capsys.readouterr()
    assert "only this shell has: LOG_LEVEL, https_proxy;" in shown.err
    assert "password" not in shown.err + shown.out
    assert "WEGENT_AUTH_TOKEN" not in shown.err


def test_installing_and_uninstalling_on_a_machine_with_systemd(
    home: Path, systemctl: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    systemctl("")
    assert main(["service", "install"]) == ExitStatus.OK
    assert unit_file().is_file()
    said = capsys.readouterr().out
    assert "wegent-executor service start" in said
    assert "loginctl enable-linger" in said
    assert main(["service", "install"]) == ExitStatus.OK
    assert "installed already" in capsys.readouterr().out
    assert main(["service", "uninstall"]) == ExitStatus.OK
    assert not unit_file().exists()
    assert main(["service", "uninstall"]) == ExitStatus.OK
    assert "not installed" in capsys.readouterr().out
    assert [call for call in systemctl("") if "show" not in call] == [
        "--user daemon-reload",
        "--user enable wegent-executor.service",
        "--user disable --now wegent-executor.service",
        "--user daemon-reload",
    ]
    assert (home / "config.env").is_file()


@pytest.mark.parametrize("action", ["install", "uninstall"])
def test_where_systemd_does_not_answer_nothing_is_done(
    home: Path,
    systemctl: Callable[[str], list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    action: str,
) -> None:
    script = tmp_path / "bin" / "systemctl"
    script.write_text("#!/bin/sh\necho 'Failed to connect to bus: No medium found' >&2\nexit 1\n")
    assert main(["service", action]) == ExitStatus.FAILURE
    assert "a login of your own? Not after sudo" in capsys.readouterr().err
    assert not unit_file().exists()


def test_starting_what_is_not_installed_says_how_to_install_it(
    home: Path, systemctl: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    systemctl("LoadState=not-found\n")
    assert main(["service", "start"]) == ExitStatus.USAGE
    assert "wegent-executor service install" in capsys.readouterr().err


def test_one_that_does_not_start_says_where_the_reason_is(
    home: Path,
    systemctl: Callable[[str], list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    systemctl("LoadState=loaded\nActiveState=failed\n")
    script = tmp_path / "bin" / "systemctl"
    script.write_text(f"{script.read_text()}case $2 in start) exit 1 ;; esac\n")
    assert main(["service", "start"]) == ExitStatus.FAILURE
    assert "wegent-executor service status" in capsys.readouterr().err


def test_it_is_started_and_stopped(
    home: Path, systemctl: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    systemctl("LoadState=loaded\nActiveState=active\n")
    assert main(["service", "start"]) == ExitStatus.OK
    assert main(["service", "stop"]) == ExitStatus.OK
    calls = [call for call in systemctl("") if "show" not in call]
    assert calls == ["--user start wegent-executor.service", "--user stop wegent-executor.service"]
    assert capsys.readouterr().out == "Started.\nStopped.\n"


def test_the_status_explains_how_it_ended(
    home: Path, systemctl: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    systemctl(
        "LoadState=loaded\nActiveState=failed\nMainPID=0\nExecMainCode=1\nExecMainStatus=77\n"
    )
    assert main(["service", "status"]) == ExitStatus.NOT_RUNNING
    assert ExitStatus.REJECTED.meaning in capsys.readouterr().out


def test_the_status_as_json_has_all_that_is_known(
    home: Path, systemctl: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    systemctl(
        "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nMainPID=42\n"
        "StatusText=connected to http://b\n"
    )
    assert main(["service", "status", "--json"]) == ExitStatus.OK
    assert json.loads(capsys.readouterr().out) == {
        "state": "running",
        "at_login": True,
        "pid": 42,
        "says": "connected to http://b",
        "last_exit": None,
    }


def test_a_machine_without_systemd_is_told_what_to_do_instead(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(systemd, "BOOTED", tmp_path / "nothing")
    assert main(["service", "install"]) == ExitStatus.FAILURE
    assert "wegent-executor run" in capsys.readouterr().err


def test_a_word_that_is_no_action_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["service", "restart"]) == ExitStatus.USAGE
    assert main(["service"]) == ExitStatus.USAGE
    assert main(["service", "start", "--force"]) == ExitStatus.USAGE
    assert "restart" in capsys.readouterr().err


def test_the_help_costs_no_heavy_import() -> None:
    code = (
        "import sys; from executor.cli import main; main(['service', '--help']); "
        "sys.exit(bool({'pydantic', 'subprocess', 'asyncio', 'xml'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
