"""Hooks beside a run in docker mode: the program as an operator starts it, storage over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.fakes.docker_mode import docker_environ, docker_process
from tests.fakes.hook_packages import put_modules
from tests.fakes.processes import MODULE, running
from tests.fakes.s3 import running_s3
from tests.fakes.scripted_cli import script

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the scripted agent is a POSIX program")

LIMIT_S = 100.0


async def test_an_executor_that_ends_with_its_task_has_uploaded_its_output(tmp_path: Path) -> None:
    session = tmp_path / "session"
    (session / "output").mkdir(parents=True)
    (session / "output" / "report.md").write_text("# done")
    task = {
        "task_id": 7,
        "subtask_id": 70,
        "prompt": script("Done."),
        "exit_on_completion": True,
    }
    async with asyncio.timeout(LIMIT_S), running_s3() as s3:
        env = docker_environ(
            tmp_path,
            TASK_INFO=json.dumps(task),
            WORKSPACE_PATH=str(session),
            S3_BUCKET="bucket",
            S3_ENDPOINT=s3.url,
            S3_ACCESS_KEY="the-key",
            S3_SECRET_KEY="the-secret",
        )
        async with running(*MODULE, env=env, executable=sys.executable) as program:
            status = await program.ended()
    assert status == 0, program.output
    assert s3.objects == {"bucket/7/output/report.md": b"# done"}
    manifest = json.loads((session / ".wegent" / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["run_id"], manifest["success"]) == ("70", True)
    assert "output/report.md" in [file["path"] for file in manifest["files"]]
    assert "the-secret" not in program.output


async def test_a_named_hook_observes_a_task_given_over_http(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    put_modules(packages)
    variables = {
        "PYTHONPATH": str(packages),
        "WEGENT_HOOKS": "audited_hook:AuditedHook",
        "CLAUDE_MAX_WARM_SESSIONS": "0",
    }
    async with asyncio.timeout(LIMIT_S), docker_process(tmp_path, **variables) as executor:
        await executor.client.execute(prompt=script("Done.", tool_s=0.0))
        run = await executor.client.finished("1")
        await executor.program.stop()
    assert "the task has succeeded" in executor.program.output
    assert run["state"] == "completed"
    assert (packages / "audit").read_text().startswith("('Bash', {'command'")
