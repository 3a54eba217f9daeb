"""What ``--help`` shows can be read and copied."""

from __future__ import annotations

import pytest

from executor.commands.parser import build_parser


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def help_of(capsys: pytest.CaptureFixture[str], *typed: str) -> str:
    with pytest.raises(SystemExit):
        build_parser().parse_args([*typed, "--help"])
    return capsys.readouterr().out


def test_lines_to_be_copied_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    lines = help_of(capsys, "completion").splitlines()

    assert '    eval "$(wegent-executor completion bash)"' in lines
    assert "    source <(wegent-executor completion zsh)" in lines
    assert "    wegent-executor completion fish | source" in lines


def test_no_name_is_broken_at_a_hyphen(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("", "completion", "logs", "update", "service"):
        shown = help_of(capsys, *filter(None, [command]))
        assert not [line for line in shown.splitlines() if line.endswith("-")]
    assert "~/.wegent-executor. " in help_of(capsys)


def test_a_command_and_what_it_does_are_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split(maxsplit=1) for line in help_of(capsys).splitlines()]

    assert ["completion", "print a script that completes commands and options in a shell"] in lines
    lines = [line.split(maxsplit=1) for line in help_of(capsys, "service").splitlines()]
    assert ["uninstall", "stop and remove it"] in lines
