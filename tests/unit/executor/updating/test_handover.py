"""Whom an update would disturb; what it then does is tested with whole processes elsewhere."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from executor.updating.errors import UpdateError
from executor.updating.handover import Handover
from executor.updating.program import InstalledProgram


def test_an_executor_of_another_home_is_never_disturbed(tmp_path: Path) -> None:
    found = shutil.which("cat")
    assert found is not None
    executable = Path(shutil.copy(found, tmp_path / "wegent-executor")).resolve()
    handover = Handover(
        InstalledProgram.of(executable),
        tmp_path / "home",
        None,
        perform=lambda _: None,
        say=lambda _: None,
    )
    assert handover.find_running(now=False) is None

    with (
        subprocess.Popen([executable], stdin=subprocess.PIPE) as other,
        pytest.raises(UpdateError, match=rf"other homes .* {other.pid} "),
    ):
        handover.find_running(now=True)
