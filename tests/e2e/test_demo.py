"""``make demo`` as somebody sees it who has just cloned the repository."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import psutil
import pytest

from scripts.scripted_model import ScriptedModel
from tests.fakes.git_server import make_repository
from tests.fakes.model import error_step, scenario, step, text_step, tool_step
from tests.fakes.processes import Program, family, gone, plain_environ, running
from tests.fakes.runs import RUN_SECONDS

DEMO = "scripts/demo.py"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An empty home, and a folder of its own for what the demo leaves."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    return plain_environ(tmp_path / "user", TMPDIR=str(temporary), COLUMNS="200")


async def run_demo(environ: dict[str, str], **variables: str) -> tuple[int, Program]:
    env = environ | variables
    async with asyncio.timeout(RUN_SECONDS), running(DEMO, env=env) as program:
        return await program.ended(), program


def shown(program: Program, label: str) -> str:
    """What stands behind *label* in the summary."""
    [line] = [line for line in program.lines if line.startswith(f"{label} ")]
    return line.removeprefix(label).strip()


def api(model: ScriptedModel) -> dict[str, str]:
    """As if the real API were there: a key in the environment, and where to use it."""
    return {"ANTHROPIC_API_KEY": "sk-of-the-user-161803", "ANTHROPIC_BASE_URL": model.url}


async def test_without_a_key_it_repairs_its_repository_and_says_that_it_is_scripted(
    environ: dict[str, str],
) -> None:
    status, program = await run_demo(environ)
    assert status == 0, program.output
    assert "SCRIPTED" in program.output
    assert "no model is asked" in program.output
    assert "+    share, remainder = divmod(total, parts)" in program.lines
    answer = program.output.partition(" answer ")[2]
    assert "The first shares now take one more" in answer
    assert shown(program, "verdict") == "completed"
    assert shown(program, "duration").endswith(" s")
    workspace = Path(shown(program, "workspace"))
    assert "divmod" in (workspace / "calculator.py").read_text()
    log = Path(shown(program, "logs"))
    assert "run ended: completed" in log.read_text()
    assert str(log).startswith(environ["TMPDIR"])
    for told in ("thinking:", "Edit  calculator.py", "[x] Repair divide_evenly", "modified:"):
        assert told in program.output


async def test_ones_own_prompt_and_repository_are_used_with_ones_own_key(
    environ: dict[str, str], tmp_path: Path
) -> None:
    repository = make_repository(tmp_path / "my repo", {"note.txt": "old\n"})
    job = [tool_step("Bash", {"command": "echo new > note.txt"}), text_step("Renewed.")]
    async with ScriptedModel([scenario(*job, prompt="Renew; $HOME `id`")]) as model:
        status, program = await run_demo(
            environ, PROMPT="Renew; $HOME `id`", REPO=str(repository), **api(model)
        )
    assert status == 0, program.output
    assert "SCRIPTED" not in program.output
    assert "+new" in program.lines
    assert "Renewed." in program.output
    assert (repository / "note.txt").read_text() == "old\n"  # it worked on a clone
    assert "sk-of-the-user" not in program.output


async def test_a_run_that_fails_is_told_with_its_reason_and_a_status_of_its_own(
    environ: dict[str, str],
) -> None:
    async with ScriptedModel([scenario(error_step(403, message="not for you"))]) as model:
        status, program = await run_demo(environ, PROMPT="hello", **api(model))
    assert status == 1
    assert shown(program, "verdict").startswith("failed: auth_error: ")
    assert "not for you" in shown(program, "verdict")
    assert Path(shown(program, "logs")).is_file()


async def test_a_repository_that_is_not_there_is_told(environ: dict[str, str]) -> None:
    status, program = await run_demo(environ, PROMPT="hello", REPO="/no/such/repository")
    assert status == 1
    assert "REPO" in program.lines[-1]
    assert "Traceback" not in program.output


async def test_ctrl_c_ends_everything_that_it_has_started(environ: dict[str, str]) -> None:
    waiting = scenario(step({"text": "I begin"}, {"gate": "work"}))
    async with ScriptedModel([waiting]) as model:
        env = environ | api(model) | {"PROMPT": "hello"}
        async with asyncio.timeout(RUN_SECONDS), running(DEMO, env=env) as program:
            await model.gate("work").reached.wait()
            started: list[psutil.Process] = family(program.pid)
            program.signal(signal.SIGINT)
            assert await program.ended() == 130, program.output
    assert len(started) >= 3
    assert await gone(started)
    assert "Traceback" not in program.output
