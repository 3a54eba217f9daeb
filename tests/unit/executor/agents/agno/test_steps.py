"""What is remembered of a turn that was cut off."""

from __future__ import annotations

from agno.models.response import ToolExecution

from executor.agents.agno.steps import MAX_STEP_CHARS, MAX_STEPS, Steps


def call(number: int, text: str = "") -> ToolExecution:
    return ToolExecution(tool_call_id=str(number), tool_name="look", tool_args={"at": text})


def test_a_step_has_its_last_result_and_who_took_it() -> None:
    steps = Steps()
    steps.note("", "lead", call(1, "this"), "(not ended)")
    steps.note("run", "ann", call(1, "that"), "(not ended)")
    steps.note("", "lead", call(1, "this"), "seen")

    assert steps.lines == [
        'lead: look {"at": "this"}: seen',
        'ann: look {"at": "that"}: (not ended)',
    ]


def test_of_many_long_steps_the_last_are_kept_in_short() -> None:
    steps = Steps()
    for number in range(MAX_STEPS + 5):
        steps.note("", "lead", call(number, "x" * 10**4), "y" * 10**4)

    assert len(steps.lines) == MAX_STEPS
    assert all(len(line) < 2 * MAX_STEP_CHARS + 50 for line in steps.lines)
