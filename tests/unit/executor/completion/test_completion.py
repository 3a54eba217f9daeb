"""The scripts are run by the shells themselves."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from executor.cli import main
from executor.commands.completion import SHELLS
from executor.commands.parser import COMMANDS, build_parser
from executor.completion import bash, fish, zsh
from executor.completion.words import Argument, Option, Word, read_words
from executor.exit_status import ExitStatus

PROGRAM = "wegent-executor"

Complete = Callable[[str], set[str]]
"""What a shell offers for the last word of a line."""


def read_script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == ExitStatus.OK
    return capsys.readouterr().out


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def in_bash(script: Path) -> Complete:
    def complete(line: str) -> set[str]:
        words = line.split(" ")
        # As readline cuts it, with its usual COMP_WORDBREAKS.
        words = [part for word in words for part in word.replace("=", "\n=\n").split("\n")]
        command = (
            f"source {shlex.quote(str(script))}\n"
            f"COMP_WORDS=({' '.join(map(shlex.quote, words))})\nCOMP_CWORD={len(words) - 1}\n"
            '_wegent_executor\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
        )
        return set(run(["bash", "--norc", "-c", command], script.parent).splitlines()) - {""}

    return complete


def in_fish(script: Path) -> Complete:
    def complete(line: str) -> set[str]:
        command = f"source {shlex.quote(str(script))}; complete -C {shlex.quote(line)}"
        offered = run(["fish", "--no-config", "-c", command], script.parent).splitlines()
        return {one.split("\t")[0] for one in offered}

    return complete


def in_zsh(script: Path) -> Complete:
    """zsh completes only for somebody at a terminal: it gets one, and its list is read from it."""
    probe = """
        zmodload zsh/zpty
        zpty it zsh -f -i
        zpty -w it 'PS1= PROMPT_EOL_MARK= LISTMAX=1000 COLUMNS=200 LINES=200; stty -echo'
        zpty -w it 'autoload -Uz compinit && compinit -u -D; source SCRIPT'
        # What is offered is told by the builtin that takes it.
        zpty -w it 'compadd() {
            local -a given; local kept=("$@")
            builtin compadd -O given "$@"
            print -l -- "<"${^given}">" >>OFFERED
            builtin compadd "$kept[@]"
        }'
        zpty -w it 'done_with() { print done >>OFFERED }; zle -N done_with; bindkey "^X" done_with'
        zpty -w it 'print ready >>OFFERED'
        until [[ -s OFFERED ]]; do zselect -t 5; done
        zpty -w -n it LINE$'\\t\\x18'
        until grep -q done OFFERED; do zselect -t 5; done
        zpty -d it
    """

    def complete(line: str) -> set[str]:
        offered = script.parent / "offered"
        offered.unlink(missing_ok=True)
        text = (
            probe.replace("SCRIPT", str(script))
            .replace("OFFERED", str(offered))
            .replace("LINE", shlex.quote(line))
        )
        run(["zsh", "-f", "-c", f"zmodload zsh/zselect\n{text}"], script.parent)
        lines = offered.read_text().splitlines()
        return {one[1:-1] for one in lines if one.startswith("<") and one != "<>"}

    return complete


@pytest.fixture(params=SHELLS)
def complete(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Complete:
    shell: str = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"NOT TESTED: {shell} is not installed; its completion was not run")
    script = tmp_path / f"script.{shell}"
    script.write_text(read_script(shell, capsys))
    for name in ("report.tar.gz", "with space"):
        (tmp_path / name).touch()
    return {"bash": in_bash, "zsh": in_zsh, "fish": in_fish}[shell](script)


def test_every_command_is_offered(complete: Complete) -> None:
    assert {command.name for command in COMMANDS} <= complete(f"{PROGRAM} ")


def test_a_command_is_completed_from_its_beginning(complete: Complete) -> None:
    assert complete(f"{PROGRAM} bun") == {"bundle"}


def test_the_options_of_a_command_are_offered_and_no_others(complete: Complete) -> None:
    offered = complete(f"{PROGRAM} logs --")

    assert {"--follow", "--lines", "--task", "--level"} <= {one.rstrip("=") for one in offered}
    assert not {"--version", "--output"} & offered


def test_the_values_of_an_option_are_offered(complete: Complete) -> None:
    assert complete(f"{PROGRAM} logs -f --level W") == {"WARNING"}


def test_the_values_of_an_argument_are_offered(complete: Complete) -> None:
    assert set(SHELLS) <= complete(f"{PROGRAM} completion ")


def test_actions_of_a_command_are_offered(complete: Complete) -> None:
    assert "install" in complete(f"{PROGRAM} service ins")
    assert complete(f"{PROGRAM} service status --j") == {"--json"}


def test_files_are_offered_where_a_file_is_asked_for_only(complete: Complete) -> None:
    assert complete(f"{PROGRAM} bundle -o rep") == {"report.tar.gz"}
    assert "report.tar.gz" not in complete(f"{PROGRAM} logs --task ")


def test_bash_completes_behind_an_equals_sign(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script"
    script.write_text(read_script("bash", capsys))

    assert in_bash(script)(f"{PROGRAM} logs --level=ERR") == {"ERROR"}
    assert "ERROR" in in_bash(script)(f"{PROGRAM} logs --level=")


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "csh"]) == ExitStatus.USAGE
    assert "csh" in capsys.readouterr().err


def test_words_are_read_from_the_parser() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-o", "--output", metavar="FILE", help="where")
    parser.add_argument("--hidden", help=argparse.SUPPRESS)
    parser.add_argument("--loud", action="store_true")
    parser.add_argument("--name")
    parser.add_argument("colour", choices=["red", "blue"])
    sub = parser.add_subparsers().add_parser("go", help="begin", description="goes", add_help=False)
    sub.add_argument("--speed", choices=["1", "2"])

    speed = Option(("--speed",), "", "1|2", ("1", "2"))
    output = Option(("-o", "--output"), "where", "FILE")
    assert output.takes_file
    assert read_words(parser) == Word(
        (),
        "",
        "",
        (output, Option(("--loud",), ""), Option(("--name",), "", "NAME")),
        (Argument("colour", "", ("red", "blue")),),
        (Word(("go",), "begin", "goes", (speed,), (), ()),),
    )


@pytest.mark.parametrize("make", [bash.script, zsh.script, fish.script], ids=SHELLS)
def test_every_word_of_the_parser_is_in_every_script(make: Callable[[str, Word], str]) -> None:
    root = read_words(build_parser())
    text = make(PROGRAM, root)

    for word in root.all():
        for option in word.options:
            assert all(flag.lstrip("-") in text for flag in option.flags)
            assert all(choice in text for choice in option.choices)
        assert word.name in text
