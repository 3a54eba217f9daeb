"""Who takes part in a run, read from the request's bots."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from executor.agents.agno.members import MAX_MEMBERS, Member, read_members
from shared.errors import RunError
from shared.protocol.events import Source
from shared.status import ErrorCode
from tests.fakes.agent_jobs import make_request


def members(*bots: dict[str, Any], **fields: Any) -> Member:
    return read_members(make_request(bot=list(bots), **fields))


def test_a_request_without_bots_is_for_one_agent() -> None:
    alone = members()

    assert alone.source == Source("agent", "agent", "")
    assert not alone.members


def test_one_bot_is_one_agent_whatever_the_mode_says() -> None:
    alone = members({"id": 7, "name": "Solo"}, mode="solo")

    assert alone.source == Source("7", "agent", "Solo")


def test_the_first_of_several_bots_leads_the_others() -> None:
    team = members({"name": "Lead"}, {"name": "Ann"}, {"name": "Bob"}, mode="Route")

    assert team.mode == "route"
    assert team.source == Source("Lead", "team_supervisor", "Lead", "Lead")
    assert [member.source for member in team.members] == [
        Source(name, "worker", name, "Lead") for name in ("Ann", "Bob")
    ]


@pytest.mark.parametrize("mode", [None, ""])
def test_a_team_coordinates_unless_it_is_told_otherwise(mode: str | None) -> None:
    assert members({"name": "a"}, {"name": "b"}, mode=mode).mode == "coordinate"


def test_a_leaders_own_mode_holds_where_the_request_has_none() -> None:
    bots: list[dict[str, Any]] = [{"name": "a", "mode": "collaborate"}, {"name": "b"}]

    assert members(*bots).mode == "collaborate"
    assert members(*bots, mode="route").mode == "route"


def test_an_unknown_mode_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RunError) as refused:
        members({"name": "a"}, {"name": "b"}, mode="pipeline")

    assert refused.value.error_code == ErrorCode.INVALID_REQUEST
    assert "coordinate, collaborate, route" in str(refused.value)


def test_too_many_are_refused() -> None:
    inner = [{"name": "x"}] * MAX_MEMBERS
    with pytest.raises(RunError, match="more than 64"):
        members({"name": "a", "members": inner})


def test_members_lead_members_of_their_own_at_any_depth() -> None:
    worker = {"name": "Worker"}
    head = {"name": "Head", "team_name": "Lab", "mode": "route", "members": [worker]}
    boss = members({"name": "Boss", "members": [head, {"name": "Aide"}]})

    assert [one.source for one in boss.everyone()] == [
        Source("Boss", "global_supervisor", "Boss"),
        Source("Head", "team_supervisor", "Head", "Lab"),
        Source("Worker", "worker", "Worker", "Lab"),
        Source("Aide", "worker", "Aide", "Boss"),
    ]
    topology = boss.topology()
    assert topology["agent_type"] == "global_supervisor"
    assert topology["members"][0]["mode"] == "route"
    assert topology["members"][0]["team_name"] == "Lab"
    assert topology["members"][0]["members"] == [
        {
            "agent_id": "Worker",
            "agent_type": "worker",
            "agent_name": "Worker",
            "team_name": "Lab",
        }
    ]


def test_keys_are_plain_and_never_the_same() -> None:
    team = members({"name": "Lead Agent!"}, {"name": "分析师"}, {"name": "分析师"}, {"id": 3}, {})

    keys = [member.key for member in team.everyone()]
    assert keys == ["lead-agent", "分析师", "分析师-2", "3", "agent"]


def test_secrets_of_members_are_known_at_any_depth() -> None:
    inner = {"name": "c", "agent_config": {"env": {"api_key": "sk-inner-4711"}}}
    request = make_request(bot=[{"name": "a", "members": [{"name": "b", "members": [inner]}]}])

    assert "sk-inner-4711" in request.secrets


def test_variables_that_servers_of_members_need_must_be_there() -> None:
    server = {"s": {"url": "http://x/${WHERE}"}}
    bots = [{"name": "a", "members": [{"name": "b", "mcp_servers": server}]}]
    with pytest.raises(ValidationError, match="WHERE"):
        make_request(bot=bots)

    request = make_request(bot=bots, variables={"WHERE": "here"})
    member = request.bot[0].members[0]
    assert request.servers_of(member)["s"]["url"] == "http://x/here"


def test_null_members_are_none() -> None:
    assert not members({"name": "a", "members": None}).members
