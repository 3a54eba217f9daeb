"""What looks after services on this machine."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from executor.config.home import executor_home
from executor.exit_status import ExitStatus
from shared.errors import WegentError

if TYPE_CHECKING:
    from executor.service.definition import ServiceKeeper


def keeper_here(*, only_to_show: bool = False) -> ServiceKeeper:
    """The keeper for this platform and this user.

    Args:
        only_to_show: Whether nothing is to be done with it, so that this machine need not have it.

    Raises:
        WegentError: Nothing looks after services here.
    """
    if sys.platform == "darwin":
        from executor.service.launchd import LaunchdKeeper

        return LaunchdKeeper()
    if sys.platform == "win32":
        from executor.service.windows_task import TaskSchedulerKeeper

        return TaskSchedulerKeeper(os.environ, executor_home())
    from executor.service.systemd import SystemdKeeper, runs_here

    if not (only_to_show or runs_here()):
        raise WegentError(
            "this machine was not started by systemd",
            hint="have its own init start `wegent-executor run` as your user, and start it again "
            f"unless its status is {ExitStatus.USAGE} or {ExitStatus.REJECTED}",
        )
    return SystemdKeeper(os.environ)
