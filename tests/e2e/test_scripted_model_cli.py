"""The real CLI against the scripted model: what the demo and every end-to-end test stand on."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    Message,
    PermissionResultAllow,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    ThinkingBlock,
    ToolPermissionContext,
    ToolUseBlock,
)

from scripts.scripted_model import ScriptedModel
from scripts.scripted_record import fingerprint
from scripts.scripted_scenario import Scenario, load_scenarios
from tests.fakes.model import error_step, scenario, step, text_step, tool_step

SCRIPTS = Path(__file__).parents[2] / "scripts"
KEY = "dummy-key-of-this-test"

OpenClient = Callable[..., AbstractAsyncContextManager[ClaudeSDKClient]]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    shutil.copytree(SCRIPTS / "demo_repository", tmp_path / "workspace")
    return tmp_path / "workspace"


@pytest.fixture
def open_client(tmp_path: Path, workspace: Path) -> OpenClient:
    async def allow(
        name: str, arguments: dict[str, Any], context: ToolPermissionContext
    ) -> PermissionResultAllow:
        return PermissionResultAllow()

    @asynccontextmanager
    async def open_it(model: ScriptedModel, **options: Any) -> AsyncIterator[ClaudeSDKClient]:
        environment = {
            "ANTHROPIC_BASE_URL": model.url,
            "ANTHROPIC_API_KEY": KEY,
            "CLAUDE_CONFIG_DIR": str(tmp_path / "claude"),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            **options.pop("env", {}),
        }
        async with ClaudeSDKClient(
            ClaudeAgentOptions(
                cwd=workspace,
                env=environment,
                setting_sources=[],
                can_use_tool=allow,
                include_partial_messages=True,
                **options,
            )
        ) as client:
            yield client

    return open_it


async def ask(client: ClaudeSDKClient, prompt: str) -> tuple[list[Message], ResultMessage]:
    async with asyncio.timeout(50):
        await client.query(prompt)
        messages = [message async for message in client.receive_response()]
    assert isinstance(messages[-1], ResultMessage)
    return messages, messages[-1]


def blocks(messages: list[Message]) -> list[Any]:
    return [b for m in messages if isinstance(m, AssistantMessage) for b in m.content]


def unittest_passes(repository: Path) -> bool:
    command = [sys.executable, "-m", "unittest"]
    return subprocess.run(command, cwd=repository, capture_output=True, check=False).returncode == 0


def demo_without_pauses() -> Scenario:
    [demo] = load_scenarios([SCRIPTS / "scenarios" / "demo.json"])
    return demo.model_copy(update={"delta_pause_s": 0.0})


async def test_the_demo_repairs_its_repository(open_client: OpenClient, workspace: Path) -> None:
    assert not await asyncio.to_thread(unittest_passes, workspace)
    todo_tools = {"CLAUDE_CODE_ENABLE_TODO_TOOLS": "1", "CLAUDE_CODE_ENABLE_TASKS": "0"}
    preset = {"type": "preset", "preset": "claude_code", "append": "Mark of this test"}
    async with (
        ScriptedModel([demo_without_pauses()]) as model,
        open_client(model, env=todo_tools, system_prompt=preset) as client,
    ):
        messages, result = await ask(client, "Repair divide_evenly, please.")
    assert not result.is_error
    assert "scripted" in (result.result or "")
    calls = [block.name for block in blocks(messages) if isinstance(block, ToolUseBlock)]
    assert [name for name in calls if name != "TodoWrite"] == ["Read", "Bash", "Edit", "Bash"]
    assert calls.count("TodoWrite") == 4
    assert any(isinstance(block, ThinkingBlock) for block in blocks(messages))
    assert any(
        isinstance(m, StreamEvent) and m.event.get("delta", {}).get("type") == "text_delta"
        for m in messages
    )
    assert await asyncio.to_thread(unittest_passes, workspace)
    requests = list(model.requests)
    assert [request.step for request in requests] == [0, 1, 2, 3, 4]
    assert {request.key_fingerprint for request in requests} == {fingerprint(KEY)}
    assert {request.cwd for request in requests} == {str(workspace)}
    assert requests[0].system.endswith("Mark of this test")
    assert {"Bash", "Read", "Edit"} <= set(requests[0].tools)
    assert "TodoWrite" in requests[0].deferred_tools


async def test_the_demo_works_without_a_todo_tool(open_client: OpenClient, workspace: Path) -> None:
    async with (
        ScriptedModel([demo_without_pauses()]) as model,
        open_client(model) as client,
    ):
        messages, result = await ask(client, "Repair divide_evenly, please.")
    assert not result.is_error
    calls = [block.name for block in blocks(messages) if isinstance(block, ToolUseBlock)]
    assert calls == ["Read", "Bash", "Edit", "Bash"]
    assert await asyncio.to_thread(unittest_passes, workspace)


async def test_the_cli_retries_an_overloaded_api_and_the_step_is_played(
    open_client: OpenClient,
) -> None:
    scenarios = [scenario(error_step(529, times=1, then="fine after all"))]
    async with ScriptedModel(scenarios) as model, open_client(model) as client:
        messages, result = await ask(client, "go")
    assert (result.is_error, result.result) == (False, "fine after all")
    retries = [m for m in messages if isinstance(m, SystemMessage) and m.subtype == "api_retry"]
    assert [retry.data["error_status"] for retry in retries] == [529]


async def test_a_refused_key_is_a_result_with_an_error_flag_and_the_status(
    open_client: OpenClient,
) -> None:
    scenarios = [scenario(error_step(401))]
    environment = {"CLAUDE_CODE_MAX_RETRIES": "0"}
    async with ScriptedModel(scenarios) as model, open_client(model, env=environment) as client:
        messages, result = await ask(client, "go")
    # docs/notes/claude-cli.md promises this to the message mapper.
    assert (result.subtype, result.is_error, result.api_error_status) == ("success", True, 401)
    assert "Invalid API key" in (result.result or "")
    errors = [m.error for m in messages if isinstance(m, AssistantMessage)]
    assert errors == ["authentication_failed"]


async def test_text_of_a_cut_stream_is_said_again_under_another_message_id(
    open_client: OpenClient,
) -> None:
    cut_once = step(
        {"text": "partial "}, {"gate": "seen"}, {"cut": True, "times": 1}, {"text": "and whole"}
    )
    started: list[str] = []
    messages: list[Message] = []
    async with (
        ScriptedModel([scenario(cut_once)]) as model,
        open_client(model) as client,
        asyncio.timeout(50),
    ):
        await client.query("go")
        async for message in client.receive_response():
            messages.append(message)
            if isinstance(message, StreamEvent):
                if message.event["type"] == "message_start":
                    started.append(message.event["message"]["id"])
                if message.event["type"] == "content_block_delta":
                    model.gate("seen").release()
    assert isinstance(messages[-1], ResultMessage)
    assert messages[-1].result == "partial and whole"
    confirmed = [m.message_id for m in messages if isinstance(m, AssistantMessage)]
    assert len(started) == 2
    assert confirmed == started[1:]


async def test_one_conversation_is_interrupted_goes_on_and_is_resumed(
    open_client: OpenClient,
) -> None:
    scenarios = [
        scenario(
            tool_step("Bash", {"command": "echo one"}),
            step({"text": "Wait"}, {"gate": "working"}),
            prompt="first",
        ),
        scenario(
            tool_step("Bash", {"command": "echo two"}),
            text_step("{last_tool_result}"),
            prompt="second",
            history="first",
        ),
        scenario(text_step("I remember"), prompt="third", history=["first", "second"]),
    ]
    async with ScriptedModel(scenarios) as model:
        async with open_client(model) as client, asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(ask(client, "first"))
            await model.gate("working").reached.wait()
            await client.interrupt()
            _, interrupted = await asking
            await model.wait_for_request(lambda request: request.outcome == "client left")
            _, second = await ask(client, "second")
        assert interrupted.terminal_reason == "aborted_streaming"
        assert second.result == "two"
        async with open_client(model, resume=second.session_id) as client:
            _, third = await ask(client, "third")
    assert third.result == "I remember"
    assert third.session_id == second.session_id
