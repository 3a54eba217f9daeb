"""What a killed executor left is found by what it wrote down, in the real process table."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor.agents.orphans import RECORD, AgentRecord, end_left_behind
from executor.agents.process_tree import MARK_VARIABLE
from tests.fakes.shells import alive, shell

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")

MARK = "mark-of-this-test"
GONE_OWNER: dict[str, Any] = {"owner_pid": 2**22 + 1, "owner_started": 1.0}


def left(folder: Path, record: AgentRecord) -> Path:
    session = folder / "claude-abc"
    session.mkdir(parents=True)
    (session / "mcp.json").write_text("a key", encoding="utf-8")
    record.write(session)
    return session


async def test_a_process_left_behind_is_ended_with_its_tree_and_its_files(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    (temporary / "session").mkdir(parents=True)
    # Without the mark: only the number and the start time lead there.
    with shell("env -i sleep 600 & echo ready; wait") as (parent, _):
        (child,) = parent.children()
        record = AgentRecord(MARK, parent.pid, parent.create_time(), **GONE_OWNER)
        session = await asyncio.to_thread(left, tmp_path, record)
        assert await end_left_behind(tmp_path, temporary) == 2
        assert not alive(parent)
        assert not alive(child)
    assert not session.exists()
    assert not temporary.exists()


async def test_a_number_that_another_process_has_by_now_is_not_touched(tmp_path: Path) -> None:
    with shell("echo ready; exec sleep 600") as (other, _):
        record = AgentRecord(MARK, other.pid, other.create_time() - 60, **GONE_OWNER)
        session = await asyncio.to_thread(left, tmp_path, record)
        assert await end_left_behind(tmp_path, tmp_path / "none") == 0
        assert alive(other)
    assert not session.exists()


async def test_a_mark_leads_to_what_the_number_does_not(tmp_path: Path) -> None:
    with shell("echo ready; exec sleep 600", **{MARK_VARIABLE: MARK}) as (daemon, _):
        await asyncio.to_thread(left, tmp_path, AgentRecord(MARK, **GONE_OWNER))
        assert await end_left_behind(tmp_path, tmp_path / "none") == 1
        assert not alive(daemon)


async def test_what_belongs_to_an_executor_that_lives_is_not_touched(tmp_path: Path) -> None:
    with shell("echo ready; exec sleep 600", **{MARK_VARIABLE: MARK}) as (agent, _):
        record = await asyncio.to_thread(AgentRecord.of, MARK, agent.pid)
        session = await asyncio.to_thread(left, tmp_path, record)
        temporary = tmp_path / "temporary"
        temporary.mkdir()
        assert await end_left_behind(tmp_path, temporary) == 0
        assert alive(agent)
    assert session.exists()
    assert temporary.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"mark": 1}', '{"x": 1}'])
async def test_a_broken_record_ends_nothing(tmp_path: Path, content: str) -> None:
    session = tmp_path / "claude-abc"
    session.mkdir()
    (session / RECORD).write_text(content, encoding="utf-8")
    assert await end_left_behind(tmp_path, tmp_path / "none") == 0
    assert not session.exists()


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = AgentRecord.of(MARK, os.getpid())
    record.write(tmp_path)
    assert AgentRecord.read(tmp_path) == record
    assert record.tree()[0].pid == os.getpid()
    assert record.owned()
    assert not replace(record, owner_started=1.0).owned()
