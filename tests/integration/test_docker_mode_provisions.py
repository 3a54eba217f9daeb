"""What a request brings over HTTP, and what of its session outlives the container: the real CLI."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from scripts.scripted_model import ScriptedModel
from tests.fakes.claude import REAL
from tests.fakes.docker_mode import DockerClient, docker_process
from tests.fakes.mcp_http import mcp_http_server
from tests.fakes.model import scenario, text_step, tool_step


async def carry_out(client: DockerClient, prompt: str, **task: Any) -> Any:
    """The verdict."""
    body = {"session_id": "the-session", "prompt": prompt, **task}
    accepted = await client.ask("POST", "/v1/tasks/execute", json=body)
    run = await client.finished(accepted["run_id"])
    assert run["state"] == "completed", run
    return run


async def test_a_task_brings_all_that_it_needs_and_its_session_outlives_the_container(
    tmp_path: Path,
) -> None:
    session = tmp_path / "volume"
    skill = session / ".skills" / "skills" / "greet"
    steps = [
        tool_step("Skill", {"skill": "greet"}),
        tool_step(
            "Bash", {"command": f"{skill}/greet.sh < {session}/input/names > output/greeting"}
        ),
        tool_step("mcp__tools__run", {"command": "echo served"}),
        text_step("first answer"),
    ]
    scenarios = [
        scenario(*steps, prompt="Greet Ada."),
        scenario(text_step("second answer"), prompt="AGAIN", history=["Greet Ada.", "served"]),
    ]
    assert REAL is not None
    async with ScriptedModel(scenarios) as model, mcp_http_server() as server:
        variables = {
            "WEGENT_CLAUDE_PATH": str(REAL),
            "WORKSPACE_PATH": str(session),
            "ANTHROPIC_BASE_URL": model.url,
        }
        config = {
            "mcp_config": {
                "mcpServers": {
                    "tools": {
                        "type": "http",
                        "url": server.url,
                        "headers": {"Authorization": "Bearer ${TOKEN}"},
                    }
                }
            },
            "variables": {"TOKEN": "of-the-task"},
            "skill_files": {
                "greet": {
                    "SKILL.md": "---\ndescription: Greets\n---\nUse greet.sh",
                    "greet.sh": "#!/bin/sh\nread name; echo Hello, $name\n",
                }
            },
            "input_files": [{"path": "names", "content": "Ada\n"}],
            "commands": {"greet": "Greet $1."},
        }
        async with docker_process(tmp_path / "one", **variables) as executor:
            run = await carry_out(executor.client, "/greet Ada", config=config)
            (conversation,) = {
                event.data["data"]["sdk_session_id"]
                for event in await executor.client.events(run["run_id"])
                if event.name == "agent.session"
            }
        assert (session / "output" / "greeting").read_text() == "Hello, Ada\n"
        assert [file["path"] for file in run["workspace"]["files"]] == ["output/greeting"]
        assert server.headers[-1]["Authorization"] == "Bearer of-the-task"
        assert {path.name for path in session.iterdir()} == {
            ".claude", ".mcp-servers", ".skills", ".wegent", "input", "output",
        }  # fmt: skip
        shutil.rmtree(tmp_path / "one")

        async with docker_process(tmp_path / "two", **variables) as executor:
            run = await carry_out(executor.client, "AGAIN", sdk_session_id=conversation)
        assert run["result"] == "second answer"
        assert not {".skills", ".mcp-servers"} & {path.name for path in session.iterdir()}
