"""``wegent-executor status``: how the running executor of this home stands."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from executor.commands.ages import age, clock_time
from executor.commands.command import Command
from executor.commands.output import (
    Cell,
    Styled,
    on_terminal,
    print_json,
    print_line,
    print_table,
    wait_for_reader,
)
from executor.exit_status import ExitStatus

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from executor.control.errors import ControlError

EVERY_S: Final = 1.0
"""How often ``--watch`` looks."""

_PAUSED: Final = "runs stand still, new tasks are refused"

_RUN_STATES: Final = {
    "running": "running",
    "waiting_for_input": "waiting for input",
    "paused": "paused",
    "cancelling": "being cancelled",
    "queued": "queued",
    "interrupted": "interrupted",
}


def run(arguments: argparse.Namespace) -> int:
    """Ask and print, once or again and again."""
    from executor.config.home import executor_home

    home = executor_home()
    if not arguments.watch:
        _print_once(home, json=arguments.json)
        return ExitStatus.OK
    with suppress(KeyboardInterrupt):  # the only way to end it
        if on_terminal() and not arguments.json:
            _watch_on_screen(home)
        else:
            _watch_changes(home, json=arguments.json)
    return ExitStatus.OK


def _print_once(home: Path, *, json: bool) -> None:
    from executor.control.client import ask
    from executor.control.errors import ControlError

    try:
        status = ask(home, "status")
    except ControlError as exc:
        if json:
            print_json(_unknown(home, exc))
        raise
    _print(status, json=json)


def _watch_on_screen(home: Path) -> None:
    """Show every second how it stands; what was shown last stays when the screen is given back."""
    from executor.commands.screen import whole_screen

    status = None
    with suppress(KeyboardInterrupt), whole_screen() as clear:
        while True:
            status = _look(home)
            clear()
            _print(status, json=False)
            time.sleep(EVERY_S)
    if status is not None:
        _print(status, json=False)


def _watch_changes(home: Path, *, json: bool) -> None:
    """Print how it stands whenever that changes."""
    known = None
    while True:
        status = _look(home)
        # That heartbeats go on is no change.
        changing = {key: value for key, value in status.items() if key != "last_heartbeat"}
        if changing != known:
            if known is not None and not json:
                print_line()
            known = changing
            _print(status, json=json)
        wait_for_reader(EVERY_S)


def _look(home: Path) -> dict[str, Any]:
    """The status; also when there is nobody to ask, since it may come back."""
    from executor.control.client import ask
    from executor.control.errors import ControlError

    try:
        return ask(home, "status")
    except ControlError as exc:
        return _unknown(home, exc)


def _unknown(home: Path, error: ControlError) -> dict[str, Any]:
    """What is known of an executor that could not be asked."""
    from executor.control.errors import NotRunning

    if isinstance(error, NotRunning):
        return {"state": "not_running", "home": str(home)}
    return {"state": "not_answering", "home": str(home), "last_error": str(error)}


def _print(status: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(status)
    elif status["state"] == "not_running":
        print_line(Styled("not running", "warning"), f" with the home {status['home']}")
    elif status["state"] == "not_answering":
        print_line(Styled("not answering", "bad"), f": {status['last_error']}")
    else:
        print_table(("", ""), _rows(status))


def _rows(status: dict[str, Any]) -> list[tuple[Cell, Cell]]:
    rows = _serving_rows(status) if status["state"] == "serving" else _backend_rows(status)
    if status["draining"]:
        rows.append(("stopping", Styled("ends when its runs have ended or time is up", "warning")))
    rows.append(("runs", _counts(status["runs"], status["max_concurrent_tasks"])))
    if (waiting := status["outbox"]) is not None:
        rows.append(("outbox", f"{waiting} events to deliver" if waiting else "empty"))
    trouble = status["disk"]
    rows += [
        (
            "disk",
            Styled("ok", "good") if trouble is None else Styled(f"{trouble}: {_PAUSED}", "bad"),
        ),
        ("name", status["name"]),
        ("process", f"{status['pid']}, version {status['version']}"),
        ("started", f"{clock_time(status['started'])} ({age(status['started'])} ago)"),
        ("home", status["home"]),
    ]
    return [(Styled(name, "strong"), value) for name, value in rows]


def _serving_rows(status: dict[str, Any]) -> list[tuple[str, Cell]]:
    since = status["since"]
    rows: list[tuple[str, Cell]] = [("state", Styled("serving", "good"))]
    if status["address"] is not None:
        rows.append(("address", status["address"]))
    return [*rows, ("serving", f"since {clock_time(since)} ({age(since)})")]


def _backend_rows(status: dict[str, Any]) -> list[tuple[str, Cell]]:
    since, registered = status["since"], status["state"] == "registered"
    rows: list[tuple[str, Cell]] = [
        ("state", Styled(status["state"], "good" if registered else "warning")),
        ("backend", status["backend"]),
        ("connected" if registered else "trying", f"since {clock_time(since)} ({age(since)})"),
    ]
    if status["last_error"] is not None:
        rows.append(("last error", Styled(status["last_error"], "bad")))
    heartbeat = status["last_heartbeat"]
    told = "none acknowledged" if heartbeat is None else f"{age(heartbeat)} ago"
    return [*rows, ("heartbeat", told)]


def _counts(runs: dict[str, int], places: int) -> str:
    counts = [f"{runs[key]} {words}" for key, words in _RUN_STATES.items() if runs[key]]
    return ", ".join(counts) or f"none (up to {places} at a time)"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--watch",
        action="store_true",
        help="look every second until Ctrl-C; in a pipe, print whenever something has changed",
    )


COMMAND: Final = Command(
    name="status",
    help="show how the running executor stands",
    description="Ask the executor that is running with this home (WEGENT_EXECUTOR_HOME) whether "
    "it is connected and since when (in docker mode: where it listens), when the backend last "
    "acknowledged a heartbeat, how many runs are in which state, how many events are still to be "
    "delivered, and whether the disk takes writes. When no executor is running, it ends with "
    "status 3, and --json says so, too.",
    run=run,
    add_arguments=_add_arguments,
)
