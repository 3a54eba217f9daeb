"""What tools may do, seen where it counts: the real CLI, real files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from executor.agents.protocol import AgentSession
from scripts.scripted_model import ScriptedModel
from tests.fakes.agent_jobs import JobMaker, Turn, opened, take_turn
from tests.fakes.model import scenario, step, text_step


def use(tool: str, **arguments: object) -> dict[str, object]:
    return {"tool": tool, "input": arguments}


async def test_file_tools_stay_inside_the_session(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("TOP SECRET", encoding="utf-8")
    calls = [
        use("Write", file_path="{cwd}/inside.txt", content="x"),
        use("Write", file_path=f"{outside}/written.txt", content="x"),
        use("Write", file_path="{cwd}/link/written.txt", content="x"),
        use("Read", file_path=f"{outside}/secret.txt"),
        use("Read", file_path="{cwd}/link/secret.txt"),
        use("Read", file_path="{cwd}/../../../config.env"),
        use("Read", file_path="{cwd}/../attachments/note.txt"),
    ]
    async with ScriptedModel([scenario(step(*calls), text_step("done"))]) as model:
        maker = JobMaker(tmp_path, model.url)
        (maker.cwd / "link").symlink_to(outside)
        (tmp_path / "home" / "config.env").write_text("TOP SECRET", encoding="utf-8")
        (maker.session_dir / "attachments").mkdir()
        (maker.session_dir / "attachments" / "note.txt").write_text("a note", encoding="utf-8")
        async with opened(maker.job()) as session:
            turn = await take_turn(session)
    assert [failed for _, failed in turn.results] == [False, True, True, True, True, True, False]
    assert "TOP SECRET" not in str(turn.events)
    assert "a note" in turn.results[-1][0]
    assert (maker.cwd / "inside.txt").exists()
    assert [path.name for path in outside.iterdir()] == ["secret.txt"]


async def test_a_mention_of_a_file_in_the_prompt_does_not_read_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("TOP SECRET", encoding="utf-8")
    scenarios = [scenario(text_step("leaked"), history=secret.name), scenario(text_step("clean"))]
    async with (
        ScriptedModel(scenarios) as model,
        opened(JobMaker(tmp_path, model.url).job()) as session,
    ):
        turn = await take_turn(session, f"look at @{secret}")
    assert turn.end.result == "clean"


async def test_what_the_users_own_settings_allow_stays_inside_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = tmp_path / "user-config"
    user.mkdir()
    settings = {"permissions": {"allow": ["Read", "Write", "Bash"]}, "disableAllHooks": True}
    (user / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    outside = tmp_path / "outside.txt"
    call = use("Write", file_path=str(outside), content="x")
    async with ScriptedModel([scenario(step(call), text_step("done"))]) as model:
        maker = JobMaker(tmp_path, model.url, api_key="")
        maker.environ["CLAUDE_CONFIG_DIR"] = str(user)
        job = maker.job(env={"ANTHROPIC_API_KEY": "sk-login"})
        assert job.config_dir is None
        async with opened(job) as session:
            turn = await take_turn(session)
    assert turn.results[0][1]
    assert not outside.exists()


async def test_allowed_tools_restrict_what_the_model_is_offered_and_what_it_gets(
    tmp_path: Path,
) -> None:
    calls = [
        use("Bash", command="git --version"),
        use("Bash", command="git --version; touch escaped"),
        use("Bash", command="ls"),
        use("Write", file_path="{cwd}/a.txt", content="x"),
    ]
    async with ScriptedModel([scenario(step(*calls), text_step("done"))]) as model:
        maker = JobMaker(tmp_path, model.url)
        async with opened(maker.job(allowed_tools=["Read", "Bash(git:*)"])) as session:
            turn = await take_turn(session)
        (request, *_) = [r for r in model.requests if r.kind == "turn"]
    assert set(request.tools) - {"DeferredToolPlaceholder"} == {"Read", "Bash"}
    assert [failed for _, failed in turn.results] == [False, True, True, True]
    assert list(maker.cwd.iterdir()) == []


async def test_disallowed_tools_are_not_offered(tmp_path: Path) -> None:
    async with ScriptedModel([scenario(text_step("done"))]) as model:
        maker = JobMaker(tmp_path, model.url)
        bot = {"disallowed_tools": ["Write"]}
        async with opened(maker.job(disallowed_tools=["Bash"], bot=[bot])) as session:
            await take_turn(session)
        (request,) = [r for r in model.requests if r.kind == "turn"]
    assert "Read" in request.tools
    assert not {"Write", "Bash", "ScheduleWakeup", "ListAgents"} & set(request.tools)


async def test_a_workflow_which_would_go_on_behind_the_result_is_not_begun(tmp_path: Path) -> None:
    script = "export const meta = {name: 'x', description: 'x', phases: []}; await agent('x')"
    call = use("Workflow", script=script)
    async with ScriptedModel([scenario(step(call), text_step("done"))]) as model:
        async with opened(JobMaker(tmp_path, model.url).job()) as session:
            turn = await take_turn(session)
        (request, *_) = [r for r in model.requests if r.kind == "turn"]
    assert "Workflow" not in request.tools
    assert [failed for _, failed in turn.results] == [True]


async def _in_mode(tmp_path: Path, mode: str | None, *calls: dict[str, object]) -> Turn:
    async with ScriptedModel([scenario(step(*calls), text_step("done"))]) as model:
        maker = JobMaker(tmp_path, model.url, mode=mode)
        session: AgentSession
        async with opened(maker.job()) as session:
            return await take_turn(session)


@pytest.mark.parametrize(
    ("mode", "refused"),
    [
        (None, [False, False]),
        ("bypassPermissions", [False, False]),
        ("acceptEdits", [False, True]),
        ("default", [True, True]),
        ("plan", [True, True]),
        ("dontAsk", [True, True]),
    ],
)
async def test_a_mode_on_request_is_the_clis_own_and_nobody_approves_what_it_asks(
    tmp_path: Path, mode: str | None, refused: list[bool]
) -> None:
    turn = await _in_mode(
        tmp_path,
        mode,
        use("Write", file_path="{cwd}/a.txt", content="x"),
        use("Bash", command="git init --quiet made"),
    )
    assert [failed for _, failed in turn.results] == refused


async def test_a_question_is_answered_by_the_news_that_nobody_is_there(tmp_path: Path) -> None:
    options = [{"label": "a", "description": "a"}, {"label": "b", "description": "b"}]
    question = {"question": "Which?", "header": "h", "multiSelect": False, "options": options}
    turn = await _in_mode(tmp_path, None, use("AskUserQuestion", questions=[question]))
    ((answer, failed),) = turn.results
    assert failed
    assert "Decide yourself" in answer


async def test_long_tool_results_can_be_read_back(tmp_path: Path) -> None:
    async with ScriptedModel(
        [scenario(step(use("Bash", command="seq 1 30000")), text_step("{last_tool_result}"))]
    ) as model:
        maker = JobMaker(tmp_path, model.url)
        async with opened(maker.job()) as session:
            turn = await take_turn(session)
            kept = turn.end.result.split("saved to: ")[1].splitlines()[0]
            decision = await maker.job().policy("Read", {"file_path": kept})
    assert decision.allowed
