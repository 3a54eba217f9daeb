"""What a container tells can be wrong in any way, and harms nothing that it goes through."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from executor.hooks.base import TaskConfig
from executor.hooks.calls import RunCalls
from executor.modes.local import dialect
from executor.modes.local.progress_reporter import ProgressReporter
from executor.tasks.containers.relayed import Relayed
from executor.tasks.containers.told_events import read_told_event
from shared.protocol.events import EventType, Source
from shared.protocol.execution import ExecutionRequest
from shared.redaction import Redactor
from tests.fakes.outbox import open_outbox

REQUEST = ExecutionRequest.model_validate({"task_id": 7, "subtask_id": 9, "prompt": "hi"})
FIELDS = (
    *("message_id", "content", "offset", "request_id", "kind", "tool_name", "tool_input", "todos"),
    *("sdk_session_id", "outcome", "files", "usage", "error", "error_code", "result", "workspace"),
    *("statistics", "reason", "covers_from", "path", "message", "tool_id", "arguments", "details"),
)
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    2**70,
    0.5,
    math.inf,
    "",
    "m",
    [],
    [1],
    [{}],
    {},
    {"a": 1},
    {"status": []},
)


def told(type_: str, data: object, **fields: Any) -> dict[str, Any]:
    category, _, action = type_.partition(".")
    event = {"category": category, "action": action}
    return {"sequence": 1, "timestamp": "T", "source": None, "event": event, "data": data, **fields}


@pytest.mark.parametrize("type_", list(EventType))
async def test_whatever_a_container_tells_can_be_passed_on_or_is_not_read(
    tmp_path: Path, type_: str
) -> None:
    rng = random.Random(type_)
    passed_on = 0
    async with open_outbox(tmp_path) as (store, outbox):
        for sequence in range(1, 200):
            data = {name: rng.choice(ODD) for name in FIELDS if rng.random() < 0.7}
            try:
                event = read_told_event(told(type_, data, sequence=sequence))
            except ValueError:
                continue
            await store.accept(REQUEST.run)
            reporter = ProgressReporter(outbox, Redactor())
            reporter.open(REQUEST)
            event = Relayed(tmp_path).pass_on(event)
            reporter.report(REQUEST.run, event)
            reporter.report(REQUEST.run, event)
            RunCalls(TaskConfig("9", "7", 1)).take(event)
            reporter.forget(REQUEST.run.key)
            passed_on += 1
        kept = await store.events_after(0, 10_000)
    for _, numbered in kept:
        dialect.encode(numbered)
    assert passed_on or type_ not in ("lifecycle.failed", "system.warning")


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("llm.start", {}),
        ("llm.start", {"message_id": 5}),
        ("llm.start", {"message_id": "x" * 301}),
        ("llm.stream", {"message_id": "m", "content": "x"}),
        ("llm.stream", {"message_id": "m", "content": None, "offset": 0}),
        ("agent.session", {"sdk_session_id": None}),
        ("agent.todos", {"todos": ["buy milk"]}),
        ("agent.input_required", {"kind": "question", "tool_name": "A", "tool_input": {}}),
        ("agent.input_resolved", {"request_id": ["q"], "outcome": "answered"}),
        ("workspace.changed", {"files": "all"}),
        ("llm.start", ["m"]),
        ("", {}),
        ("a\nb.c", {}),
    ],
)
def test_what_lacks_what_others_find_it_by_is_not_read(type_: str, data: object) -> None:
    with pytest.raises(ValueError, match=r"it does not say|without a usable"):
        read_told_event(told(type_, data))


@pytest.mark.parametrize("event", [None, "llm.start", {}, {"category": "llm"}, {"action": 5}])
def test_what_does_not_say_what_it_is_is_not_read(event: object) -> None:
    with pytest.raises(ValueError, match="does not say what it is"):
        read_told_event({**told("a.b", {}), "event": event})


@pytest.mark.parametrize("sequence", [None, 0, -1, True, "5", 1.0, 2**70])
def test_what_has_no_place_in_the_other_log_is_not_read(sequence: object) -> None:
    with pytest.raises(ValueError, match="no place"):
        read_told_event(told("system.warning", {"message": "w"}, sequence=sequence))


def test_a_verdict_counts_without_what_cannot_be_used_of_it() -> None:
    odd = {"error": {"a": 1}, "error_code": 5, "workspace": [], "statistics": {"turns": 1}}
    event = read_told_event(told("lifecycle.failed", odd))
    assert event.terminal
    assert event.data["error_code"] == "container_failed"
    assert "does not say why" in event.data["error"]
    assert event.data["statistics"] == {"turns": 1}
    assert "workspace" not in event.data
    assert read_told_event(told("lifecycle.completed", None)).data == {}


def test_what_a_newer_executor_tells_beside_is_passed_on() -> None:
    source = {"agent_id": "a", "agent_type": "worker", "mood": "good", "team_name": 5}
    event = read_told_event(told("agent.new_thing", {"x": [1]}, source=source, timestamp=5))
    assert (event.type, event.data, event.origin) == ("agent.new_thing", {"x": [1]}, 1)
    assert event.source == Source("a", "worker")
    assert event.timestamp.endswith("Z")
