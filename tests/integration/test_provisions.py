"""What a request brings besides its prompt, as the real CLI takes it: with a sandbox and without.

The model is scripted; the CLI, its tools, the walls and what lies in the session are real.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from executor.tasks.in_process import InProcessRunHandler
from executor.tasks.isolation import IsolationRules
from executor.tasks.sandbox_probe import probe_sandbox
from scripts.scripted_model import ScriptedModel
from scripts.scripted_scenario import Scenario
from shared.protocol.events import AgentEvent, EventType
from tests.fakes.agent import in_process
from tests.fakes.agent_jobs import make_request
from tests.fakes.claude import claude_agent
from tests.fakes.mcp_http import mcp_http_server
from tests.fakes.model import reaching, scenario, text_step, tool_step

WITH_A_SANDBOX = pytest.mark.skipif(
    sys.platform != "linux", reason="macOS has another sandbox; these look at that of Linux"
)
EVERYWHERE = pytest.mark.parametrize(
    "isolation", ["none", pytest.param("sandbox", marks=WITH_A_SANDBOX)]
)
SKILL = "---\nname: greet\ndescription: Greets people warmly\n---\nSay hello as in reference.md.\n"


class Runs:
    """Runs of one session, one after another; what the last one told."""

    def __init__(self, handler: InProcessRunHandler, model: ScriptedModel, home: Path) -> None:
        self._handler = handler
        self._model = model
        self.session = home / "workspace" / "1"
        self.told: list[AgentEvent] = []
        self._number = 0

    async def carry_out(self, prompt: str, **fields: Any) -> AgentEvent:
        """The verdict."""
        self._number += 1
        bot = {"agent_config": reaching(self._model.url)}
        request = make_request(prompt, subtask_id=self._number, bot=bot, **fields)
        self._handler.check(request)
        async with asyncio.timeout(50):
            self.told = [event async for event in self._handler.start(request).events()]
        return self.told[-1]

    @property
    def results(self) -> list[tuple[str, bool]]:
        """``(result, is_error)`` of every tool use."""
        found = [e.data for e in self.told if e.type == EventType.TOOL_RESULT]
        return [(data["result"], data["is_error"]) for data in found]


@asynccontextmanager
async def running(home: Path, *scenarios: Scenario, **rules: Any) -> AsyncIterator[Runs]:
    problem = await asyncio.to_thread(probe_sandbox, os.environ)
    reason = problem.reason if problem is not None else None
    rules = {"isolation": IsolationRules(sandbox_problem=reason), "hidden": (home / "workspace",),
             **rules}  # fmt: skip
    async with (
        ScriptedModel(scenarios) as model,
        in_process(claude_agent(), home, environ=dict(os.environ), **rules) as handler,
    ):
        yield Runs(handler, model, home)


def skills(text: str = SKILL, **files: str) -> dict[str, Any]:
    return {"greet": {"SKILL.md": text, **files}}


USE = tool_step("Skill", {"skill": "greet"})


@EVERYWHERE
async def test_a_skill_is_listed_and_can_be_used_with_its_files(
    tmp_path: Path, isolation: str
) -> None:
    folder = tmp_path / "workspace" / "1" / ".skills" / "skills" / "greet"
    reading = tool_step("Read", {"file_path": str(folder / "reference.md")})
    starting = tool_step("Bash", {"command": f"{folder}/greet.sh"})
    brought = skills(**{"reference.md": "REFERENCE", "greet.sh": "#!/bin/sh\necho GREETED"})
    scenarios = [
        scenario(USE, reading, starting, text_step("used"), prompt="ONE"),
        # What the CLI has told the model at the start of the conversation.
        scenario(text_step("listed"), prompt="TWO", history="session:greet: Greets people warmly"),
    ]
    async with running(tmp_path, *scenarios) as runs:
        verdict = await runs.carry_out("ONE", skills=brought, isolation=isolation)
        assert verdict.data["result"] == "used", verdict.data
        used, read, started = runs.results
        assert (used[0], used[1]) == ("Launching skill: greet", False)
        assert "REFERENCE" in read[0]
        assert "GREETED" in started[0]
        assert verdict.data["workspace"]["files"] == []
        verdict = await runs.carry_out("TWO", skills=brought, isolation=isolation)
        assert verdict.data["result"] == "listed", verdict.data


@EVERYWHERE
async def test_a_skill_starts_no_program_and_frees_no_tool(tmp_path: Path, isolation: str) -> None:
    hook = f"[{{matcher: '*', hooks: [{{type: command, command: 'touch {tmp_path}/hooked'}}]}}]"
    text = (
        f"---\nname: greet\ndescription: d\nhooks:\n  PreToolUse: {hook}\n"
        f"allowed-tools: Bash\n---\n!`touch {tmp_path}/started`\n"
    )
    hooks = f'{{"hooks": {{"PreToolUse": {hook}}}}}'.replace("'", '"')
    brought = skills(text, **{"hooks/hooks.json": hooks, "hooks.json": hooks})
    brought["hooks"] = {"SKILL.md": SKILL, "hooks.json": hooks}
    command = tool_step("Bash", {"command": f"touch {tmp_path}/workspace/1/made"})
    scenarios = [scenario(USE, command, text_step("done"))]
    async with running(tmp_path, *scenarios) as runs:
        asked = {"permission_mode": "default", "user_input_timeout_seconds": 0}
        verdict = await runs.carry_out("ONE", skills=brought, isolation=isolation, **asked)
        (_, used), (words, denied) = runs.results
    assert verdict.data["result"] == "done", verdict.data
    assert (used, denied) == (False, True)
    assert "nobody is there to give it" in words
    assert not [path for path in ("hooked", "started") if (tmp_path / path).exists()]


@EVERYWHERE
async def test_an_agent_changes_its_skills_in_no_way(tmp_path: Path, isolation: str) -> None:
    folder = tmp_path / "workspace" / "1" / ".skills"
    steps = [
        tool_step("Write", {"file_path": str(folder / "hooks" / "hooks.json"), "content": "{}"}),
        tool_step("Write", {"file_path": f"{folder.parent}/.SKILLS/x", "content": "{}"}),
    ]
    if isolation == "sandbox":
        command = f"echo x > {folder}/x; mv {folder} {folder}2; mkdir {folder}/hooks; echo tried"
        steps.append(tool_step("Bash", {"command": command}))
    async with running(tmp_path, scenario(*steps, text_step("done"))) as runs:
        await runs.carry_out("ONE", skills=skills(), isolation=isolation)
        assert [failed for _, failed in runs.results[:2]] == [True, True]
    names = {path.name for path in folder.rglob("*")}
    assert names == {".claude-plugin", "plugin.json", "skills", "greet", "SKILL.md"}
    assert not folder.with_name(".skills2").exists()


@WITH_A_SANDBOX
async def test_a_server_in_its_walls_changes_no_skills(tmp_path: Path) -> None:
    folder = tmp_path / "workspace" / "1" / ".skills"
    script = Path(__file__).parents[1] / "fakes" / "mcp_server.py"
    server = {"fake": {"command": sys.executable, "args": [str(script)]}}
    command = f"cat {folder}/skills/greet/SKILL.md; echo x > {folder}/x; mkdir {folder}/hooks"
    steps = [tool_step("mcp__fake__run", {"command": command}), text_step("done")]
    async with running(tmp_path, scenario(*steps)) as runs:
        await runs.carry_out("ONE", skills=skills(), mcp_servers=server, isolation="sandbox")
        ((said, _),) = runs.results
    assert "Say hello" in said
    assert said.count("Read-only file system") == 2


async def test_the_next_run_has_its_own_skills(tmp_path: Path) -> None:
    scenarios = [
        scenario(USE, text_step("used"), prompt="ONE"),
        scenario(tool_step("Skill", {"skill": "part"}), USE, text_step("x"), prompt="TWO"),
        scenario(tool_step("Skill", {"skill": "part"}), text_step("x"), prompt="THREE"),
    ]
    async with running(tmp_path, *scenarios) as runs:
        await runs.carry_out("ONE", skills=skills())
        assert [failed for _, failed in runs.results] == [False]
        await runs.carry_out("TWO", skills={"part": {"SKILL.md": "Say goodbye."}})
        assert [failed for _, failed in runs.results] == [False, True]
        await runs.carry_out("THREE")
        assert [failed for _, failed in runs.results] == [True]
        assert not (runs.session / ".skills").exists()


@EVERYWHERE
async def test_a_slash_command_becomes_its_text(tmp_path: Path, isolation: str) -> None:
    scenarios = [
        scenario(text_step("expanded"), prompt=["Fix a.py for Ada.", "!`touch started`"]),
        scenario(text_step("not expanded")),
    ]
    command = "---\ndescription: d\n---\nFix $1 for $2.\n!`touch started`"
    async with running(tmp_path, *scenarios) as runs:
        verdict = await runs.carry_out(
            "/fix a.py Ada", commands={"fix": command}, isolation=isolation
        )
        assert verdict.data["result"] == "expanded", verdict.data
        (started,) = [e.data for e in runs.told if e.type == EventType.STARTED]
        assert started["task"] == "/fix a.py Ada"
        assert not (runs.session / "started").exists()


@EVERYWHERE
async def test_a_sub_agent_works_and_speaks_for_itself(tmp_path: Path, isolation: str) -> None:
    call = {"description": "look", "prompt": "SUBPROMPT", "subagent_type": "critic"}
    scenarios = [
        scenario(tool_step("Agent", call, text="I ask."), text_step("All done."), prompt="MAIN"),
        scenario(
            tool_step("Bash", {"command": "echo sub"}, text="I look."),
            text_step("I saw it."),
            prompt="SUBPROMPT",
            system="You criticise gently.",
            model="claude-of-the-critic",
        ),
    ]
    critic = {"description": "Criticises", "prompt": "You criticise gently.", "tools": ["Bash"],
              "model": "claude-of-the-critic"}  # fmt: skip
    async with running(tmp_path, *scenarios) as runs:
        verdict = await runs.carry_out("MAIN", agents={"critic": critic}, isolation=isolation)
    assert verdict.data["result"] == "All done.", verdict.data
    said = {
        (event.source.agent_type, event.source.agent_name): event.data["content"]
        for event in runs.told
        if event.type == EventType.LLM_DONE and event.source is not None
    }
    assert said == {
        ("worker", "critic"): "I look.\n\nI saw it.",
        ("agent", ""): "I ask.\n\nAll done.",
    }
    (call_of_critic,) = [
        event.source.agent_name
        for event in runs.told
        if event.type == EventType.TOOL_CALL
        and event.data["tool_name"] == "Bash"
        and event.source is not None
    ]
    assert call_of_critic == "critic"


@EVERYWHERE
async def test_a_server_gets_its_header_from_the_requests_variables(
    tmp_path: Path, isolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "the-executors")
    async with mcp_http_server() as server:
        servers = {
            "tools": {
                "type": "http",
                "url": "${URL}",
                "headers": {"Authorization": "Bearer ${TOKEN}", "X-Place": "${PLACE:-here}"},
            }
        }
        steps = [tool_step("mcp__tools__run", {"command": "echo ran"}), text_step("done")]
        async with running(tmp_path, scenario(*steps)) as runs:
            verdict = await runs.carry_out(
                "ONE",
                mcp_config={"mcpServers": servers},
                variables={"URL": server.url, "TOKEN": "the-requests"},
                isolation=isolation,
            )
            ((said, failed),) = runs.results
        assert verdict.data["result"] == "done", verdict.data
        assert (said.splitlines()[0], failed) == ("ran", False)
        assert {headers["Authorization"] for headers in server.headers} == {"Bearer the-requests"}
        assert {headers["X-Place"] for headers in server.headers} == {"here"}
        listed = (runs.session / ".mcp-servers" / "servers.json").read_text()
        assert "tools" in listed
        assert "the-requests" not in listed


async def test_a_run_has_its_own_servers(tmp_path: Path) -> None:
    async with mcp_http_server() as server:
        servers = {"tools": {"type": "http", "url": server.url}}
        call = tool_step("mcp__tools__run", {"command": "echo ran"})
        scenarios = [
            scenario(call, text_step("x"), prompt="ONE"),
            scenario(call, text_step("x"), prompt="TWO"),
        ]
        async with running(tmp_path, *scenarios) as runs:
            await runs.carry_out("ONE", mcp_servers=servers)
            assert [failed for _, failed in runs.results] == [False]
            await runs.carry_out("TWO")
            assert [failed for _, failed in runs.results] == [True]
            assert not (runs.session / ".mcp-servers").exists()


@EVERYWHERE
async def test_input_files_lie_beside_the_work_and_output_is_reported(
    tmp_path: Path, isolation: str
) -> None:
    session = tmp_path / "workspace" / "1"
    steps = [
        tool_step("Read", {"file_path": str(session / "input" / "data" / "a.csv")}),
        tool_step("Bash", {"command": f"cp {session}/input/data/a.csv {session}/output/b.csv"}),
        text_step("done"),
    ]
    async with running(tmp_path, scenario(*steps)) as runs:
        verdict = await runs.carry_out(
            "ONE", input_files={"data/a.csv": "1,2\n"}, isolation=isolation
        )
        assert "1,2" in runs.results[0][0]
    assert [file["path"] for file in verdict.data["workspace"]["files"]] == ["output/b.csv"]


async def test_a_conversation_in_its_sessions_directory_outlives_the_executors_home(
    tmp_path: Path,
) -> None:
    scenarios = [
        scenario(text_step("first answer"), prompt="ONE"),
        scenario(text_step("second answer"), prompt="TWO", history=["ONE", "first answer"]),
    ]
    (tmp_path / "one").mkdir()
    async with running(tmp_path / "one", *scenarios, state_in_sessions=True) as runs:
        verdict = await runs.carry_out("ONE")
        assert verdict.data["workspace"]["files"] == []
        (conversation,) = {
            event.data["sdk_session_id"] for event in runs.told if event.type == EventType.SESSION
        }
        assert (runs.session / ".claude" / "projects").is_dir()
        assert not (tmp_path / "one" / "claude").exists()
    # As if a container had gone: nothing is left but the session's directory, in its place.
    kept = tmp_path / "kept"
    (tmp_path / "one" / "workspace").rename(kept)
    for path in (tmp_path / "one").iterdir():
        if path.is_file():
            path.unlink()
    kept.rename(tmp_path / "one" / "workspace")
    async with running(tmp_path / "one", *scenarios, state_in_sessions=True) as runs:
        verdict = await runs.carry_out("TWO", sdk_session_id=conversation)
    assert verdict.data["result"] == "second answer", verdict.data
