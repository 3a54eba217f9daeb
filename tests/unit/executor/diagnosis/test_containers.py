from __future__ import annotations

from pathlib import Path

import pytest

from executor.diagnosis.containers import look_at_containers, look_at_docker
from executor.diagnosis.finding import State


@pytest.fixture
def nobody(tmp_path: Path) -> dict[str, str]:
    return {"DOCKER_HOST": f"unix://{tmp_path}/no.sock"}


async def test_without_an_engine_all_is_well_as_long_as_no_task_needs_one(
    nobody: dict[str, str],
) -> None:
    finding = await look_at_docker(nobody)
    assert finding.state is State.OK
    assert "not needed" in finding.what


async def test_a_missing_engine_is_a_failure_where_tasks_need_containers(
    nobody: dict[str, str],
) -> None:
    finding = await look_at_containers("wegent-executor:latest", nobody)
    assert finding.state is State.FAILED
    assert "LOCAL_ISOLATION=container refuses tasks" in finding.what
    assert "Docker" in str(finding.remedy)


async def test_an_address_that_is_none_is_a_finding(tmp_path: Path) -> None:
    finding = await look_at_containers("x", {"DOCKER_HOST": "nonsense://x"})
    assert finding.state is State.FAILED
