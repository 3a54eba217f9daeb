"""What must hold for every run after chaos; each function gives sentences about what does not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench._chaos_faults import Hit
from bench._chaos_load import Work
from shared.protocol.events import TERMINAL_EVENTS, EventType
from shared.redaction import MASK
from shared.status import ErrorCode
from tests.fakes.scripted_cli import KEY_MARK

ATTEMPTS: Final = 3
"""How often the manager begins a run anew elsewhere, the first time included."""

SEEN_LATE_S: Final = 1.0
"""How much later than it was told the beginning of a run may be seen."""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """A row of the manager's log."""

    sequence: int
    attempt: int
    seq: int | None
    type: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """A run as the manager's database has it."""

    id: str
    state: str
    error_code: str | None
    events: list[LoggedEvent]


def read_runs(database: Path) -> dict[str, LoggedRun]:
    """All runs of a manager that has ended."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT run_id, sequence, attempt, seq, type, data FROM events ORDER BY 1, 2"
        )
        events: dict[str, list[LoggedEvent]] = {}
        for run_id, sequence, attempt, seq, type_, data in rows:
            event = LoggedEvent(sequence, attempt, seq, type_, json.loads(data))
            events.setdefault(run_id, []).append(event)
        runs = connection.execute("SELECT id, state, error_code FROM runs")
        return {id_: LoggedRun(id_, state, code, events.get(id_, [])) for id_, state, code in runs}


def check_run(work: Work, run: LoggedRun | None, hits: Sequence[Hit]) -> Iterator[str]:
    """Everything that must hold for one run."""
    if run is None:
        yield "is not in the manager's database"
        return
    yield from _verdict(work, run, hits)
    yield from _numbers(run)
    yield from _texts(run)
    sequences = [event.sequence for event in run.events]
    if work.sequences != sequences:
        yield f"its stream gave {_short(work.sequences)} instead of {_short(sequences)}"
    if not work.closed:
        yield "its stream has not ended"
    if run.state == "completed":
        said = work.text.replace(KEY_MARK, MASK)
        results = [e.data["result"] for e in run.events if e.type == EventType.COMPLETED]
        if any(result != said for result in results):
            yield f"its result is not what the agent said: {results}"


def explanation(work: Work, run: LoggedRun, hits: Sequence[Hit]) -> str | None:
    """What has led to the run's verdict; ``None`` when nothing that was done to it can have.

    A restart of anything, a lost connection and a wrong clock explain nothing: a run has to outlive
    them. A full disk excuses only runs whose workspace could not be made meanwhile.
    """
    match run.state, run.error_code:
        case "completed", _:
            return "nothing"
        case "cancelled", _ if work.cancel_asked:
            return "its cancel"
        case "failed", ErrorCode.LOST if work.on_node_loss == "fail":
            return "an executor out of reach, and its wish to fail then"
        case "failed", ErrorCode.LOST if (
            work.on_node_loss == "requeue" and run.events[-1].attempt >= ATTEMPTS
        ):
            return "executors out of reach in all its attempts"
        case "failed", ErrorCode.AGENT_CRASHED if _hit(work, hits, "kill agent"):
            return "the kill of its agent"
        case "failed", ErrorCode.WORKSPACE_ERROR if _hit(work, hits, "full disk"):
            return "a full disk"
        case _:
            return None


def _hit(work: Work, hits: Sequence[Hit], kind: str) -> bool:
    """Whether such a fault has hit the run's session, or all, while the run was under way."""
    if work.began_s is None or work.ended_s is None:
        return False
    return any(
        hit.kind == kind
        and hit.session_id in (work.session_id, None)
        and hit.from_s - SEEN_LATE_S <= work.ended_s
        and work.began_s - SEEN_LATE_S <= hit.to_s
        for hit in hits
    )


def _verdict(work: Work, run: LoggedRun, hits: Sequence[Hit]) -> Iterator[str]:
    verdicts = [event.type for event in run.events if event.type in TERMINAL_EVENTS]
    if verdicts != [f"lifecycle.{run.state}"]:
        yield f"it is {run.state}, with the verdicts {verdicts}"
    elif run.events[-1].type != verdicts[0]:
        yield f"{run.events[-1].type} follows its verdict"
    elif explanation(work, run, hits) is None:
        error = run.events[-1].data.get("error")
        yield f"nothing explains that it {run.state}: {run.error_code}: {error}"


def _numbers(run: LoggedRun) -> Iterator[str]:
    sequences = [event.sequence for event in run.events]
    if sequences != list(range(1, len(sequences) + 1)):
        yield f"its sequence has gaps or repeats: {_short(sequences)}"
    attempts = [event.attempt for event in run.events]
    if attempts != sorted(attempts):
        yield "an earlier attempt tells something after a later one"
    for attempt in set(attempts):
        last = 0
        for event in run.events:
            if event.attempt != attempt or event.seq is None:
                continue
            first = event.data.get("covers_from", event.seq)
            if event.seq <= last or first > last + 1:
                yield f"seq {first} to {event.seq} of attempt {attempt} comes after {last}"
            last = event.seq


def _texts(run: LoggedRun) -> Iterator[str]:
    texts: dict[str, str] = {}
    open_: set[str] = set()
    asked: set[str] = set()
    truncated = any(event.type == EventType.TRUNCATED for event in run.events)
    for event in run.events:
        message_id = event.data.get("message_id", "")
        match event.type:
            case EventType.LLM_START:
                open_.add(message_id)
            case EventType.LLM_STREAM:
                text = texts.setdefault(message_id, "")
                if event.data["offset"] != len(text) and not truncated:
                    yield f"a chunk is at {event.data['offset']} instead of {len(text)}"
                texts[message_id] = text + event.data["content"]
            case EventType.LLM_DONE:
                open_.discard(message_id)
                if event.data["content"] != texts.get(message_id, "") and not (
                    truncated or event.data.get("truncated")
                ):
                    yield "a message's content is not its chunks joined"
            case EventType.LLM_ERROR:
                open_.discard(message_id)
            case EventType.INPUT_REQUIRED:
                asked.add(event.data["request_id"])
            case EventType.INPUT_RESOLVED:
                asked.discard(event.data["request_id"])
            case _:
                pass
    if open_:
        yield f"{len(open_)} messages were left open"
    if asked:
        yield f"{len(asked)} questions were left open"


def holders(place: Path, secrets: Iterable[str], meant_for: Mapping[str, str]) -> Iterator[str]:
    """Files below *place* that hold a secret; *meant_for* names the file that may."""
    wanted = {secret.encode(): secret for secret in secrets}
    for path in sorted(place.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        for raw, secret in wanted.items():
            if meant_for.get(secret) != path.name and raw in content:
                yield f"{path.relative_to(place)} holds the secret {secret[:12]}…"


def _short(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return f"{len(numbers)} numbers from {shown} … to {numbers[-1]}" if numbers else "none"
