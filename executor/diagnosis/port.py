"""Can docker mode listen where its settings say?"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from executor.control.client import ask
from executor.control.errors import ControlError
from executor.diagnosis.finding import Finding, failed, ok
from executor.diagnosis.remedies import set_variable
from shared.web.listening import CannotListen, bind

CHECK: Final = "port"

ANSWER_WITHIN_S: Final = 3.0


def look_at_port(host: str, port: int, home: Path) -> Finding:
    """Whether the address can be had, by an executor that does not run yet.

    Listens there for a moment. Blocks: not for the event loop.
    """
    try:
        bind(host, port).close()
    except CannotListen as exc:
        if _is_running(home):
            return ok(CHECK, f"{port} of {host} is in use, by the executor of this home")
        wrong, example = ("HOST", "127.0.0.1") if "HOST" in exc.message else ("PORT", "10002")
        return failed(CHECK, exc.message, set_variable(wrong, example))
    return ok(CHECK, f"{port} of {host} is free" if port else f"any that is free of {host}")


def _is_running(home: Path) -> bool:
    try:
        ask(home, "status", timeout_s=ANSWER_WITHIN_S)
    except ControlError:
        return False
    return True
