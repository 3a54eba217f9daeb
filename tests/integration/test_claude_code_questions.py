"""What the real CLI asks its user, through the run handler and back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from executor.tasks.questions import UserInput
from executor.tasks.run_handler import Run, RunHandler
from scripts.scripted_model import ScriptedModel
from scripts.scripted_scenario import Scenario
from shared.protocol.events import AgentEvent, EventType
from shared.protocol.local import Input
from tests.fakes.agent import in_process
from tests.fakes.agent_jobs import make_request
from tests.fakes.claude import claude_agent
from tests.fakes.model import reaching, scenario, step, text_step

LIMIT_S = 30.0

QUESTIONS = [
    {
        "question": "Which library?",
        "header": "Library",
        "multiSelect": False,
        "options": [{"label": n, "description": n} for n in ("httpx", "aiohttp")],
    },
    {
        "question": "Which tests?",
        "header": "Tests",
        "multiSelect": True,
        "options": [{"label": n, "description": n} for n in ("unit", "e2e")],
    },
]


def use(tool: str, **arguments: object) -> dict[str, Any]:
    return {"tool": tool, "input": arguments}


class Asked:
    """One run of the real CLI that plays *steps*, and its user."""

    def __init__(self, handler: RunHandler, url: str, mode: str | None, subtask_id: int) -> None:
        config = {"agent_config": reaching(url)}
        request = make_request(bot=[config], permission_mode=mode, subtask_id=subtask_id)
        self.run: Run = handler.start(request)
        self.events: AsyncGenerator[AgentEvent] = self.run.events()
        self.told: list[AgentEvent] = []

    async def until(self, type_: EventType) -> dict[str, Any]:
        """Read up to the next event of that type; its data."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                event = await anext(self.events)
                self.told.append(event)
                if event.type == type_:
                    return dict(event.data)

    async def answer(self, asked: dict[str, Any], decision: str, **more: Any) -> str:
        raw = {"task_id": 1, "subtask_id": 1, "request_id": asked["request_id"]}
        given = Input.model_validate(raw | {"decision": decision} | more)
        return await self.run.answer(given)

    async def verdict(self) -> AgentEvent:
        async with asyncio.timeout(LIMIT_S):
            self.told += [event async for event in self.events]
        return self.told[-1]

    def results(self) -> list[tuple[str, bool]]:
        """``(result, is_error)`` of every tool use so far."""
        return [
            (event.data["result"], event.data["is_error"])
            for event in self.told
            if event.type == EventType.TOOL_RESULT
        ]

    def outcomes(self) -> list[str]:
        return [e.data["outcome"] for e in self.told if e.type == EventType.INPUT_RESOLVED]


class Cli:
    """A run handler with the real CLI."""

    def __init__(self, handler: RunHandler, model: ScriptedModel) -> None:
        self._handler = handler
        self._model = model
        self._runs = 0

    def run(self, mode: str | None = None) -> Asked:
        self._runs += 1
        return Asked(self._handler, self._model.url, mode, self._runs)


@asynccontextmanager
async def playing(
    home: Path,
    *steps: dict[str, Any],
    scenarios: list[Scenario] | None = None,
    timeout_s: float = 600,
) -> AsyncIterator[Cli]:
    asking = UserInput(timeout_s=timeout_s, run_timeout_s=600)
    async with (
        ScriptedModel(scenarios or [scenario(*steps)]) as model,
        in_process(claude_agent(), home, environ=os.environ, user_input=asking) as handler,
    ):
        yield Cli(handler, model)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"answers": {"Which library?": "httpx", "2": ["unit", "e2e"]}},
            ['"Which library?"="httpx"', '"Which tests?"="unit, e2e"'],
        ),
        (
            {"answers": {"Which library?": {"answer": "my own", "notes": "it is small"}}},
            ['"Which library?"="my own"', "notes: it is small"],
        ),
        ({"message": "neither of them"}, ["The user responded: neither of them"]),
    ],
)
async def test_the_agent_reads_what_its_user_has_answered(
    tmp_path: Path, given: dict[str, Any], told: list[str]
) -> None:
    steps = [step(use("AskUserQuestion", questions=QUESTIONS)), text_step("done")]
    async with playing(tmp_path, *steps) as cli:
        run = cli.run()
        asked = await run.until(EventType.INPUT_REQUIRED)
        assert (asked["kind"], asked["tool_name"]) == ("question", "AskUserQuestion")
        texts = [question["question"] for question in asked["tool_input"]["questions"]]
        assert texts == ["Which library?", "Which tests?"]
        assert await run.answer(asked, "answer", **given) == "accepted"
        verdict = await run.verdict()
    types = [event.type for event in run.told]
    order = [
        EventType.TOOL_CALL,
        EventType.INPUT_REQUIRED,
        EventType.INPUT_RESOLVED,
        EventType.TOOL_RESULT,
    ]
    assert [type_ for type_ in types if type_ in order] == order
    ((result, failed),) = run.results()
    assert not failed
    assert [text for text in told if text not in result] == []
    assert verdict.data["result"] == "done"


