from __future__ import annotations

import pytest

from executor.tasks.isolation import Availability, IsolationRules
from executor.tasks.placing import PlacingRunHandler
from shared.errors import Refusal
from shared.protocol.execution import Isolation
from tests.fakes.agent_jobs import make_request
from tests.fakes.run_handler import ScriptedRunHandler


class Places:
    """A handler for each place."""

    def __init__(self, least: Isolation, problem: str | None = None) -> None:
        self.here, self.containers = ScriptedRunHandler(), ScriptedRunHandler()
        self.availability = Availability(problem)
        rules = IsolationRules(least, None, containers=self.availability)
        self.handler = PlacingRunHandler(rules, self.here, self.containers)

    def started(self, isolation: str | None) -> str:
        request = make_request(isolation=isolation)
        self.handler.check(request)
        self.handler.start(request)
        return "here" if self.here.requests else "container"


@pytest.mark.parametrize(
    ("least", "asked", "place"),
    [
        (Isolation.NONE, None, "here"),
        (Isolation.NONE, "sandbox", "here"),
        (Isolation.SANDBOX, "container", "container"),
        (Isolation.CONTAINER, None, "container"),
        (Isolation.CONTAINER, "none", "container"),
    ],
)
async def test_a_run_goes_where_the_stronger_of_operator_and_request_wants_it(
    least: Isolation, asked: str | None, place: str
) -> None:
    assert Places(least).started(asked) == place


@pytest.mark.parametrize(
    ("least", "asked"), [(Isolation.NONE, "container"), (Isolation.CONTAINER, None)]
)
async def test_without_an_engine_containers_are_refused_with_the_reason_until_there_is_one(
    least: Isolation, asked: str | None
) -> None:
    places = Places(least, "no engine answers")
    with pytest.raises(Refusal, match="no engine answers") as refused:
        places.started(asked)
    assert refused.value.error_code == "isolation_unavailable"
    places.availability.problem = None
    assert places.started(asked) == "container"


def test_what_can_be_had_is_told() -> None:
    found = IsolationRules(Isolation.NONE, None, containers=Availability(None))
    assert found.available == ["none", "sandbox", "container"]
    least = IsolationRules(Isolation.CONTAINER, None, containers=Availability(None))
    assert least.available == ["container"]
    missing = IsolationRules(Isolation.CONTAINER, None, containers=Availability("gone"))
    assert missing.available == []


async def test_the_end_concerns_both() -> None:
    places = Places(Isolation.NONE)
    await places.handler.close_session(7)
    places.handler.wind_down()
    await places.handler.close()
    for handler in (places.here, places.containers):
        assert handler.closed_sessions == [7]
        assert handler.winding_down
        assert handler.closed
