"""Teams of agno: who hands out work to whom, and who says what."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from executor.agents.protocol import ToolDecision
from shared.protocol.answers import QuestionKind
from shared.protocol.events import AgentEvent, EventType, Source
from shared.status import ErrorCode
from tests.fakes.agent_jobs import take_turn
from tests.fakes.agno import (
    Playing,
    ask_again_at_once,
    delegates,
    fake_server,
    playing_in,
    says,
    texts,
    told,
)
from tests.fakes.model import error_step, scenario, step, text_step, tool_step


@pytest.fixture
async def playing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Playing:
    await ask_again_at_once(monkeypatch)
    return playing_in(tmp_path)


async def test_a_leader_hands_out_work_and_answers_itself(playing: Playing) -> None:
    leader = delegates("lead", "ann", "Say A", first="I ask Ann.", then="Ann said A.")
    async with playing(leader, says("ann", "A!")) as agno:
        bots = [agno.bot("lead"), agno.bot("ann"), agno.bot("bob")]
        async with agno.opened(*bots, mode="coordinate") as session:
            turn = await take_turn(session, "Hi", bot=bots)

    assert turn.end.result == "Ann said A."
    assert told(turn) == [
        ("", "agent.session"),
        ("", "system.topology"),
        ("lead", "llm.start"),
        ("lead", "llm.stream"),
        ("lead", "dispatch.worker"),
        ("ann", "llm.start"),
        ("ann", "llm.stream"),
        ("ann", "llm.done"),
        ("ann", "agent.completed"),
        ("lead", "llm.stream"),
        ("lead", "llm.done"),
    ]
    assert turn.data(EventType.DISPATCH_WORKER) == [{"name": "ann", "task": "Say A"}]
    assert texts(turn) == {"lead": "I ask Ann.\n\nAnn said A.", "ann": "A!"}
    used = [done.data["usage"]["output_tokens"] for done in turn.of(EventType.LLM_DONE)]
    assert sum(used) == turn.end.statistics["usage"]["output_tokens"]
    assert all(used)
    sources = {event.source.agent_name: event.source for event in turn.events if event.source}
    assert sources == {
        "lead": Source("id-lead", "team_supervisor", "lead", "lead"),
        "ann": Source("id-ann", "worker", "ann", "lead"),
    }
    [topology] = turn.data(EventType.TOPOLOGY)
    assert topology["topology"]["mode"] == "coordinate"
    assert [m["agent_name"] for m in topology["topology"]["members"]] == ["ann", "bob"]


async def test_what_members_say_at_the_same_time_is_told_apart(playing: Playing) -> None:
    leader = scenario(
        tool_step("delegate_task_to_members", {"task": "Count"}),
        text_step("Both have counted."),
        system="LEAD",
    )
    ann = scenario(step({"text": "One "}, {"gate": "ann"}, {"text": "two"}), system="ANN")
    bob = scenario(step({"text": "Uno "}, {"gate": "bob"}, {"text": "due"}), system="BOB")
    async with playing(leader, ann, bob) as agno:
        bots = [agno.bot("lead"), agno.bot("ann"), agno.bot("bob")]
        async with agno.opened(*bots, mode="collaborate") as session:
            said: set[str] = set()

            def follow(event: AgentEvent) -> None:
                name = event.source.agent_name if event.source else ""
                if event.type == EventType.LLM_STREAM:
                    said.add(name)
                    if said >= {"ann", "bob"}:
                        agno.model.gate("bob").release()
                elif event.type == EventType.MEMBER_COMPLETED and name == "bob":
                    agno.model.gate("ann").release()

            turn = await take_turn(session, "Hi", bot=bots, follow=follow)

    assert turn.end.result == "Both have counted."
    assert texts(turn) == {"lead": "Both have counted.", "ann": "One two", "bob": "Uno due"}
    dispatched = turn.data(EventType.DISPATCH_WORKER)
    assert dispatched == [{"name": name, "task": "Count"} for name in ("ann", "bob")]
    finished = [event.source for event in turn.of(EventType.MEMBER_COMPLETED)]
    assert [source.agent_name for source in finished if source] == ["bob", "ann"]
    order = [name for name, kind in told(turn) if kind == "llm.stream" and name != "lead"]
    assert set(order[:2]) == {"ann", "bob"}
    assert order[-2:] == ["bob", "ann"]
    for name in ("ann", "bob"):
        ids = {
            event.data["message_id"]
            for event in turn.events
            if event.source and event.source.agent_name == name and "message_id" in event.data
        }
        assert len(ids) == 1


async def test_in_a_team_that_routes_the_answer_is_the_members_own(playing: Playing) -> None:
    leader = delegates("lead", "ann", "Say A", first="To Ann.", then="never said")
    async with playing(leader, says("ann", "A is the first letter. " * 5)) as agno:
        bots = [agno.bot("lead"), agno.bot("ann"), agno.bot("bob")]
        async with agno.opened(*bots, mode="route") as session:
            turn = await take_turn(session, "Hi", bot=bots)
            again = await take_turn(session, "Again", bot=bots)
            file = agno.conversations / f"{session.session_id}.json"
            [said, _] = json.loads(await asyncio.to_thread(file.read_text))["turns"]

    assert turn.end.result == "A is the first letter. " * 5
    assert texts(turn) == {"lead": "To Ann.", "ann": "A is the first letter. " * 5}
    streamed = [event for event in turn.of(EventType.LLM_STREAM) if event.source]
    assert {event.source.agent_name for event in streamed if event.source} == {"lead", "ann"}
    assert len(streamed) > 3
    assert again.end.error is None
    assert (said[-1]["role"], said[-1]["content"]) == ("assistant", turn.end.result)


async def test_a_member_may_lead_a_team_of_its_own(playing: Playing) -> None:
    inner = scenario(
        tool_step("delegate_task_to_member", {"member_id": "ann", "task": "Say A"}),
        text_step("Team: A"),
        system="HEAD",
    )
    outer = delegates("boss", "head", "Letters", then="All done.")
    async with playing(outer, inner, says("ann", "A!")) as agno:
        head = agno.bot("head", team_name="Letters", members=[agno.bot("ann")])
        boss = agno.bot("boss", members=[head, agno.bot("zoe")])
        async with agno.opened(boss) as session:
            turn = await take_turn(session, "Hi", bot=[boss])

    assert turn.end.result == "All done."
    assert texts(turn) == {"boss": "All done.", "head": "Team: A", "ann": "A!"}
    assert turn.data(EventType.DISPATCH_TEAM) == [{"name": "Letters", "task": "Letters"}]
    assert turn.data(EventType.DISPATCH_WORKER) == [{"name": "ann", "task": "Say A"}]
    sources = {event.source.agent_name: event.source for event in turn.events if event.source}
    assert sources["boss"] == Source("id-boss", "global_supervisor", "boss")
    assert sources["head"] == Source("id-head", "team_supervisor", "head", "Letters")
    assert sources["ann"] == Source("id-ann", "worker", "ann", "Letters")


@pytest.mark.parametrize(("status", "code"), [(401, "auth_error"), (429, "rate_limited")])
async def test_a_member_without_a_key_or_with_a_limit_ends_the_turn(
    playing: Playing, status: int, code: str
) -> None:
    leader = delegates("lead", "ann", "Say A", then="I make it up.")
    async with playing(leader, scenario(error_step(status), system="ANN")) as agno:
        bots = [agno.bot("lead"), agno.bot("ann")]
        async with agno.opened(*bots) as session:
            turn = await take_turn(session, "Hi", bot=bots)

    assert turn.end.error_code == code
    assert str(turn.end.error).startswith("ann: ")
    assert {event.data["code"] for event in turn.of(EventType.LLM_ERROR)} == {code}


async def test_a_member_that_fails_otherwise_is_told_and_its_leader_goes_on(
    playing: Playing,
) -> None:
    leader = delegates("lead", "ann", "Say A", then="Ann cannot.")
    async with playing(leader, scenario(error_step(400), system="ANN")) as agno:
        bots = [agno.bot("lead"), agno.bot("ann")]
        async with agno.opened(*bots) as session:
            turn = await take_turn(session, "Hi", bot=bots)

    assert turn.end.result == "Ann cannot."
    [warning] = turn.of(EventType.WARNING)
    assert warning.source is not None
    assert warning.source.agent_name == "ann"
    [error] = turn.of(EventType.LLM_ERROR)
    assert error.source == warning.source
    words = "ann: messages: Invalid request (HTTP 400)"
    assert error.data["error"] == words
    assert warning.data["message"].startswith(words)


async def test_a_team_that_routes_fails_with_whom_it_has_chosen(playing: Playing) -> None:
    leader = delegates("lead", "ann", "Say A", then="never said")
    async with playing(leader, scenario(error_step(400), system="ANN")) as agno:
        bots = [agno.bot("lead"), agno.bot("ann"), agno.bot("bob")]
        async with agno.opened(*bots, mode="route") as session:
            turn = await take_turn(session, "Hi", bot=bots)

    assert turn.end.error_code == ErrorCode.API_ERROR
    assert str(turn.end.error).startswith("ann: ")


async def test_a_team_that_routes_to_nobody_has_no_answer(playing: Playing) -> None:
    async with playing(delegates("lead", "nobody", "Say A", then="never said")) as agno:
        bots = [agno.bot("lead"), agno.bot("ann"), agno.bot("bob")]
        async with agno.opened(*bots, mode="route") as session:
            turn = await take_turn(session, "Hi", bot=bots)

    assert turn.end.error_code == ErrorCode.AGENT_ERROR
    assert turn.end.error == "lead chose 'nobody', who is not in the team"


async def test_an_interrupted_team_leaves_no_request_of_any_member(playing: Playing) -> None:
    leader = scenario(tool_step("delegate_task_to_members", {"task": "Count"}), system="LEAD")
    endless = [
        scenario(step({"text": "One"}, {"gate": name}), system=name.upper())
        for name in ("ann", "bob")
    ]
    async with playing(leader, *endless) as agno:
        bots = [agno.bot("lead"), agno.bot("ann"), agno.bot("bob")]
        async with agno.opened(*bots, mode="collaborate") as session:
            taking = asyncio.create_task(take_turn(session, "Hi", bot=bots))
            await agno.model.gate("ann").reached.wait()
            await agno.model.gate("bob").reached.wait()
            await session.interrupt()
            turn = await taking
            for name in ("ANN", "BOB"):
                await agno.model.wait_for_request(
                    lambda request, name=name: (  # type: ignore[misc] # bound at once
                        name in request.system and request.outcome == "client left"
                    )
                )

    assert turn.end.error == "the turn was interrupted"


async def test_members_use_their_own_tools_under_their_own_name(playing: Playing) -> None:
    leader = delegates("lead", "ann", "Look", then="Ann has looked.")
    ann = scenario(
        tool_step("mcp__fake__run", {"command": "echo seen"}),
        text_step("Seen."),
        name="ann",
        system="ANN",
    )
    async with playing(leader, ann) as agno:
        bots = [agno.bot("lead"), agno.bot("ann", mcp_servers=fake_server())]
        async with agno.opened(*bots) as session:
            turn = await take_turn(session, "Hi", bot=bots)
        offered = {r.scenario: r.tools for r in agno.model.requests}

    [used] = turn.of(EventType.TOOL_CALL)
    assert used.source == Source("id-ann", "worker", "ann", "lead")
    assert "seen" in turn.results[0][0]
    assert offered["ann"] == ("mcp__fake__run",)
    assert offered["lead"] == ("delegate_task_to_member",)


async def test_of_several_who_are_chosen_at_once_each_is_told_under_its_own_name(
    playing: Playing,
) -> None:
    calls = [
        {"tool": "delegate_task_to_member", "input": {"member_id": name, "task": "Go"}}
        for name in ("ann", "bob")
    ]
    leader = scenario(step(*calls), text_step("never said"), name="lead", system="LEAD")
    async with playing(leader, says("ann", "A! " * 20), says("bob", "B! " * 20)) as agno:
        bots = [agno.bot("lead"), agno.bot("ann"), agno.bot("bob")]
        async with agno.opened(*bots, mode="route") as session:
            turn = await take_turn(session, "Hi", bot=bots)

    assert texts(turn) == {"lead": "", "ann": "A! " * 20, "bob": "B! " * 20}
    assert turn.end.error is None


async def test_a_member_uses_no_more_tools_than_its_limit(playing: Playing) -> None:
    leader = delegates("lead", "ann", "Look", then="Done.")
    use = [tool_step("mcp__fake__run", {"command": f"echo x > {n}"}) for n in (1, 2, 3)]
    ann = scenario(*use, text_step("Seen."), name="ann", system="ANN")
    async with playing(leader, ann) as agno:
        bots = [agno.bot("lead"), agno.bot("ann", mcp_servers=fake_server(), max_turns=2)]
        async with agno.opened(*bots) as session:
            turn = await take_turn(session, "Hi", bot=bots)
        made = sorted(file.name for file in agno.job(*bots).cwd.iterdir())

    assert turn.end.result == "Done."
    assert made == ["1", "2"]


async def test_a_member_is_offered_what_both_the_run_and_its_own_list_allow(
    playing: Playing,
) -> None:
    leader = delegates("lead", "ann", "Look", then="Done.")
    async with playing(leader, says("ann", "Seen.")) as agno:
        lead = agno.bot("lead")
        for run, own, offered in [
            (["mcp__fake"], None, True),
            (["mcp__fake"], ["mcp__fake__run"], True),
            (["mcp__fake"], ["Read"], False),
            (["Read"], ["mcp__fake"], False),
        ]:
            ann = agno.bot("ann", mcp_servers=fake_server(), allowed_tools=own)
            async with agno.opened(lead, ann, allowed_tools=run) as session:
                await take_turn(session, "Hi", bot=[lead, ann])
            asked = [r for r in agno.model.requests if r.scenario == "ann"]
            assert bool(asked[-1].tools) is offered


@pytest.mark.parametrize(
    ("run", "own", "asked"),
    [(None, "default", True), (None, "dontAsk", False), ("default", "bypassPermissions", True)],
)
async def test_the_mode_of_a_member_counts_where_it_is_stronger_than_the_runs(
    playing: Playing, run: str | None, own: str, asked: bool
) -> None:
    askers: list[str] = []

    async def ask(
        kind: QuestionKind, tool: str, arguments: dict[str, Any], source: Source | None, /
    ) -> ToolDecision:
        assert source is not None
        askers.append(source.agent_name)
        return ToolDecision(allowed=False, message="Rather not.")

    call = tool_step("mcp__fake__run", {"command": "true"})
    ann = scenario(call, text_step("Seen."), name="ann", system="ANN")
    async with playing(delegates("lead", "ann", "Look", then="Done."), ann) as agno:
        agno.mode = run
        bots = [
            agno.bot("lead"),
            agno.bot("ann", mcp_servers=fake_server(), permission_mode=own),
        ]
        async with agno.opened(*bots) as session:
            turn = await take_turn(session, "Hi", bot=bots, ask=ask)

    assert askers == (["ann"] if asked else [])
    assert [failed for _, failed in turn.results] == [True]


async def test_a_session_is_not_used_again_when_a_members_servers_have_changed(
    playing: Playing,
) -> None:
    async with playing() as agno:
        servers = {"far": {"type": "http", "url": "http://x", "headers": {"X": "${TOKEN}"}}}
        bots = [agno.bot("lead"), agno.bot("ann", mcp_servers=servers)]
        jobs = [agno.job(*bots, variables={"TOKEN": value}) for value in ("1", "1", "2")]

    first, same, other = [job.fingerprint for job in jobs]
    assert first == same
    assert first != other


async def test_members_ask_different_models_with_different_keys(playing: Playing) -> None:
    leader = delegates("lead", "ann", "Say A", then="Done.")
    async with playing(leader, says("ann", "A")) as agno:
        env = {"base_url": agno.model.url, "api_key": "sk-anns-own", "model_id": "claude-y"}
        bots = [agno.bot("lead"), agno.bot("ann", agent_config={"env": env})]
        async with agno.opened(*bots) as session:
            await take_turn(session, "Hi", bot=bots)
        asked = {request.model: request.key_fingerprint for request in agno.model.requests}

    assert set(asked) == {"claude-x", "claude-y"}
    assert len(set(asked.values())) == 2
