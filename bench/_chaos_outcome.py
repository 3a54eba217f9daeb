"""What chaos has shown, counted, and as the text of ``docs/benchmarks.md``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from bench._chaos_checks import LoggedRun, explanation
from bench._chaos_faults import Hit
from bench._chaos_load import Work
from bench._measure import Summary
from shared.protocol.events import EventType

FAULT_NAMES: Final[Mapping[str, str]] = {
    "cut": "TCP connection cut",
    "freeze": "half-open for 0.2 to 8 s",
    "slow": "latency of 10 to 200 ms",
    "refuse": "connections refused for up to 2 s",
    "kill manager": "manager killed (SIGKILL) and started again",
    "kill executor": "executor killed and started again",
    "drain executor": "executor told to stop (SIGTERM) and started again",
    "kill agent": "agent killed",
    "full disk": "executor's disk full for 0.5 to 4 s",
    "clock step": "wall clock of one program stepped, by up to 2 h",
}

VIOLATIONS_SHOWN: Final = 50


@dataclass(slots=True)
class Outcome:
    """What chaos has shown."""

    seed: int
    wanted: Mapping[str, int]
    """How many faults of each kind were to happen."""
    seconds: float = 0.0
    hits: list[Hit] = field(default_factory=list)
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many runs ended in what, and what led to it."""
    ways: Counter[str] = field(default_factory=Counter)
    """How many runs went through what."""
    durations: list[float] = field(default_factory=list)
    """Seconds from the beginning of a run to its verdict, as their callers saw it."""
    stops_s: list[float] = field(default_factory=list)
    """Seconds from SIGTERM to the end of each executor that was told to stop."""
    events: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def faults(self) -> Counter[str]:
        """How many of each kind have hit something."""
        return Counter(hit.kind for hit in self.hits)

    def count(self, work: Work, run: LoggedRun) -> None:
        """Take a run into account."""
        self.events += len(run.events)
        why = explanation(work, run, self.hits) or "NOTHING EXPLAINS IT"
        self.verdicts[run.error_code or run.state, why] += 1
        if work.began_s is not None and work.ended_s is not None:
            self.durations.append(work.ended_s - work.began_s)
        types = [event.type for event in run.events]
        attempts = {event.attempt for event in run.events}
        ways = {
            "went on after a restart": types.count(EventType.STARTED) > len(attempts),
            "went to another executor": len(attempts) > 1,
            "used a tool": EventType.TOOL_CALL in types,
            "asked the user": EventType.INPUT_REQUIRED in types,
            "were answered": work.answered,
            "lost text to a bound": EventType.TRUNCATED in types,
        }
        self.ways.update(way for way, gone in ways.items() if gone)

    def text(self) -> Iterator[str]:
        """The summary, line by line, in Markdown."""
        yield "| fault | hits | runs then, on average: in text, in a command, at a question |"
        yield "|---|---|---|"
        for kind, name in FAULT_NAMES.items():
            if wanted := self.wanted.get(kind):
                yield f"| {name} | {self._hits(kind, wanted)} |"
        yield ""
        yield "| verdict | runs | what led to it |"
        yield "|---|---|---|"
        for (verdict, why), number in sorted(self.verdicts.items()):
            yield f"| {verdict} | {number} | {'' if verdict == 'completed' else why} |"
        yield f"| **violations of what must hold** | **{len(self.violations)}** | |"
        yield ""
        ways = "".join(f", {number} {way}" for way, number in self.ways.most_common())
        runs = f"{self.verdicts.total()} runs with {self.events} events"
        yield f"{runs} in {self.seconds:.0f} s{ways}."
        for what, sample in (
            ("A run took", self.durations),
            ("An executor told to stop ended after", self.stops_s),
        ):
            if sample:
                took = Summary.of(sample)
                yield f"{what} {took.median:.1f} s (p95 {took.p95:.1f}, longest {took.max:.1f})."
        for violation in self.violations[:VIOLATIONS_SHOWN]:
            yield f"- {violation}"

    def _hits(self, kind: str, wanted: int) -> str:
        stages = [hit.stages for hit in self.hits if hit.kind == kind]
        number = f"{len(stages):,}" + (f" of {wanted:,}" if len(stages) < wanted else "")
        if not stages:
            return f"{number} | "
        means = (
            sum(s[stage] for s in stages) / len(stages) for stage in ("text", "tool", "question")
        )
        return f"{number} | " + ", ".join(f"{mean:.1f}" for mean in means)
