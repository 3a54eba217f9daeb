"""The pages about commands are what the program says of itself."""

from __future__ import annotations

from pathlib import Path

from executor.commands.parser import COMMANDS
from executor.exit_status import ExitStatus
from scripts.build_command_docs import pages, stale, write


def test_the_pages_are_what_the_program_says_now(repository_root: Path) -> None:
    assert stale(repository_root / "docs") == [], "these pages are old: type `make docs`"


def test_every_command_and_every_exit_status_has_its_place() -> None:
    made = pages()

    for command in COMMANDS:
        assert command.description.split(".")[0] in made[f"commands/{command.name}.md"]
        assert f"[`{command.name}`]({command.name}.md)" in made["commands/README.md"]
    for status in ExitStatus:
        assert f"| {status.value} | {status.meaning} |" in made["exit-status.md"]


def test_options_arguments_and_actions_are_described() -> None:
    made = pages()

    assert "| `-n`, `--lines` `N` | show the last N" in made["commands/logs.md"]
    assert "wegent-executor completion bash|zsh|fish" in made["commands/completion.md"]
    assert "## service install" in made["commands/service.md"]
    assert "| `ID` |" in made["commands/cancel.md"]


def test_a_page_that_is_changed_missing_or_left_over_is_found_and_put_right(tmp_path: Path) -> None:
    made = pages()
    write(tmp_path, made)
    assert stale(tmp_path) == []

    (tmp_path / "exit-status.md").unlink()
    (tmp_path / "commands" / "run.md").write_text("something else")
    (tmp_path / "commands" / "gone.md").touch()
    assert stale(tmp_path) == ["commands/gone.md", "commands/run.md", "exit-status.md"]

    write(tmp_path, made)
    assert stale(tmp_path) == []