async def test_a_question_without_an_answer_in_time_is_the_agents_to_decide(
    tmp_path: Path,
) -> None:
    steps = [step(use("AskUserQuestion", questions=QUESTIONS)), text_step("done")]
    async with playing(tmp_path, *steps, timeout_s=0.05) as cli:
        run = cli.run()
        verdict = await run.verdict()
    assert run.outcomes() == ["expired"]
    ((result, _),) = run.results()
    assert "has not answered in time" in result
    assert verdict.type == EventType.COMPLETED


async def test_permissions_are_asked_one_by_one_and_denied_in_the_users_words(
    tmp_path: Path,
) -> None:
    calls = [use("Write", file_path="{cwd}/a.txt", content="x"), use("Bash", command="touch b.txt")]
    outside = use("Write", file_path="/etc/hostname", content="x")
    async with playing(tmp_path, step(*calls, outside), text_step("done")) as cli:
        run = cli.run("default")
        for tool, decision, words in [("Write", "allow", None), ("Bash", "deny", "no shells")]:
            asked = await run.until(EventType.INPUT_REQUIRED)
            assert (asked["kind"], asked["tool_name"]) == ("permission", tool)
            more = {} if words is None else {"message": words}
            assert await run.answer(asked, decision, **more) == "accepted"
        verdict = await run.verdict()
    assert run.outcomes() == ["answered", "denied"]  # and nobody is asked about other places
    (_, written), (denied, refused), (_, kept_out) = run.results()
    assert (written, refused, kept_out) == (False, True, True)
    assert "no shells" in denied
    folder = Path(verdict.data["workspace"]["path"])
    assert {path.name for path in folder.iterdir()} == {"a.txt", "output"}


async def test_a_plan_is_kept_until_it_is_approved_and_then_carried_out(tmp_path: Path) -> None:
    steps = [
        step(use("Write", file_path="{plan_file}", content="# Build it")),
        step(use("ExitPlanMode")),
        step(use("ExitPlanMode")),
        step(use("Write", file_path="{cwd}/a.txt", content="x")),
        text_step("done"),
    ]
    async with playing(tmp_path, *steps) as cli:
        run = cli.run("plan")
        plan = await run.until(EventType.INPUT_REQUIRED)
        assert (plan["kind"], plan["tool_name"]) == ("plan", "ExitPlanMode")
        assert plan["tool_input"]["plan"] == "# Build it"
        await run.answer(plan, "deny", message="write a test first")
        again = await run.until(EventType.INPUT_REQUIRED)
        assert again["kind"] == "plan"
        assert again["request_id"] != plan["request_id"]
        await run.answer(again, "allow")
        write = await run.until(EventType.INPUT_REQUIRED)  # the mode after a plan asks
        assert (write["kind"], write["tool_name"]) == ("permission", "Write")
        await run.answer(write, "allow")
        verdict = await run.verdict()
        denied = run.results()[1]
        # Its process has left plan mode: the next run in that mode must not get it.
        next_run = cli.run("plan")
        assert (await next_run.until(EventType.INPUT_REQUIRED))["kind"] == "plan"
        await next_run.events.aclose()
    assert denied[1]
    assert "write a test first" in denied[0]
    assert [failed for _, failed in run.results()] == [False, True, False, False]
    assert (Path(verdict.data["workspace"]["path"]) / "a.txt").exists()


