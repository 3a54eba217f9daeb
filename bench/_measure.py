"""What all figures share: statistics, the machine's description, a table or JSON at the end."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self

import psutil

PACKAGES = ("claude-agent-sdk", "python-socketio", "aiohttp", "pydantic", "uvicorn", "sqlalchemy")

Judged = Literal["median", "p95", "p99", "max"]


@dataclass(frozen=True, slots=True)
class Summary:
    """A sample in five numbers; ``p95`` and ``p99`` by nearest rank, so they were measured."""

    n: int
    median: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, sample: Sequence[float]) -> Self:
        """Summarise *sample*, which must not be empty."""
        return cls(
            len(sample),
            statistics.median(sample),
            percentile(sample, 95),
            percentile(sample, 99),
            max(sample),
        )


def percentile(sample: Sequence[float], percent: float) -> float:
    """The smallest value that is not below *percent* % of *sample* (nearest rank)."""
    return sorted(sample)[max(0, math.ceil(len(sample) * percent / 100) - 1)]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the result; with *aim*, the number of *judged* should not be above it."""

    name: str
    unit: str
    summary: Summary
    aim: float | None = None
    judged: Judged = "median"

    @property
    def verdict(self) -> str:
        """Whether the aim is met; empty without one. Reported, never asserted."""
        if self.aim is None:
            return ""
        return "met" if getattr(self.summary, self.judged) <= self.aim else "MISSED"


@dataclass(slots=True)
class Report:
    """The result of one file; begun before the measurement, so that it shows the load then."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    machine: dict[str, str] = field(default_factory=lambda: describe_machine())

    def add(
        self,
        name: str,
        sample: Sequence[float],
        unit: str = "ms",
        *,
        aim: float | None = None,
        judged: Judged = "median",
    ) -> Summary:
        """Add a figure and return its summary."""
        summary = Summary.of(sample)
        self.figures.append(Figure(name, unit, summary, aim, judged))
        return summary

    def note(self, text: str) -> None:
        """Add a sentence, shown below the table."""
        self.notes.append(text)

    def show(self, *, as_json: bool) -> None:
        """Print everything."""
        self.machine["load average, end"] = load_average()
        if as_json:
            figures = [{**asdict(f), "verdict": f.verdict or None} for f in self.figures]
            whole: dict[str, Any] = {
                "title": self.title,
                "machine": self.machine,
                "figures": figures,
                "notes": self.notes,
            }
            print(json.dumps(whole, indent=2))
            return
        print(f"{self.title}\n")
        for name, value in self.machine.items():
            print(f"  {name:20} {value}")
        print()
        for line in table(self.figures):
            print(f"  {line}")
        print()
        for text in self.notes:
            print(f"  {text}")
        print()


def table(figures: Sequence[Figure]) -> list[str]:
    """The figures in aligned columns."""
    rows: list[tuple[str, ...]] = [("", "unit", "n", "median", "p95", "p99", "max", "aim", "")]
    for figure in figures:
        summary = figure.summary
        aim = "" if figure.aim is None else f"{figure.judged} <= {figure.aim:g}"
        numbers = (
            f"{value:.2f}" for value in (summary.median, summary.p95, summary.p99, summary.max)
        )
        rows.append((figure.name, figure.unit, str(summary.n), *numbers, aim, figure.verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column in (0, 1, 7, 8) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def describe_machine() -> dict[str, str]:
    """Everything that a reader needs to put the numbers in relation."""
    return {
        "cpu": f"{psutil.cpu_count()} x {_cpu_model()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "claude cli": _cli_version(),
        **{package: version(package) for package in PACKAGES},
        "load average": load_average(),
    }


def load_average() -> str:
    """Runnable processes over 1, 5 and 15 minutes: others share this machine."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cli_version() -> str:
    from executor.agents.claude_code.location import bundled_claude

    cli = bundled_claude()
    if cli is None:
        return "not found"
    answer = subprocess.run([cli, "--version"], capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def arguments(description: str, *, rounds: int) -> argparse.Namespace:
    """What every file takes: ``json`` and ``rounds``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"default: {rounds}")
    return parser.parse_args()
