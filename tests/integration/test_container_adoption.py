"""Runs of an earlier process whose engine is there only after the executor has started."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import cast

import pytest

from executor.bootstrap.container_runs import Adoption
from executor.delivery.run_rows import RunRecord
from executor.tasks.isolation import Availability
from executor.tasks.run_handler import Run
from shared.containers.errors import EngineUnavailable
from shared.containers.pool import ContainerPool, Endpoint, Reconciled
from shared.protocol.events import RunKey, RunRef
from tests.fakes.agent import ScriptedAgent
from tests.fakes.agent_jobs import make_request
from tests.fakes.inner_executor import in_containers
from tests.fakes.run_handler import tool_call


class LatePool:
    """Has no engine when it is asked first."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._asked = False

    async def reconcile(self, unfinished: Collection[str]) -> Reconciled:
        if not self._asked:
            self._asked = True
            raise EngineUnavailable("no engine answers")
        return Reconciled(dict.fromkeys(unfinished, self._endpoint), {}, 0)


@pytest.mark.parametrize("ends_meanwhile", [False, True])
async def test_a_run_that_an_engine_brings_back_is_followed_or_ended(
    tmp_path: Path, ends_meanwhile: bool
) -> None:
    agent = ScriptedAgent()
    agent.script = [tool_call(1), asyncio.Event()]
    async with in_containers(agent, tmp_path) as (handler, pool), asyncio.timeout(50):
        events = (run := handler.start(make_request())).events()
        async for event in events:
            if event.type == "llm.tool_call":
                break
        run.let_go()
        await events.aclose()
        inner = pool.inside["1"]
        record = RunRecord(RunRef(1, 1), "running", 9, 40, None, {}, origin=event.origin)
        late = cast("ContainerPool", LatePool(inner.endpoint))
        availability = Availability("not looked for yet")
        adoption = Adoption(late, handler, availability)
        assert await adoption.now([record]) == {}
        assert availability.problem == str(EngineUnavailable("no engine answers"))
        unfinished, followed = [record.run], dict[RunKey, Run]()

        def follow(living: Mapping[RunKey, Run]) -> None:
            if ends_meanwhile:
                unfinished.clear()
            else:
                followed.update(living)

        await adoption.later([record], lambda: unfinished, follow, again_after_s=0)
        assert availability.problem is None
        assert list(followed) == ([] if ends_meanwhile else [record.run.key])
        assert list(pool.inside) == ([] if ends_meanwhile else ["1"])
