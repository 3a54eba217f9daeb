from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from executor.agents.claude_code import cli_version
from executor.agents.claude_code.cli_version import Unusable, VersionMemory, ask_version
from tests.fakes.claude import NEW, program, says

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the CLIs here are shell scripts")


def reason(cli: Path) -> str:
    with pytest.raises(Unusable) as caught:
        ask_version(cli, os.environ)
    return str(caught.value)


def test_the_version_is_the_number_without_the_name(tmp_path: Path) -> None:
    assert ask_version(says("2.1.329", tmp_path / "claude"), os.environ) == "2.1.329"


def test_a_preview_counts_as_the_version_that_it_will_be(tmp_path: Path) -> None:
    assert ask_version(says("2.1.329-beta.1", tmp_path / "claude"), os.environ) == "2.1.329"


def test_a_folder_a_text_and_nothing_are_no_cli(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("#!/bin/sh\necho '2.1.329 (Claude Code)'\n")
    assert reason(tmp_path) == "is not a file"
    assert reason(text) == "may not be executed"
    assert reason(tmp_path / "nothing") == "is not a file"


def test_a_program_that_the_system_cannot_start_says_why(tmp_path: Path) -> None:
    cli = program(tmp_path / "claude", "")
    cli.write_text("#!/no/such/interpreter\n")
    assert reason(cli) == "does not start: No such file or directory"


def test_a_cli_that_somebody_still_has_open_for_writing_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli = says(NEW, tmp_path / "claude")
    with cli.open("ab") as writing:
        monkeypatch.setattr("time.sleep", lambda _: writing.close())
        assert ask_version(cli, {}) == NEW


def test_a_broken_cli_is_skipped_with_its_own_last_words(tmp_path: Path) -> None:
    cli = program(tmp_path / "claude", "echo usage >&2\necho 'node: not found' >&2\nexit 127")
    assert reason(cli) == "fails when asked for its version: node: not found"


def test_a_cli_that_dies_without_a_word_says_how(tmp_path: Path) -> None:
    cli = program(tmp_path / "claude", "kill -KILL $$")
    assert reason(cli) == "fails when asked for its version: killed by SIGKILL"


def test_another_program_of_that_name_is_not_taken_for_claude_code(tmp_path: Path) -> None:
    cli = program(tmp_path / "claude", "echo 'claude 3.2.1, a text adventure'")
    assert reason(cli).startswith("is another program")


def test_a_cli_that_hangs_is_given_up_and_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_version, "VERSION_TIMEOUT_S", 0.5)
    cli = program(tmp_path / "claude", f"sleep 613 & echo $! > {tmp_path}/child; wait")
    assert reason(cli) == "did not tell its version within 0.5 s"
    child = int((tmp_path / "child").read_text())
    psutil.wait_procs([psutil.Process(child)] if psutil.pid_exists(child) else [], timeout=20)
    assert not psutil.pid_exists(child)


def test_no_secret_and_nothing_unneeded_is_in_its_environment(tmp_path: Path) -> None:
    cli = says(
        "2.1.329", tmp_path / "claude", then=f"env > {tmp_path / 'env'}; pwd > {tmp_path}/at"
    )
    environ = {"ANTHROPIC_API_KEY": "sk", "WEGENT_AUTH_TOKEN": "t", "PATH": os.environ["PATH"]}
    ask_version(cli, environ)
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        "PATH",
        "DISABLE_AUTOUPDATER",
        "WEGENT_AGENT_PROCESS",
    }
    assert (tmp_path / "at").read_text() == "/\n"


class Counted:
    """A CLI that notes how often it was started."""

    def __init__(self, place: Path) -> None:
        self.path = place / "claude"
        self._starts = place / "starts"
        self.become("2.1.329")

    def become(self, version: str) -> None:
        says(version, self.path, then=f"echo >> {self._starts}")

    @property
    def starts(self) -> int:
        return len(self._starts.read_text().splitlines()) if self._starts.exists() else 0


def remembered(home: Path, cli: Path) -> str:
    """The version, as an executor with this home finds it at its next start."""
    memory = VersionMemory(home / "cache" / "versions.json")
    version = memory.version_of(cli, os.environ)
    memory.save()
    return version


def test_a_cli_that_has_not_changed_is_not_started_again(tmp_path: Path) -> None:
    cli = Counted(tmp_path)
    assert remembered(tmp_path, cli.path) == "2.1.329"
    written = (tmp_path / "cache" / "versions.json").stat().st_ino
    assert [remembered(tmp_path, cli.path) for _ in range(2)] == ["2.1.329"] * 2
    assert cli.starts == 1
    assert (tmp_path / "cache" / "versions.json").stat().st_ino == written


def test_a_changed_cli_is_asked_again(tmp_path: Path) -> None:
    cli = Counted(tmp_path)
    remembered(tmp_path, cli.path)
    cli.become("2.1.3301")
    assert remembered(tmp_path, cli.path) == "2.1.3301"
    os.utime(cli.path, ns=(0, 0))
    remembered(tmp_path, cli.path)
    assert cli.starts == 3


def test_a_known_cli_that_may_not_be_executed_any_more_is_noticed(tmp_path: Path) -> None:
    cli = Counted(tmp_path)
    remembered(tmp_path, cli.path)
    cli.path.chmod(0o644)
    if os.access(cli.path, os.X_OK):
        pytest.skip("this user may execute everything")
    with pytest.raises(Unusable, match="may not be executed"):
        remembered(tmp_path, cli.path)


def test_a_known_cli_that_is_gone_is_noticed(tmp_path: Path) -> None:
    cli = Counted(tmp_path)
    remembered(tmp_path, cli.path)
    cli.path.unlink()
    with pytest.raises(Unusable, match="does not exist"):
        remembered(tmp_path, cli.path)


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    cli = program(tmp_path / "claude", f"test -e {tmp_path}/node && echo '2.1.329 (Claude Code)'")
    with pytest.raises(Unusable):
        remembered(tmp_path, cli)
    (tmp_path / "node").touch()
    assert remembered(tmp_path, cli) == "2.1.329"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"CLI": 1}', '{"CLI": [1, 2]}', "\xff"])
def test_a_damaged_memory_counts_as_none(tmp_path: Path, text: str) -> None:
    cli = Counted(tmp_path)
    (tmp_path / "cache").mkdir()
    content = text.replace("CLI", str(cli.path)).encode("latin-1")
    (tmp_path / "cache" / "versions.json").write_bytes(content)
    assert [remembered(tmp_path, cli.path) for _ in range(2)] == ["2.1.329"] * 2
    assert cli.starts == 1


def test_a_home_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert remembered(home, Counted(tmp_path).path) == "2.1.329"
    assert not home.exists()
