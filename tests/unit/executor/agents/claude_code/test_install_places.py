from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from executor.agents.claude_code.install_places import how_to_get, on_search_path, usual_places


@pytest.mark.skipif(sys.platform == "win32", reason="paths of POSIX")
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_the_places_of_the_installers_come_before_those_of_npm(platform: str) -> None:
    places = [str(path) for path in usual_places({"HOME": "/h"}, platform)]
    assert places[:2] == ["/h/.local/bin/claude", "/h/.claude/local/claude"]
    assert places.index("/usr/local/bin/claude") < places.index("/h/.npm-global/bin/claude")
    assert ("/opt/homebrew/bin/claude" in places) == (platform == "darwin")


def test_the_newest_node_counts_by_number_not_by_text(tmp_path: Path) -> None:
    for version in ("v9.11.2", "v22.1.0", "v22.10.0"):
        file = tmp_path / ".nvm" / "versions" / "node" / version / "bin" / "claude"
        file.parent.mkdir(parents=True)
        file.touch()
    found = [path.parts[-3] for path in usual_places({"HOME": str(tmp_path)}, "linux")]
    assert found[-3:] == ["v22.10.0", "v22.1.0", "v9.11.2"]


@pytest.mark.parametrize("home", ["", "relative"])
def test_a_user_without_a_home_has_the_places_of_the_system(home: str) -> None:
    places = list(usual_places({"HOME": home}, "linux"))
    assert Path("/usr/local/bin/claude") in places
    assert all(path.is_absolute() for path in places)


def test_windows_has_programs_only_and_never_a_script_of_npms(tmp_path: Path) -> None:
    names = ("USERPROFILE", "APPDATA", "LOCALAPPDATA")
    environ = {name: str(tmp_path / name) for name in names}
    places = [path.relative_to(tmp_path).as_posix() for path in usual_places(environ, "win32")]
    assert places == [
        "USERPROFILE/.local/bin/claude.exe",
        "USERPROFILE/.claude/local/claude.exe",
        "APPDATA/npm/node_modules/@anthropic-ai/claude-code/bin/claude.exe",
        "LOCALAPPDATA/Microsoft/WinGet/Links/claude.exe",
    ]
    on_path = on_search_path({"PATH": str(tmp_path)}, "win32")
    assert list(on_path) == [tmp_path / "claude.exe"]


def test_only_absolute_entries_of_the_path_are_looked_at(tmp_path: Path) -> None:
    path = os.pathsep.join(["", ".", "bin", str(tmp_path)])
    assert list(on_search_path({"PATH": path}, "linux")) == [tmp_path / "claude"]


def test_each_platform_is_told_its_own_command() -> None:
    assert "install.ps1" in how_to_get("win32")
    assert "install.sh" in how_to_get("linux")
    assert "install.sh" in how_to_get("darwin")
