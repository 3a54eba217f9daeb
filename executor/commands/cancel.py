"""``wegent-executor cancel``: stop one run of the running executor of this home."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from executor.commands.command import Command
from executor.commands.output import print_line
from executor.exit_status import ExitStatus

if TYPE_CHECKING:
    import argparse


def run(arguments: argparse.Namespace) -> int:
    """Cancel, wait for the run's end, and say how it ended."""
    from executor.config.home import executor_home
    from executor.control.client import TIMEOUT_S, ask
    from executor.control.errors import ControlError
    from executor.control.protocol import CANCEL_WAIT_S

    told = ask(executor_home(), "cancel", timeout_s=CANCEL_WAIT_S + TIMEOUT_S, id=arguments.id)
    name = f"{told['task_id']}/{told['subtask_id']}"
    if told["verdict"] is None:
        raise ControlError(f"{name} has not ended yet", hint="wegent-executor tasks shows it")
    print_line(f"{name}: {told['verdict']}")
    return ExitStatus.OK


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "id",
        metavar="ID",
        help="of its task or subtask, as `wegent-executor tasks` shows them, or TASK/SUBTASK",
    )


COMMAND: Final = Command(
    name="cancel",
    help="stop a run of the running executor",
    description="Stop one run of the executor that is running with this home "
    "(WEGENT_EXECUTOR_HOME), as its backend could: the agent is interrupted, and killed when it "
    "does not end. Waits for the end, which may take 9 seconds, and says what the run has become; "
    "the backend is told the same. When no executor is running, it ends with status 3.",
    run=run,
    add_arguments=_add_arguments,
)
