from __future__ import annotations

import pytest

from executor.tasks.redispatch import RedispatchClock
from tests.fakes.clock import LoopTime


async def test_only_the_time_with_a_connection_counts_but_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time = LoopTime(monkeypatch)
    reasons: list[str] = []
    clock = RedispatchClock(reasons.append, wait_s=60)
    for _ in range(2):
        clock.connected(redispatches=True)
        await time.advance(25)
        clock.disconnected()
        await time.advance(3600)
    clock.connected(redispatches=True)
    await time.advance(5)
    assert reasons == []
    await time.advance(10)
    assert reasons == ["the backend did not send this run again within 60 s"]
