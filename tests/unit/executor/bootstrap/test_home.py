"""The home of an executor when it is opened: what is made and what is cleared."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from executor.agents import subreaper
from executor.bootstrap.home import opened_home
from executor.config.docker import DockerSettings
from executor.signals import StopSignals


@pytest.mark.parametrize(("clear", "there"), [("true", False), ("false", True), ("", False)])
async def test_the_cache_of_skills_is_emptied_unless_it_is_to_stay(
    tmp_path: Path, clear: str, there: bool
) -> None:
    variables = {
        "WEGENT_EXECUTOR_HOME": str(tmp_path / "home"),
        "WORKSPACE_ROOT": str(tmp_path / "workspace"),
        **({"SKILL_CLEAR_CACHE": clear} if clear else {}),
    }
    settings = await asyncio.to_thread(lambda: DockerSettings(**variables))  # type: ignore[arg-type]  # as text, like an environment
    archive = tmp_path / "home" / "cache" / "skills" / "archive"
    archive.parent.mkdir(parents=True)
    archive.touch()

    async with opened_home(settings, StopSignals()):
        pass

    assert archive.exists() is there


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
async def test_orphans_are_adopted_while_the_home_is_open_and_not_after_it(tmp_path: Path) -> None:
    home, workspace = str(tmp_path / "home"), str(tmp_path / "workspace")
    settings = await asyncio.to_thread(
        lambda: DockerSettings(WEGENT_EXECUTOR_HOME=home, WORKSPACE_ROOT=workspace)
    )
    async with opened_home(settings, StopSignals()):
        assert subreaper._adopts()
    assert not subreaper._adopts()
