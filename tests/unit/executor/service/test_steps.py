"""Programs of the system are run to their end, whatever a terminal says meanwhile."""

from __future__ import annotations

import os
import sys

from executor.service.steps import run_program


def test_a_program_does_not_hear_the_signals_of_this_terminal() -> None:
    answer = run_program([sys.executable, "-S", "-c", "import os; print(os.getsid(0))"])

    assert int(answer.stdout) != os.getsid(0)
