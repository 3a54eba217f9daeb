"""``wegent-executor tasks``: the runs of the running executor of this home."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from executor.commands.ages import age
from executor.commands.command import Command
from executor.commands.output import Cell, Style, Styled, on_terminal, print_json, print_table, warn
from executor.exit_status import ExitStatus

if TYPE_CHECKING:
    import argparse

_LOOKS: Final[dict[str, Style]] = {
    "running": "good",
    "waiting_for_input": "warning",
    "paused": "bad",
    "cancelling": "warning",
    "queued": "dim",
    "interrupted": "warning",
}

_WAITS_FOR: Final = {
    None: "-",
    "user": "its user's answer",
    "api": "the model's API",
    "slot": "a free place",
    "session": "the run before it",
    "disk": "room on the disk",
    "backend": "the backend to send it again",
}


def run(arguments: argparse.Namespace) -> int:
    """Ask and print."""
    from executor.config.home import executor_home
    from executor.control.client import ask

    told = ask(executor_home(), "tasks")
    if arguments.json:
        print_json(told)
        return ExitStatus.OK
    _print(told["tasks"])
    if (left_out := told["total"] - len(told["tasks"])) > 0:
        warn(f"{left_out} more are not shown")
    return ExitStatus.OK


def _print(tasks: list[dict[str, Any]]) -> None:
    # Two ids take most of a terminal's width, and one is enough to cancel by, as a rule.
    one_is_enough = len({task["task_id"] for task in tasks}) == len(tasks)
    ids = ("task",) if on_terminal() and one_is_enough else ("task", "subtask")
    rows = [(*(task[f"{name}_id"] for name in ids), *_facts(task)) for task in tasks]
    print_table((*ids, "state", "for", "agent", "waits for"), rows, unbroken=len(ids))


def _facts(task: dict[str, Any]) -> tuple[Cell, ...]:
    state, waits_for = task["state"], task["waits_for"]
    return (
        Styled(state.replace("_", " "), _LOOKS.get(state, "strong")),
        age(task["since"]),
        task["agent"] or "-",
        _WAITS_FOR.get(waits_for, waits_for),
    )


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document")


COMMAND: Final = Command(
    name="tasks",
    help="list the runs of the running executor",
    description="List the runs of the executor that is running with this home "
    "(WEGENT_EXECUTOR_HOME): those that it carries out, those that wait, and those that an "
    "earlier process has left and the backend has not sent again. On a terminal, ids of subtasks "
    "are shown only where a task has several runs. When no executor is running, it "
    "ends with status 3.",
    run=run,
    add_arguments=_add_arguments,
)
