"""The agent: what it loads, and which conversations it keeps."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest

from executor.agents.agno.agent import AgnoAgent


async def test_agno_is_imported_once_for_all_who_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    look = logging.getLoggerClass

    def count() -> type[logging.Logger]:
        looked.append(sys._getframe(1).f_globals["__name__"])
        return look()

    monkeypatch.setattr(logging, "getLoggerClass", count)
    agent = AgnoAgent(tmp_path, {})
    await asyncio.gather(agent.load(), agent.load())
    await agent.load()

    assert looked.count("executor.agents.agno.agent") == 1
