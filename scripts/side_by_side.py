"""Runs commands at the same time: `python scripts/side_by_side.py COMMAND [COMMAND …]`.

Each is a line for the shell. What the first prints is shown as it comes, what the others print
when all have ended. Exit status: 0 when all have succeeded, otherwise 1.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack


def main(commands: Sequence[str]) -> int:
    """Run *commands* to their ends, also when interrupted or told to end; the exit status."""
    running: list[subprocess.Popen[bytes]] = []
    told_to_end = False

    def end(*_: object) -> None:
        nonlocal told_to_end
        told_to_end = True
        for process in running:
            process.terminate()

    signal.signal(signal.SIGINT, lambda *_: None)  # a terminal interrupts the commands, too
    signal.signal(signal.SIGTERM, end)
    with ExitStack() as stack:
        outputs = [stack.enter_context(tempfile.TemporaryFile()) for _ in commands[1:]]
        for command, output in zip(commands, [None, *outputs], strict=True):
            process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
            )
            running.append(process)
        if told_to_end:  # and one of them did not run yet
            end()
        statuses = [process.wait() for process in running]
        for output in outputs:
            output.seek(0)
            shutil.copyfileobj(output, sys.stdout.buffer)
    for command, status in zip(commands, statuses, strict=True):
        if status:
            print(f"FAILED with status {status}: {command}")
    return 1 if any(statuses) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
