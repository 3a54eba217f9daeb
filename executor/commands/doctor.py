"""``wegent-executor doctor``: what keeps an executor from working here, and what puts it right."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from executor.commands.command import Command
from executor.commands.output import Style, Styled, print_json, print_line
from executor.exit_status import ExitStatus

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from executor.diagnosis.finding import Finding

_STYLES: Final[dict[str, Style]] = {"ok": "good", "warning": "warning", "failed": "bad"}


def run(arguments: argparse.Namespace) -> int:
    """Look at everything and print what was found; fails when something has."""
    import asyncio

    from executor.config import CONFIG_FILE
    from executor.diagnosis.examination import examine
    from executor.diagnosis.settings import read_settings
    from executor.network.variables import adopt

    read = read_settings()
    if read.settings is not None:
        adopt(read.settings.home / CONFIG_FILE, os.environ)
    # Not closed, which would wait for threads: a name lookup may take half a minute.
    findings = asyncio.Runner().run(examine(read, os.environ))
    findings = _masked(findings, read.settings.secrets if read.settings else [])
    if arguments.json:
        print_json(describe(findings))
    else:
        _print(findings)
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


def _print(findings: Sequence[Finding]) -> None:
    width = max(len(one.check) for one in findings)
    for one in findings:
        state = Styled(f"{one.state:<8}", _STYLES[one.state])
        print_line(state, Styled(f"{one.check:<{width}}  ", "strong"), one.what)
        if one.remedy and one.state != "ok":
            print_line(" " * 10, "→ ", one.remedy)
    counts = [f"{_count(findings, state)} {state}" for state in ("failed", "warning", "ok")]
    print_line("")
    print_line(Styled(", ".join(counts), _STYLES[_worst(findings)]))


def _count(findings: Sequence[Finding], state: str) -> int:
    return sum(one.state == state for one in findings)


def _worst(findings: Sequence[Finding]) -> str:
    states = {one.state.value for one in findings}
    return next(state for state in ("failed", "warning", "ok") if state in states)


def _masked(findings: Sequence[Finding], secrets: Sequence[str]) -> list[Finding]:
    """*findings* without secrets: some of what was found is in others' words."""
    from dataclasses import replace

    from shared.redaction import Redactor

    redact = Redactor(secrets).redact
    return [replace(one, what=redact(one.what)) for one in findings]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document")


COMMAND: Final = Command(
    name="doctor",
    help="find out what keeps the executor from working, and how to put it right",
    description="Look at the settings, the executor's folders, the way to the backend and its "
    "token, Claude Code with its key or login, the sandbox, git, Docker, disks and the clock. "
    "Nothing is changed, and an executor that is running is not disturbed. Each finding is ok, "
    "warning or failed; below the last two stands what to type. Ends with status 1 when "
    "something has failed.",
    run=run,
    add_arguments=_add_arguments,
)
