"""A command's end of the local socket on Windows: a named pipe."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from executor.control.errors import ControlError, hung_up, not_answering, not_running
from executor.control.places import pipe_name
from executor.control.protocol import MAX_ANSWER_BYTES

assert sys.platform == "win32"  # noqa: S101 - for whoever checks the types


def exchange(home: Path, request: bytes, timeout_s: float) -> bytes:
    """Send one line to the executor of *home*; the line that it answers.

    Raises:
        NotRunning: There is none.
        ControlError: It does not answer within *timeout_s* seconds, or not in one line.
    """
    outcome: list[bytes | ControlError] = []

    def work() -> None:
        try:
            outcome.append(_exchange(home, request))
        except ControlError as exc:
            outcome.append(exc)
        except OSError as exc:
            outcome.append(ControlError(f"the executor cannot be asked: {exc.strerror}"))

    # Reading from a pipe has no time limit of its own.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not outcome:
        raise not_answering(home, timeout_s)
    if isinstance(outcome[0], ControlError):
        raise outcome[0]
    return outcome[0]


def _exchange(home: Path, request: bytes) -> bytes:
    try:
        pipe = open(pipe_name(home), "r+b", buffering=0)  # noqa: SIM115, PTH123 - no path
    except FileNotFoundError:
        raise not_running(home) from None
    with pipe:
        pipe.write(request)
        answer = bytearray()
        while not answer.endswith(b"\n") and len(answer) < MAX_ANSWER_BYTES:
            if not (piece := pipe.read(65536)):
                raise hung_up()
            answer += piece
    return bytes(answer)
