"""Programs of the system are run to their end, whatever a terminal says meanwhile."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from executor.service.steps import RemoveFile, Step, StepFailed, WriteFile, perform, run_program


def test_a_program_does_not_hear_the_signals_of_this_terminal() -> None:
    answer = run_program([sys.executable, "-S", "-c", "import os; print(os.getsid(0))"])

    assert int(answer.stdout) != os.getsid(0)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(RemoveFile, "cannot be removed"), (lambda path: WriteFile(path, ""), "cannot be written")],
)
def test_a_place_that_does_not_do_is_named(
    tmp_path: Path, kind: Callable[[Path], Step], reason: str
) -> None:
    with pytest.raises(StepFailed, match=f"{tmp_path} {reason}"):
        perform([kind(tmp_path)], run=run_program)
