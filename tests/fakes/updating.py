"""``python -m tests.fakes.updating PROGRAM HOME [--service FOLDER] …``: the command ``update``.

For a program of any kind in any place, which the real command only does for the one that it is a
part of; and with a service that is started and stopped by a shell.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path

import psutil

from executor.cli import leave
from executor.commands.update import COMMAND, say, show_progress
from executor.exit_status import ExitStatus, exit_status
from executor.network.access import NetworkAccess
from executor.service.definition import Service, ServiceStatus
from executor.service.steps import RunProgram, Step, perform, run_program
from executor.updating.handover import Handover
from executor.updating.program import InstalledProgram
from executor.updating.source import Source
from executor.updating.updater import Updater
from shared.errors import WegentError

START = '"$1" run </dev/null >>"$2/log" 2>&1 & echo $! >"$2/pid"'
STOP = """
import psutil, sys
process = psutil.Process(int(sys.argv[1]))
process.terminate()
while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
    pass
"""


class ShellKeeper:
    """Looks after one service, whose program is *entry*; its pid and log are in *folder*."""

    advice = ""

    def __init__(self, entry: Path, folder: Path) -> None:
        self._entry = entry
        self._folder = folder

    def install(self, service: Service, *, force: bool) -> list[Step]:
        raise NotImplementedError

    def uninstall(self, *, force: bool) -> list[Step]:
        raise NotImplementedError

    def start(self) -> list[Step]:
        if self.status().pid is not None:
            return []
        return [RunProgram(("sh", "-c", START, "sh", str(self._entry), str(self._folder)))]

    def stop(self) -> list[Step]:
        pid = self.status().pid
        return [] if pid is None else [RunProgram((sys.executable, "-c", STOP, str(pid)))]

    def status(self) -> ServiceStatus:
        try:
            pid = int((self._folder / "pid").read_text())
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return ServiceStatus("running", pid=pid)
        except (FileNotFoundError, psutil.NoSuchProcess):
            pass
        return ServiceStatus("stopped")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=Path)
    parser.add_argument("home", type=Path)
    parser.add_argument("--service", type=Path)
    parser.add_argument("--healthy-within", type=float, default=60)
    assert COMMAND.add_arguments is not None
    COMMAND.add_arguments(parser)
    arguments = parser.parse_args()
    program = InstalledProgram.of(arguments.program)
    keeper = ShellKeeper(program.entry, arguments.service) if arguments.service else None
    handover = Handover(
        program,
        arguments.home,
        keeper,
        perform=partial(perform, run=run_program),
        say=say,
        healthy_within_s=arguments.healthy_within,
    )
    updater = Updater(program, handover, say=say)
    try:
        if arguments.rollback:
            updater.roll_back(now=arguments.now)
        else:
            network = NetworkAccess(os.environ)
            source = Source(arguments.source, sha256=arguments.sha256, network=network)
            updater.update(source, now=arguments.now, progress=partial(show_progress, sys.stderr))
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except WegentError as exc:
        sys.stderr.write(f"{exc}\n")
        return exit_status(exc)
    return 0


if __name__ == "__main__":
    leave(main())