async def test_an_unattended_agent_asks_only_for_its_plan(tmp_path: Path) -> None:
    steps = [
        step(use("EnterPlanMode")),
        step(use("Write", file_path="{plan_file}", content="# Build it")),
        step(use("ExitPlanMode")),
        step(use("Bash", command="touch a.txt")),
        text_step("done"),
    ]
    async with playing(tmp_path, *steps) as cli:
        run = cli.run()
        plan = await run.until(EventType.INPUT_REQUIRED)
        assert plan["kind"] == "plan"
        await run.answer(plan, "allow")
        verdict = await run.verdict()
    assert run.outcomes() == ["answered"]
    assert (Path(verdict.data["workspace"]["path"]) / "a.txt").exists()


async def test_a_run_cancelled_while_its_question_waits_ends_and_the_next_one_works(
    tmp_path: Path,
) -> None:
    steps = [step(use("AskUserQuestion", questions=QUESTIONS)), text_step("done")]
    async with playing(tmp_path, *steps) as cli:
        run = cli.run()
        asked = await run.until(EventType.INPUT_REQUIRED)
        async with asyncio.timeout(LIMIT_S):
            await run.run.cancel("never mind")
        assert (await run.verdict()).type == EventType.CANCELLED
        assert await run.answer(asked, "answer", message="too late") == "expired"
        after = cli.run()
        asked = await after.until(EventType.INPUT_REQUIRED)
        await after.answer(asked, "deny")
        assert (await after.verdict()).type == EventType.COMPLETED


async def test_sub_agents_ask_at_the_same_time_and_each_gets_its_own_answer(
    tmp_path: Path,
) -> None:
    workers = [
        use("Agent", description=name, prompt=f"WORK {name}", subagent_type="general-purpose")
        for name in ("first", "second")
    ]
    work = [
        scenario(step(use("Bash", command=f"touch {name}")), text_step("ok"), prompt=f"WORK {name}")
        for name in ("first", "second")
    ]
    main = scenario(step(*workers), text_step("done"))
    async with playing(tmp_path, scenarios=[*work, main]) as cli:
        run = cli.run("default")
        asked = [await run.until(EventType.INPUT_REQUIRED) for _ in range(2)]
        assert run.outcomes() == []
        commands = {a["tool_input"]["command"]: a for a in asked}
        await run.answer(commands["touch second"], "allow")
        await run.answer(commands["touch first"], "deny")
        verdict = await run.verdict()
    assert run.outcomes() == ["answered", "denied"]
    folder = Path(verdict.data["workspace"]["path"])
    assert {path.name for path in folder.iterdir()} == {"second", "output"}
    # Who asks is who calls the tool.
    told = [e for e in run.told if e.type in (EventType.TOOL_CALL, EventType.INPUT_REQUIRED)]
    sources: dict[str, list[Any]] = {"touch first": [], "touch second": []}
    for event in told:
        arguments = event.data.get("arguments") or event.data.get("tool_input") or {}
        if (command := arguments.get("command")) in sources:
            assert event.source is not None
            sources[command].append(event.source)
    (called, asks), (called_second, asks_second) = sources.values()
    assert (called, called_second) == (asks, asks_second)
    assert called.agent_type == "worker"
    assert called != called_second
    resolved = [e.source for e in run.told if e.type == EventType.INPUT_RESOLVED]
    assert resolved == [asks_second, asks]


async def test_a_question_of_the_agent_itself_carries_its_own_source(tmp_path: Path) -> None:
    steps = [step(use("AskUserQuestion", questions=QUESTIONS)), text_step("done")]
    async with playing(tmp_path, *steps, timeout_s=0.05) as cli:
        run = cli.run()
        await run.verdict()
    sources = {
        event.source
        for event in run.told
        if event.type in (EventType.INPUT_REQUIRED, EventType.INPUT_RESOLVED, EventType.LLM_DONE)
    }
    (source,) = sources
    assert source is not None
    assert source.agent_type == "agent"
