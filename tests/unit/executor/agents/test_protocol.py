"""Which jobs may share one live process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor.agents.skills import SkillSet
from tests.fakes.agent_jobs import JobMaker

SERVER = {"a": {"type": "http", "url": "http://h/", "headers": {"K": "${K:-v}"}}}
AGENT = {"critic": {"description": "d", "prompt": "p"}}


@pytest.fixture
def maker(tmp_path: Path) -> JobMaker:
    return JobMaker(tmp_path, "http://127.0.0.1:1")


@pytest.mark.parametrize(
    "fields",
    [
        {"mcp_servers": SERVER},
        {"mcp_servers": SERVER, "variables": {"K": "other"}},
        {"bot": {"mcp_servers": SERVER}},
        {"agents": AGENT},
        {"agents": {"critic": {**AGENT["critic"], "tools": ["Read"]}}},
        {"system_prompt": "x"},
        {"input_files": {"a": "x"}},
    ],
)
def test_what_a_process_reads_at_its_start_makes_another_job(
    maker: JobMaker, fields: dict[str, Any]
) -> None:
    assert maker.job(**fields).fingerprint != maker.job().fingerprint
    assert maker.job(**fields).fingerprint == maker.job(**fields).fingerprint


def test_a_variable_that_changes_a_header_makes_another_job(maker: JobMaker) -> None:
    one, two = (maker.job(mcp_servers=SERVER, variables={"K": value}) for value in ("1", "2"))

    assert one.fingerprint != two.fingerprint


def test_what_no_process_reads_makes_no_other_job(maker: JobMaker) -> None:
    fields: dict[str, Any] = {
        "bot": {"skills": ["x"]},
        "commands": {"a": "x"},
        "variables": {"A": "x"},
    }

    assert maker.job(**fields).fingerprint == maker.job(bot={}).fingerprint


def test_other_skills_make_another_job(maker: JobMaker) -> None:
    job = maker.job()
    skills = SkillSet(Path("/session/.skills"), ("greet",), "digest")

    with_skills = replace(job, skills=skills)

    assert with_skills.fingerprint != job.fingerprint
    assert replace(job, skills=skills).fingerprint == with_skills.fingerprint
    other = replace(job, skills=replace(skills, digest="other"))
    assert other.fingerprint != with_skills.fingerprint
