"""``wegent-executor doctor``: what keeps an executor from working here, and what puts it right."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, Final

from executor.commands.command import Command
from executor.commands.output import Style, Styled, on_terminal, print_json, print_line
from executor.exit_status import ExitStatus

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from executor.diagnosis.finding import Finding

_STATES: Final = len("warning") + 2
_NARROWEST: Final = 30
"""Texts of fewer columns get lines of their own, and below that are wider than the terminal."""

_STYLES: Final[dict[str, Style]] = {"ok": "good", "warning": "warning", "failed": "bad"}


def run(arguments: argparse.Namespace) -> int:
    """Look at everything and print what was found; fails when something has."""
    import asyncio

    from executor.config.loading import CONFIG_FILE
    from executor.diagnosis.examination import examine
    from executor.diagnosis.settings import read_settings
    from executor.network.variables import adopt

    read = read_settings()
    file = read.settings.home / CONFIG_FILE if read.settings is not None else None
    if file is not None:
        adopt(file, os.environ)
    loop = asyncio.new_event_loop()
    try:
        findings = loop.run_until_complete(examine(read, os.environ))
    finally:
        loop.close()  # as asyncio.run() does not: without waiting for threads that look up names
    findings = _masked(findings, read.settings.secrets if read.settings else [])
    if arguments.json:
        print_json(describe(findings))
    else:
        _print(findings, file)
    return ExitStatus.FAILURE if _worst(findings) == "failed" else ExitStatus.OK


def describe(findings: Sequence[Finding]) -> dict[str, Any]:
    """What was found, as JSON."""
    from shared.version import __version__

    return {
        "version": __version__,
        "state": _worst(findings),
        "checks": [
            {"check": one.check, "state": one.state.value, "what": one.what, "remedy": one.remedy}
            for one in findings
        ],
    }


def _print(findings: Sequence[Finding], file: Path | None) -> None:
    from executor.diagnosis.remedies import sets_variable

    names = max(len(one.check) for one in findings)
    beside = _STATES + names + 2
    indent = beside if _columns() >= beside + _NARROWEST else _STATES
    for one in findings:
        lines = _wrapped(one.what, indent)
        state = Styled(f"{one.state:<{_STATES}}", _STYLES[one.state])
        check = Styled(f"{one.check:<{names}}  ", "strong")
        print_line(state, check, lines.pop(0) if indent == beside else "")
        for line in lines:
            print_line(" " * indent, line)
        if one.remedy:  # never wrapped: it is there to be pasted
            print_line(" " * _STATES, Styled("fix: ", "dim"), one.remedy)
    counts = [f"{_count(findings, state)} {state}" for state in ("failed", "warning", "ok")]
    print_line("")
    if file is not None and any(sets_variable(one.remedy) for one in findings):
        note = f"A variable set so holds in this shell only; a service reads it from {file}."
        for line in _wrapped(note, 0):
            print_line(line)
    print_line(Styled(", ".join(counts), _STYLES[_worst(findings)]))


def _columns() -> float:
    """How wide the terminal is; without one, no line is too long."""
    import shutil

    return shutil.get_terminal_size().columns if on_terminal() else math.inf


def _wrapped(text: str, indent: int) -> list[str]:
    """*text* as lines of a terminal that begin after *indent* columns; elsewhere one line."""
    import textwrap

    if not on_terminal():
        return [text]
    width = int(max(_columns() - indent, _NARROWEST))
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _count(findings: Sequence[Finding], state: str) -> int:
    return sum(one.state == state for one in findings)


def _worst(findings: Sequence[Finding]) -> str:
    states = {one.state.value for one in findings}
    return next(state for state in ("failed", "warning", "ok") if state in states)


def _masked(findings: Sequence[Finding], secrets: Sequence[str]) -> list[Finding]:
    """*findings* without secrets, in one line each: some of it is in others' words."""
    from dataclasses import replace

    from shared.redaction import Redactor

    redact = Redactor(secrets).redact
    return [replace(one, what=" ".join(redact(one.what).split())) for one in findings]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document")


COMMAND: Final = Command(
    name="doctor",
    help="find out what keeps the executor from working, and how to put it right",
    description="Look at the settings, the executor's folders, the way to the backend and its "
    "token (in docker mode: its port), Claude Code with its key or login, the sandbox, git, "
    "Docker, disks and the clock. Nothing is changed, and an executor that is running is not "
    "disturbed. Each finding is ok, warning or failed; below the last two stands what to type. "
    "Ends with status 1 when something has failed.",
    run=run,
    add_arguments=_add_arguments,
)
