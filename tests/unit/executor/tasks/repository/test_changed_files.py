from __future__ import annotations

from pathlib import Path

from executor.tasks.repository.changed_files import changed_since_snapshot, take_snapshot


def test_what_is_the_executors_own_is_no_change_of_a_run(tmp_path: Path) -> None:
    before = take_snapshot(tmp_path)
    own = [".skills", ".mcp-servers", ".claude", ".wegent", ".git"]
    for name in (*(f"{folder}/a" for folder in own), "output/a", "src/.claude/a"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("x")

    changed = changed_since_snapshot(tmp_path, before)

    assert [file["path"] for file in changed.files] == ["output/a", "src/.claude/a"]
