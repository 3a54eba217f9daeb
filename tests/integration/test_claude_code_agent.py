"""Claude Code as an agent: the real CLI against a scripted model."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from executor.agents.claude_code.agent import ClaudeCodeAgent
from executor.agents.claude_code.location import find_claude
from executor.agents.protocol import AgentSession
from scripts.scripted_model import ScriptedModel
from scripts.scripted_record import fingerprint
from scripts.scripted_scenario import Scenario
from shared.errors import RunError
from shared.protocol.events import EventType
from shared.status import ErrorCode
from tests.fakes.agent_jobs import JobMaker, opened, take_turn
from tests.fakes.claude import claude_agent
from tests.fakes.model import error_step, scenario, step, text_step, tool_step


def jobs(tmp_path: Path, model: ScriptedModel) -> JobMaker:
    return JobMaker(tmp_path, model.url)


@asynccontextmanager
async def talking(
    tmp_path: Path, scenarios: list[Scenario], **job: Any
) -> AsyncIterator[AgentSession]:
    """A session whose model plays *scenarios*."""
    async with (
        ScriptedModel(scenarios) as model,
        opened(jobs(tmp_path, model).job(**job)) as session,
    ):
        yield session


async def test_a_turn_with_tools_streams_events_and_completes(tmp_path: Path) -> None:
    scenarios = [
        scenario(
            step(
                {"thinking": "I should write."},
                {"text": "I write "},
                {"text": "a file."},
                {"tool": "Write", "input": {"file_path": "{cwd}/a.txt", "content": "hi"}},
            ),
            text_step("Done."),
        )
    ]
    async with ScriptedModel(scenarios) as model:
        maker = jobs(tmp_path, model)
        async with opened(maker.job()) as session:
            turn = await take_turn(session)

    assert turn.end.error_code is None
    assert turn.end.result == "Done."
    assert (maker.cwd / "a.txt").read_text(encoding="utf-8") == "hi"
    kinds = [event.type for event in turn.events]
    assert kinds[0] == EventType.SESSION
    assert kinds.index(EventType.LLM_START) < kinds.index(EventType.LLM_STREAM)
    assert kinds[-1] == EventType.LLM_DONE
    assert turn.data(EventType.REASONING) == [{"content": "I should write."}]
    (call,) = turn.data(EventType.TOOL_CALL)
    (result,) = turn.data(EventType.TOOL_RESULT)
    assert (call["tool_name"], result["tool_name"], result["is_error"]) == ("Write", "Write", False)
    assert call["tool_id"] == result["tool_id"]
    (done,) = turn.data(EventType.LLM_DONE)
    assert done["content"] == "I write a file.\n\nDone."
    offset = 0
    for chunk in turn.data(EventType.LLM_STREAM):
        assert (chunk["message_id"], chunk["offset"]) == (done["message_id"], offset)
        offset += len(chunk["content"])
    assert offset == len(done["content"])
    assert turn.end.statistics["num_turns"] == 2
    assert turn.end.statistics["total_cost_usd"] > 0


async def test_a_second_turn_continues_the_conversation_and_counts_its_own_cost(
    tmp_path: Path,
) -> None:
    scenarios = [
        scenario(text_step("first answer"), prompt="ONE"),
        scenario(text_step("second answer"), prompt="TWO", history=["ONE", "first answer"]),
    ]
    async with talking(tmp_path, scenarios) as session:
        first = await take_turn(session, "ONE")
        pid = session.pid
        second = await take_turn(session, "TWO")
        assert session.pid == pid
    assert second.end.result == "second answer"
    assert first.data(EventType.SESSION) == second.data(EventType.SESSION)
    costs = [turn.end.statistics["total_cost_usd"] for turn in (first, second)]
    assert costs[1] < 1.5 * costs[0]


async def test_a_closed_conversation_is_resumed_by_its_id(tmp_path: Path) -> None:
    scenarios = [
        scenario(text_step("first answer"), prompt="ONE"),
        scenario(text_step("second answer"), prompt="TWO", history=["ONE", "first answer"]),
    ]
    async with ScriptedModel(scenarios) as model:
        maker = jobs(tmp_path, model)
        async with opened(maker.job()) as session:
            await take_turn(session, "ONE")
            conversation = session.session_id
        async with opened(maker.job(resume=conversation)) as session:
            assert session.session_id == conversation
            turn = await take_turn(session, "TWO")
    assert turn.end.result == "second answer"
    assert turn.data(EventType.SESSION) == [{"sdk_session_id": conversation}]
    assert turn.of(EventType.WARNING) == []


async def test_a_conversation_that_is_gone_is_begun_anew_with_a_warning(tmp_path: Path) -> None:
    gone = "761c489f-b16f-4a2a-bf85-9fbc2f2ba327"
    async with talking(tmp_path, [scenario(text_step("hello"))], resume=gone) as session:
        assert session.session_id is None
        turn = await take_turn(session)
    assert turn.end.result == "hello"
    assert "new one was begun" in turn.data(EventType.WARNING)[0]["message"]
    assert turn.data(EventType.SESSION)[0]["sdk_session_id"] != gone


async def test_max_turns_ends_the_turn_and_the_next_one_works(tmp_path: Path) -> None:
    scenarios = [
        scenario(tool_step("Bash", {"command": "echo 1"}), text_step("x"), prompt="ONE"),
        scenario(text_step("second answer"), prompt="TWO"),
    ]
    async with talking(tmp_path, scenarios, max_turns=1) as session:
        turn = await take_turn(session, "ONE")
        assert turn.end.error_code == ErrorCode.MAX_TURNS
        assert "maximum number of turns" in (turn.end.error or "")
        assert turn.data(EventType.LLM_ERROR)[0]["code"] == ErrorCode.MAX_TURNS
        assert (await take_turn(session, "TWO")).end.error_code is None


async def test_a_spent_budget_fails_the_turn(tmp_path: Path) -> None:
    scenarios = [scenario(tool_step("Bash", {"command": "echo 1"}), text_step("x"))]
    async with talking(tmp_path, scenarios, max_budget_usd=0.0001) as session:
        turn = await take_turn(session, max_budget_usd=0.0001)
    assert turn.end.error_code == ErrorCode.BUDGET_EXCEEDED
    assert not turn.end.reusable


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, ErrorCode.AUTH_ERROR),
        (403, ErrorCode.AUTH_ERROR),
        (429, ErrorCode.RATE_LIMITED),
        (500, ErrorCode.API_ERROR),
        (529, ErrorCode.RATE_LIMITED),
    ],
)
async def test_a_failing_api_fails_the_turn_in_the_agents_own_words(
    tmp_path: Path, status: int, code: ErrorCode
) -> None:
    async with ScriptedModel([scenario(error_step(status, message="the API says so"))]) as model:
        job = jobs(tmp_path, model).job(env={"CLAUDE_CODE_MAX_RETRIES": "0"})
        async with opened(job) as session:
            turn = await take_turn(session)
    assert turn.end.error_code == code
    assert turn.end.error
    assert str(status) in turn.end.error or "API key" in turn.end.error
    assert turn.of(EventType.LLM_STREAM) == []


async def test_refused_credentials_end_the_turn_long_before_the_clis_retries(
    tmp_path: Path,
) -> None:
    async with talking(tmp_path, [scenario(error_step(401))]) as session:
        turn = await take_turn(session)
    assert turn.end.error_code == ErrorCode.AUTH_ERROR
    assert len(turn.of(EventType.WARNING)) == 3


async def test_an_unreachable_api_is_an_api_error(tmp_path: Path) -> None:
    maker = JobMaker(tmp_path, "http://127.0.0.1:1")
    async with opened(maker.job(env={"CLAUDE_CODE_MAX_RETRIES": "1"})) as session:
        turn = await take_turn(session)
    assert turn.end.error_code == ErrorCode.API_ERROR
    assert "ECONNREFUSED" in (turn.end.error or "")
    assert "no connection" in turn.data(EventType.WARNING)[0]["message"]


async def test_without_any_login_the_error_says_how_to_log_in(tmp_path: Path) -> None:
    async with (
        ScriptedModel() as model,
        opened(JobMaker(tmp_path, model.url, api_key="").job()) as session,
    ):
        turn = await take_turn(session)
    assert turn.end.error_code == ErrorCode.AUTH_ERROR
    assert "Not logged in" in (turn.end.error or "")
    assert "log in with `claude`" in (turn.end.error or "")


async def test_a_missing_cli_is_a_clear_verdict(tmp_path: Path) -> None:
    missing = tmp_path / "claude"
    agent = ClaudeCodeAgent(await asyncio.to_thread(find_claude, missing, tmp_path, os.environ))
    with pytest.raises(RunError, match="WEGENT_CLAUDE_PATH") as caught:
        await agent.open(JobMaker(tmp_path, "http://127.0.0.1:1").job())
    assert caught.value.error_code == ErrorCode.AGENT_ERROR


async def test_a_cli_that_ends_at_once_says_how_and_leaves_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "claude"
    broken.write_text("#!/bin/sh\necho 'no such library' >&2\nexit 0\n", encoding="utf-8")
    broken.chmod(0o755)
    maker = JobMaker(tmp_path, "http://127.0.0.1:1")
    with pytest.raises(RunError, match="exit status 0: no such library") as caught:
        await claude_agent(broken).open(maker.job())
    assert caught.value.error_code == ErrorCode.AGENT_CRASHED
    assert list((tmp_path / "home" / "private").iterdir()) == []


async def test_two_sessions_use_their_own_keys_at_the_same_time(tmp_path: Path) -> None:
    before = dict(os.environ)
    scenarios = [scenario(step({"text": "a"}, {"gate": "both"}, {"text": "b"}))]
    async with ScriptedModel(scenarios) as model:
        makers = [JobMaker(tmp_path / key, model.url, api_key=key) for key in ("sk-one", "sk-two")]
        async with opened(makers[0].job()) as one, opened(makers[1].job()) as two:
            turns = [asyncio.create_task(take_turn(session)) for session in (one, two)]
            for key in ("sk-one", "sk-two"):
                await model.wait_for_request(
                    lambda request, key=key: request.key_fingerprint == fingerprint(key)  # type: ignore[misc]
                )
            model.gate("both").release()
            ends = [(await turn).end for turn in turns]
    assert [end.result for end in ends] == ["ab", "ab"]
    assert dict(os.environ) == before


async def test_the_agents_environment_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEGENT_AUTH_TOKEN", "backend-secret")
    monkeypatch.setenv("SOME_UNKNOWN_VARIABLE", "unknown-secret")
    scenarios = [scenario(tool_step("Bash", {"command": "env"}), text_step("x"))]
    async with talking(tmp_path, scenarios) as session:
        turn = await take_turn(session)
    ((output, failed),) = turn.results
    assert not failed
    assert "CLAUDECODE=1" in output
    assert "secret" not in output
    assert "SOME_UNKNOWN_VARIABLE" not in output


async def test_instructions_are_appended_and_what_a_repository_brings_does_not_run(
    tmp_path: Path,
) -> None:
    async with ScriptedModel([scenario(text_step("ok"))]) as model:
        maker = jobs(tmp_path, model)
        marker = tmp_path / "hook-ran"
        hook = {"type": "command", "command": f"touch {marker}"}
        settings = {
            "hooks": {"SessionStart": [{"hooks": [hook]}], "UserPromptSubmit": [{"hooks": [hook]}]}
        }
        (maker.cwd / ".claude").mkdir()
        for name in ("settings.json", "settings.local.json"):
            (maker.cwd / ".claude" / name).write_text(json.dumps(settings), encoding="utf-8")
        server = {"command": "touch", "args": [str(marker)]}
        (maker.cwd / ".mcp.json").write_text(
            json.dumps({"mcpServers": {"evil": server}}), encoding="utf-8"
        )
        (maker.cwd / "CLAUDE.md").write_text("REPOSITORY-RULES " * 5000, encoding="utf-8")
        bot = {"system_prompt": "BOT-RULES " * 5000}
        job = maker.job(system_prompt="REQUEST-RULES", bot=[bot])
        async with opened(job) as session:
            await take_turn(session)
        (request,) = [r for r in model.requests if r.kind == "turn"]
    assert "You are Claude Code" in request.system or "Claude Code" in request.system
    assert "REPOSITORY-RULES" in request.system
    assert not marker.exists()


async def test_mcp_servers_of_the_request_are_started_from_a_private_file(tmp_path: Path) -> None:
    server = {"command": "touch", "args": ["started"], "env": {"TOKEN": "mcp-secret"}}
    async with ScriptedModel([scenario(text_step("ok"))]) as model:
        maker = jobs(tmp_path, model)
        private = maker.root / "home" / "private"
        async with opened(maker.job(bot=[{"mcp_servers": {"own": server}}])) as session:
            await take_turn(session)
            (folder,) = private.iterdir()
            modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
            assert modes == {"mcp.json": 0o600, "process.json": 0o600}
            assert folder.stat().st_mode & 0o777 == 0o700
            command = Path(f"/proc/{session.pid}/cmdline")
            if command.exists():
                assert "mcp-secret" not in command.read_text(encoding="utf-8")
    assert (maker.cwd / "started").exists()
    assert list(private.iterdir()) == []


async def test_a_subagent_speaks_for_itself(tmp_path: Path) -> None:
    call = {"description": "look", "prompt": "SUBPROMPT", "subagent_type": "general-purpose"}
    scenarios: list[Scenario] = [
        scenario(tool_step("Agent", call, text="I ask."), text_step("All done."), prompt="MAIN"),
        scenario(
            tool_step("Bash", {"command": "echo sub"}, text="I look."),
            text_step("I saw it."),
            prompt="SUBPROMPT",
        ),
    ]
    async with talking(tmp_path, scenarios) as session:
        turn = await take_turn(session, "MAIN")
    done = {
        (event.source.agent_type, event.source.agent_name): event.data["content"]
        for event in turn.of(EventType.LLM_DONE)
        if event.source is not None
    }
    assert done == {
        ("worker", "general-purpose"): "I look.\n\nI saw it.",
        ("agent", ""): "I ask.\n\nAll done.",
    }
    assert turn.end.result == "All done."


async def test_a_todo_list_becomes_an_event(tmp_path: Path) -> None:
    todos = [{"content": "Fix it", "status": "in_progress", "activeForm": "Fixing it"}]
    scenarios = [scenario(tool_step("TodoWrite", {"todos": todos}), text_step("x"))]
    async with talking(tmp_path, scenarios) as session:
        turn = await take_turn(session)
    assert turn.data(EventType.TODOS) == [
        {"todos": [{"content": "Fix it", "status": "in_progress", "active_form": "Fixing it"}]}
    ]
    assert not turn.results[0][1]
