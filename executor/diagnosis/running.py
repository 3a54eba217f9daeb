"""Is an executor running with this home? It is asked, and goes on as before."""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast

from executor.control.client import ask
from executor.control.errors import ControlError, NotRunning
from executor.control.protocol import Status
from executor.diagnosis.finding import Finding, ok, warning

CHECK: Final = "executor"

ANSWER_WITHIN_S: Final = 3.0


def look_at_running(home: Path) -> Finding:
    """What the executor says of itself, if there is one. Blocks: not for the event loop."""
    try:
        status = cast(Status, ask(home, "status", timeout_s=ANSWER_WITHIN_S))
    except NotRunning as exc:
        if exc.holder is not None:
            return ok(CHECK, f"pid {exc.holder} is just starting, or ending")
        return ok(CHECK, "none is running with this home")
    except ControlError as exc:
        return warning(CHECK, f"one is running, and cannot be asked: {exc.message}", exc.hint)
    who = f"running (pid {status['pid']})"
    if status["draining"]:
        what = f"{who}, and stopping: it takes no new tasks"
        return warning(CHECK, what, "wait for its end: wegent-executor status --watch")
    if status["state"] == "registered":
        return ok(CHECK, f"{who}, registered since {status['since']}")
    if status["state"] == "serving":
        place = f" at {status['address']}" if status["address"] else ""
        return ok(CHECK, f"{who}, serving{place} since {status['since']}")
    why = f": {status['last_error']}" if status["last_error"] else ""
    what = f"{who}, not registered since {status['since']}{why}"
    return warning(CHECK, what, "see what it tries: wegent-executor logs -f")
