"""All checks at once: none costs another its findings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from executor.diagnosis.examination import carry_out
from executor.diagnosis.finding import Finding, State, ok


async def fine() -> Sequence[Finding]:
    return [ok("fine", "is fine")]


async def broken() -> Sequence[Finding]:
    raise ZeroDivisionError("by nothing")


async def endless() -> Sequence[Finding]:
    await asyncio.Event().wait()
    return []


async def test_a_check_that_breaks_or_hangs_is_a_finding_and_the_others_are_there() -> None:
    async with asyncio.timeout(30):
        findings = await carry_out(
            {"broken": broken, "endless": endless, "fine": fine}, limit_s=0.1
        )

    assert [(finding.check, finding.state) for finding in findings] == [
        ("broken", State.FAILED),
        ("endless", State.FAILED),
        ("fine", State.OK),
    ]
    assert "ZeroDivisionError: by nothing" in findings[0].what
    assert "wegent-executor bundle" in str(findings[0].remedy)
    assert "within 0.1 s" in findings[1].what
    assert findings[1].remedy


async def test_what_may_have_to_unpack_a_program_is_waited_for_when_others_are_not() -> None:
    others_are_given_up = asyncio.Event()

    async def hanging() -> Sequence[Finding]:
        try:
            return await endless()
        finally:
            others_are_given_up.set()

    async def unpacking() -> Sequence[Finding]:
        await others_are_given_up.wait()
        return [ok("Claude Code", "is unpacked")]

    async with asyncio.timeout(30):
        findings = await carry_out({"Claude Code": unpacking, "hanging": hanging}, limit_s=0.1)

    assert [finding.state for finding in findings] == [State.OK, State.FAILED]


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")])
async def test_checks_run_at_the_same_time(order: tuple[str, str]) -> None:
    meeting = asyncio.Barrier(2)

    async def meet() -> Sequence[Finding]:
        await meeting.wait()
        return [ok("met", "at the same time")]

    async with asyncio.timeout(30):
        findings = await carry_out(dict.fromkeys(order, meet))

    assert len(findings) == 2
